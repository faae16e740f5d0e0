//! One file of PyTorch: no tensor of an accepted file is larger than it.

use embral_formats::{TorchFile, Weights};

pub(crate) fn case(bytes: &[u8]) {
    let Ok(file) = TorchFile::from_bytes("case.pt", bytes) else { return };
    for name in file.names() {
        let tensor = file.get(&name).expect("a tensor that is listed");
        assert_eq!(tensor.bytes().len(), tensor.len() * tensor.dtype().size(), "{name}");
        assert!(tensor.bytes().len() <= bytes.len(), "{name}");
    }
}
