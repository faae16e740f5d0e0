//! Tensors as PyTorch saves them: the committed seeds of the fuzz target, by what must come of each.

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
        ("before-zips", "found the form before it"),
        ("big-endian", "expected little-endian numbers"),
        ("far-memo", "values to be remembered"),
        ("nested", "expected tuples in at most 8 others"),
        ("no-pickle", "expected a data.pkl"),
        ("past-its-storage", "from value 1 on, which its storage does not hold"),
        ("twice", "weight comes twice"),
        ("within-itself", "expected names and tensors"),
        ("without-end", "cut off"),
    ] {
        let error = seed(name).unwrap_err().to_string();
        assert!(error.starts_with("layer.pt: ") && error.contains(expected), "{name}: {error}");
    }
    for bytes in [&b""[..], b"\x80\x02}q\x00.", &[0; 4096]] {
        assert_eq!(TorchFile::from_bytes("layer.pt", bytes).unwrap_err().kind(), ErrorKind::Malformed);
    }
    let absent = TorchFile::open(Path::new("no/such.bin")).unwrap_err();
    assert_eq!(absent.kind(), ErrorKind::NotFound);
}

#[test]
fn what_lies_beside_the_tensors_says_nothing_about_them() {
    for name in ["metadata", "little-endian"] {
        let file = seed(name).unwrap();
        assert_eq!((file.names().len(), file.get("bias").unwrap().to_f32()), (2, vec![0.25]), "{name}");
    }
}

/// A whole model as `torch.save` of PyTorch 2.15 writes it, with integers, a tensor under two names and a view of a storage.
#[test]
fn a_model_has_the_tensors_of_its_safetensors() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/golden");
    let expected = embral_formats::open(&golden.join("tiny_xlm_roberta/model.safetensors")).unwrap();
    for (file, more) in [("_torch/pytorch_model.bin", 2), ("_torch_sharded/pytorch_model.bin.index.json", 1)] {
        let found = embral_formats::open(&golden.join(format!("tiny_xlm_roberta{file}"))).unwrap();
        assert_eq!(found.names().len(), expected.names().len() + more, "{file}");
        for name in expected.names() {
            assert_eq!(found.get(&name).unwrap(), expected.get(&name).unwrap(), "{file}: {name}");
        }
        let positions = found.get("embeddings.position_ids").unwrap();
        assert_eq!((positions.dtype(), positions.shape()), (Dtype::I64, &[1, 66][..]));
    }
}
