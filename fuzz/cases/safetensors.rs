//! One safetensors file: every tensor of an accepted file lies in the file, whole.

use embral_formats::{Weights, safetensors::SafetensorsFile};

pub(crate) fn case(bytes: &[u8]) {
    let Ok(file) = SafetensorsFile::from_bytes("case", bytes.to_vec()) else { return };
    let mut total = 0;
    for name in file.names() {
        assert!(file.contains(&name), "{name} is listed");
        // A format that the reader does not do is refused when the tensor is asked for.
        let Ok(tensor) = file.get(&name) else { continue };
        assert_eq!(tensor.bytes().len(), tensor.len() * tensor.dtype().size(), "{name}");
        assert_eq!(tensor.to_f32().len(), tensor.len(), "{name}");
        let _ = embral_formats::check_finite(&name, &tensor);
        total += tensor.bytes().len();
    }
    assert!(total <= bytes.len(), "the tensors do not overlap");
}
