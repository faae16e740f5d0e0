//! Graphs by the ONNX Runtime that `ORT_DYLIB_PATH` names; skipped, with a line that says so, where it names none.
#![cfg(feature = "ort")]

use embral_onnx::{Graph, Wish};
use serde_json::Value;
use std::{env, fs, path::PathBuf};

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/graphs").join(name)
}

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(all) => all.iter().flat_map(numbers).collect(),
        other => vec![other.as_f64().unwrap()],
    }
}

fn is_there() -> bool {
    let there = env::var_os("ORT_DYLIB_PATH").is_some();
    if !there {
        println!("skipped: ORT_DYLIB_PATH names no ONNX Runtime");
    }
    there
}

#[test]
fn integer_products_that_rten_gets_wrong_are_exact_by_onnx_runtime() {
    if !is_there() {
        return;
    }
    let exact: Value = serde_json::from_slice(&fs::read(file("exact.json")).unwrap()).unwrap();
    for name in ["signed", "unsigned", "signed_shifted", "unsigned_by_column"] {
        let graph = Graph::open(&file(&format!("{name}.onnx")), Wish::Rows, 2).unwrap();
        let mut out = vec![0.0; 16 * 96];
        graph.run(&(0..16).collect::<Vec<_>>(), &[0, 5, 16], &mut out).unwrap();
        assert!(out.into_iter().map(f64::from).eq(numbers(&exact[name])), "{name}");
        let wrong = ["signed_shifted", "unsigned_by_column"].contains(&name);
        if graph.describe().starts_with("cpu") {
            assert_eq!(graph.describe().contains("ONNX Runtime"), wrong, "{name}: {}", graph.describe());
            assert!(graph.remarks()[0].contains("no execution provider"), "{:?}", graph.remarks());
        } else {
            assert!(graph.remarks().is_empty(), "{:?}", graph.remarks());
        }
        println!("{name}: {} {:?}", graph.describe(), graph.remarks());
    }
}

/// The rows of an export, alone and in company, whatever computes them.
#[test]
fn exports_give_the_rows_of_the_model_alone_and_in_company() {
    let expected: Value = serde_json::from_slice(&fs::read(file("expected.json")).unwrap()).unwrap();
    let graph = Graph::open(&file("rows.onnx"), Wish::Rows, 2).unwrap();
    let (mut ids, mut offsets, mut alone) = (Vec::new(), vec![0], Vec::new());
    for sequence in expected["ids"].as_array().unwrap() {
        let text: Vec<u32> = numbers(sequence).into_iter().map(|id| id as u32).collect();
        let mut rows = vec![f32::NAN; text.len() * graph.width()];
        graph.run(&text, &[0, text.len() as u32], &mut rows).unwrap();
        alone.extend(rows);
        ids.extend(text);
        offsets.push(ids.len() as u32);
    }
    let mut together = vec![f32::NAN; ids.len() * graph.width()];
    graph.run(&ids, &offsets, &mut together).unwrap();
    assert_eq!(together, alone);
    let worst =
        together.iter().zip(numbers(&expected["rows"])).map(|(&x, y)| (f64::from(x) - y).abs()).fold(0.0, f64::max);
    assert!(worst <= 1e-5, "{worst:e} on {}", graph.describe());
    assert!(is_there() || graph.describe().contains("rten") && graph.remarks().len() == 1);
}
