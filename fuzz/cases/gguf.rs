//! One GGUF file: every tensor of an accepted file lies in the file, whole, and no two on the same bytes.

use embral_formats::{Weights, gguf::GgufFile};

pub(crate) fn case(bytes: &[u8]) {
    let Ok(file) = GgufFile::from_bytes("case", bytes.to_vec()) else { return };
    let mut total = 0;
    for value in file.metadata().values() {
        assert!(!value.describe().is_empty());
    }
    for name in file.names() {
        assert!(file.contains(&name), "{name} is listed");
        // A format that the reader does not do is refused when the tensor is asked for.
        let Ok(tensor) = file.get(&name) else { continue };
        assert_eq!(tensor.bytes().len(), tensor.len() * tensor.dtype().size(), "{name}");
        assert_eq!(tensor.to_f32().len(), tensor.len(), "{name}");
        let _ = embral_formats::check_finite(&name, &tensor);
        total += file.size(&name).expect("it is listed").1;
    }
    assert!(total <= bytes.len(), "the tensors do not overlap");
}
