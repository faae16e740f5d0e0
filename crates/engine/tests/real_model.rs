//! The real all-MiniLM-L6-v2 against vectors that sentence-transformers gave (`xtask/golden/real_model.py`).
//!
//! Runs where the model is: in the folder `EMBRAL_REAL_MODEL` names, or where `cargo xtask real-model` puts it.

use embral::{Config, Embedder};
use std::path::{Path, PathBuf};

/// Both engines add 384 to 1,536 products in f32 in different orders; components are near 0.05.
const MAX_ABS: f32 = 2e-6;
const MIN_COSINE: f64 = 1.0 - 1e-6;

fn model() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let named = std::env::var_os("EMBRAL_REAL_MODEL").map(PathBuf::from);
    let folder = named.unwrap_or_else(|| root.join("target/models/all-MiniLM-L6-v2"));
    if folder.join("model.safetensors").is_file() {
        return Some(folder);
    }
    println!("skipped: no model at {}; `cargo xtask real-model` gets it", folder.display());
    None
}

#[test]
fn vectors_equal_those_of_sentence_transformers() {
    let Some(folder) = model() else { return };
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real/all-MiniLM-L6-v2");
    let texts: Vec<String> = serde_json::from_str(&std::fs::read_to_string(here.join("texts.json")).unwrap()).unwrap();
    let expected = embral_formats::npy::read(&here.join("embeddings.npy")).unwrap();
    assert_eq!((expected.len(), expected.dim()), (texts.len(), 384));

    let embedder = Embedder::with_config(Config::model(folder.to_str().unwrap())).unwrap();
    assert_eq!(embedder.max_tokens(), 256);
    let rows = embedder.embed_batch(&texts).unwrap();
    for (i, text) in texts.iter().enumerate() {
        let (found, expected) = (rows.row(i), expected.row(i));
        let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let cosine: f64 = found.iter().zip(expected).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
        assert!(worst <= MAX_ABS && cosine >= MIN_COSINE, "{text:?}: largest difference {worst:e}, cosine {cosine}");
        let alone = embedder.embed(text).unwrap();
        assert!(alone.iter().zip(found).all(|(a, b)| a.to_bits() == b.to_bits()), "{text:?} differs alone");
    }
}
