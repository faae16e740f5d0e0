//! The cut to fewer components, in the order in which the models were trained.
#![cfg(feature = "default-model")]

use embral::{Config, Embedder};
use std::{fs, path::Path};

const TEXTS: [&str; 4] = ["a cat sat on the mat", "ein Hund", "", "numbers 1 2 3 4 5"];
const DIMS: usize = 12;

fn golden(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn rows(folder: &Path, dims: Option<usize>, normalize: Option<bool>) -> Vec<Vec<f64>> {
    let config = Config { dims, normalize, ..Config::model(folder.to_str().unwrap()) };
    let rows = Embedder::with_config(config).unwrap().embed_batch(&TEXTS).unwrap();
    rows.rows().map(|row| row.iter().map(|&x| f64::from(x)).collect()).collect()
}

fn unit(row: &[f64]) -> Vec<f64> {
    let length = row.iter().map(|x| x * x).sum::<f64>().sqrt();
    row.iter().map(|x| x / length).collect()
}

fn assert_near(found: &[Vec<f64>], wanted: &[Vec<f64>]) {
    for (found, wanted) in found.iter().zip(wanted) {
        assert_eq!(found.len(), wanted.len());
        assert!(found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?} for {wanted:?}");
    }
}

#[test]
fn a_cut_is_normalised_behind_it() {
    let whole = rows(&golden("tiny_bert"), None, Some(false));
    let wanted: Vec<_> = whole.iter().map(|row| unit(&row[..DIMS])).collect();
    assert_near(&rows(&golden("tiny_bert"), Some(DIMS), None), &wanted);
}

/// `nomic-embed-text-v1.5` was trained with a layer norm without scale and shift before the cut; without a cut there is none.
#[test]
fn nomic_is_layer_normed_and_then_cut_and_then_normalised() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("nomic-embed-text-v1.5");
    fs::create_dir_all(folder.join("1_Pooling")).unwrap();
    for file in ["config.json", "model.safetensors", "modules.json", "tokenizer.json", "1_Pooling/config.json"] {
        fs::copy(golden("tiny_bert").join(file), folder.join(file)).unwrap();
    }
    let whole = rows(&folder, None, Some(false));
    assert_eq!(whole, rows(&golden("tiny_bert"), None, Some(false)));
    let layer_norm = |row: &Vec<f64>| {
        let n = row.len() as f64;
        let mean = row.iter().sum::<f64>() / n;
        let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
        row.iter().map(|x| (x - mean) / (variance + 1e-5).sqrt()).collect::<Vec<_>>()
    };
    let wanted: Vec<_> = whole.iter().map(|row| unit(&layer_norm(row)[..DIMS])).collect();
    assert_near(&rows(&folder, Some(DIMS), None), &wanted);
}

#[test]
fn more_components_than_the_model_has_are_refused_with_its_own_number() {
    let config = Config { dims: Some(33), ..Config::model(golden("tiny_bert").to_str().unwrap()) };
    let error = Embedder::with_config(config).unwrap_err().to_string();
    assert!(error.contains("cannot keep 33 components") && error.contains("have 32"), "{error}");
    let error = Embedder::with_config(Config { dims: Some(512), ..Config::default() }).unwrap_err().to_string();
    assert!(error.contains("have 256") && error.contains("[256, 128, 64"), "{error}");
}
