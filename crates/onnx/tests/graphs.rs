//! Exports of a tiny BERT, and integer products, against what is exact.

use embral_onnx::{Graph, Kind, Wish};
use embral_types::{ErrorKind, Result};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
};

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/graphs").join(name)
}

fn json(name: &str) -> Value {
    serde_json::from_slice(&fs::read(file(name)).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(all) => all.iter().flat_map(numbers).collect(),
        other => vec![other.as_f64().unwrap()],
    }
}

/// The sequences of `expected.json`, packed.
fn sequences(expected: &Value) -> (Vec<u32>, Vec<u32>) {
    let (mut ids, mut offsets) = (Vec::new(), vec![0]);
    for sequence in expected["ids"].as_array().unwrap() {
        ids.extend(numbers(sequence).into_iter().map(|id| id as u32));
        offsets.push(ids.len() as u32);
    }
    (ids, offsets)
}

fn open(file: &Path, threads: usize) -> Result<Graph> {
    Graph::open(file, Wish::Rows, threads)
}

#[test]
fn exports_give_the_rows_and_the_vectors_of_the_model() {
    let expected = json("expected.json");
    let (ids, offsets) = sequences(&expected);
    for (name, kind, key) in [("rows.onnx", Kind::Rows, "rows"), ("pooled.onnx", Kind::Vectors, "pooled")] {
        for threads in [1, 2] {
            let graph = open(&file(name), threads).unwrap();
            assert_eq!((graph.kind(), graph.width()), (kind, 32), "{name}");
            let rows = if kind == Kind::Rows { ids.len() } else { offsets.len() - 1 };
            let mut out = vec![f32::NAN; rows * 32];
            graph.run(&ids, &offsets, &mut out).unwrap();
            let wanted = numbers(&expected[key]);
            assert_eq!(out.len(), wanted.len());
            let worst = out.iter().zip(&wanted).map(|(&x, y)| (f64::from(x) - y).abs()).fold(0.0, f64::max);
            assert!(worst <= 5e-6, "{name}: {worst:e}");
        }
    }
}

#[test]
fn a_sequence_without_tokens_has_a_row_of_zeros() {
    let graph = open(&file("pooled.onnx"), 1).unwrap();
    let mut out = vec![f32::NAN; 3 * 32];
    graph.run(&[2, 17, 3], &[0, 0, 3, 3], &mut out).unwrap();
    assert!(out[..32].iter().chain(&out[64..]).all(|&x| x == 0.0) && out[32..64].iter().any(|&x| x != 0.0));
    graph.run(&[], &[0], &mut []).unwrap();
}

#[test]
fn integer_products_that_are_taken_are_exact() {
    let exact = json("exact.json");
    for name in ["signed", "unsigned"] {
        let graph = open(&file(&format!("{name}.onnx")), 2).unwrap();
        let mut out = vec![0.0; 16 * 96];
        graph.run(&(0..16).collect::<Vec<_>>(), &[0, 5, 16], &mut out).unwrap();
        let found: Vec<f64> = out.into_iter().map(f64::from).collect();
        assert!(found == numbers(&exact[name]), "{name}");
    }
}

#[test]
fn integer_products_that_the_runtime_gets_wrong_are_refused() {
    for (name, expected) in [
        ("signed_shifted", "signed weights with other zero points than 0"),
        ("unsigned_by_column", "unsigned weights with 96 zero points"),
    ] {
        let e = open(&file(&format!("{name}.onnx")), 1).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported);
        assert!(e.to_string().contains(expected) && e.to_string().contains(&format!("{name}.onnx")), "{e}");
    }
}

#[test]
fn bytes_that_are_no_graph_are_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let whole = fs::read(file("rows.onnx")).unwrap();
    let path = folder.path().join("x.onnx");
    for bytes in [&b""[..], b"not a graph", &whole[..whole.len() / 2], &whole[..100]] {
        fs::write(&path, bytes).unwrap();
        let e = open(&path, 1).unwrap_err();
        assert!(e.to_string().contains("x.onnx"), "{e}");
    }
    assert!(open(&folder.path().join("none.onnx"), 1).is_err());
}
