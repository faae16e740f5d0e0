//! One file of PyTorch: the tensors of an accepted file are no larger than it.

use embral_formats::{TorchFile, Weights};

pub(crate) fn case(bytes: &[u8]) {
    let Ok(file) = TorchFile::from_bytes("case.pt", bytes) else { return };
    let mut total = 0;
    for name in file.names() {
        let tensor = file.get(&name).expect("a tensor that is listed");
        assert_eq!(tensor.bytes().len(), tensor.len() * tensor.dtype().size(), "{name}");
        total += tensor.bytes().len();
    }
    assert!(total <= bytes.len(), "the tensors do not overlap");
}
