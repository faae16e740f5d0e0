//! Layers as PyTorch saves them: the committed seeds of the fuzz target, by what must come of each.

use embral_formats::{TorchFile, Weights};
use embral_types::{Dtype, ErrorKind};
use std::{fs, path::Path};

fn seed(name: &str) -> embral_types::Result<TorchFile> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/torch").join(name);
    TorchFile::from_bytes("layer.pt", &fs::read(path).expect("a seed"))
}

#[test]
fn a_layer_has_the_tensors_it_was_saved_with() {
    let file = seed("layer").unwrap();
    assert_eq!(file.names(), ["bias", "weight"]);
    let weight = file.get("weight").unwrap();
    assert_eq!((weight.dtype(), weight.shape(), weight.to_f32()), (Dtype::F32, &[1, 4][..], vec![1.0, -2.0, 3.0, 0.5]));
    assert_eq!(file.get("bias").unwrap().to_f32(), [0.25]);
    let missing = file.get("scale").unwrap_err();
    assert_eq!((missing.kind(), missing.tensor()), (ErrorKind::Mismatch, Some("scale")));
}

#[test]
fn everything_else_is_refused_and_nothing_is_called() {
    for (name, expected) in [
        ("a-call", "it calls os.system"),
        ("absurd-shape", "which its storage does not hold"),
        ("compressed", "found it compressed"),
        ("cut-off", "no zip as PyTorch writes it"),
        ("nested", "within 2000 steps"),
        ("no-pickle", "expected a data.pkl"),
        ("past-its-storage", "from value 1 on, which its storage does not hold"),
        ("without-end", "cut off"),
    ] {
        let error = seed(name).unwrap_err().to_string();
        assert!(error.starts_with("layer.pt: ") && error.contains(expected), "{name}: {error}");
    }
    for bytes in [&b""[..], b"\x80\x02}q\x00.", &[0; 4096]] {
        assert_eq!(TorchFile::from_bytes("layer.pt", bytes).unwrap_err().kind(), ErrorKind::Malformed);
    }
    let large = tempfile::NamedTempFile::new().unwrap();
    large.as_file().set_len((256 << 20) + 1).unwrap();
    assert!(TorchFile::open(large.path()).unwrap_err().to_string().contains("expected at most 268435456 bytes"));
}
