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
    if cfg!(feature = "ort") && std::env::var_os("ORT_DYLIB_PATH").is_some() {
        println!("skipped: an ONNX Runtime is there, which computes them");
        return;
    }
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

/// The rows of `ids` in the table of the small graphs.
fn looked_up(ids: &[u32]) -> Vec<f64> {
    let table = json("table.json");
    ids.iter().flat_map(|&id| numbers(&table[id as usize])).map(|x| f64::from(x as f32)).collect()
}

fn run(graph: &Graph, ids: &[u32]) -> Vec<f64> {
    let rows = if graph.kind() == Kind::Rows { ids.len() } else { 1 };
    let mut out = vec![f32::NAN; rows * graph.width()];
    graph.run(ids, &[0, ids.len() as u32], &mut out).unwrap();
    out.into_iter().map(f64::from).collect()
}

#[test]
fn of_two_outputs_the_one_is_read_that_is_wished_for() {
    let ids = [3, 1, 4, 1];
    let rows = Graph::open(&file("both.onnx"), Wish::Rows, 1).unwrap();
    assert_eq!((rows.kind(), rows.width(), rows.output()), (Kind::Rows, 8, "token_embeddings"));
    assert_eq!(run(&rows, &ids), looked_up(&ids));
    let vectors = Graph::open(&file("both.onnx"), Wish::Vectors, 1).unwrap();
    assert_eq!((vectors.kind(), vectors.width(), vectors.output()), (Kind::Vectors, 8, "sentence_embedding"));
    let expected = looked_up(&ids);
    for (at, found) in run(&vectors, &ids).into_iter().enumerate() {
        let mean = expected.iter().skip(at).step_by(8).sum::<f64>() / 4.0;
        assert!((found - mean).abs() < 1e-6, "component {at}: {found}, expected {mean}");
    }
    let facts = vectors.facts();
    assert_eq!((facts.opset, facts.operators, facts.parameters, facts.bytes), (17, 2, 128, 512));
    assert_eq!((facts.producer.as_deref(), facts.integers), (Some("embral"), false));
}

#[test]
fn inputs_that_are_not_used_are_given_all_the_same() {
    let graph = open(&file("unused_mask.onnx"), 1).unwrap();
    assert_eq!(graph.inputs().collect::<Vec<_>>(), ["input_ids", "attention_mask"]);
    assert_eq!(run(&graph, &[5, 6]), looked_up(&[5, 6]));
}

#[test]
fn constants_in_a_file_of_their_own_are_found_and_missed() {
    let graph = open(&file("external.onnx"), 1).unwrap();
    assert_eq!(run(&graph, &[15, 0, 7]), looked_up(&[15, 0, 7]));
    assert_eq!(graph.facts().bytes, 512);
    let inside = open(&file("unused_mask.onnx"), 1).unwrap();
    assert_eq!(graph.facts().sample, inside.facts().sample, "known by its constants, wherever they lie");

    let folder = tempfile::tempdir().unwrap();
    let alone = folder.path().join("external.onnx");
    fs::copy(file("external.onnx"), &alone).unwrap();
    let e = open(&alone, 1).unwrap_err();
    assert!(e.kind() == ErrorKind::NotFound && e.to_string().contains("external.onnx_data"), "{e}");
    fs::write(folder.path().join("external.onnx_data"), [0; 100]).unwrap();
    let e = open(&alone, 1).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Malformed);
    assert!(e.to_string().contains("expected 512 bytes of values from byte 0 on, found a file of 100"), "{e}");

    // A length that no memory has, and a file elsewhere.
    let bytes = fs::read(file("external.onnx")).unwrap();
    let with = |from: &[u8], to: &[u8]| {
        assert_eq!(from.len(), to.len());
        let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
        let mut changed = bytes.clone();
        changed[at..at + from.len()].copy_from_slice(to);
        fs::write(&alone, changed).unwrap();
        open(&alone, 1).unwrap_err()
    };
    assert!(with(b"512", b"9e9").to_string().contains("expected a number"));
    let e = with(b"external.onnx_data", b"../../../../etc/fs");
    assert!(e.to_string().contains("below the graph's folder"), "{e}");
}

#[test]
fn graphs_that_are_no_embedding_model_say_what_they_have() {
    for (name, expected) in [
        ("cache", "found \"past_key_values.0.key\" besides"),
        ("no_ids", "expected an input called input_ids, found [\"attention_mask\", \"position_ids\"]"),
        ("fixed_tokens", "found a graph for 128"),
        ("fixed_texts", "any number of texts, or one, found a graph for 4"),
        ("logits", "found [\"logits\"]"),
        ("integers_out", "found [\"numbers\"]"),
        ("one_row", "found [8] for 1 text of 3 tokens"),
    ] {
        let e = open(&file(&format!("{name}.onnx")), 1).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported, "{name}: {e}");
        assert!(e.to_string().contains(expected) && e.to_string().contains(&format!("{name}.onnx")), "{e}");
    }
}

#[test]
fn a_token_that_has_no_row_is_an_error() {
    let graph = open(&file("both.onnx"), 1).unwrap();
    let e = graph.run(&[3, 16], &[0, 2], &mut [0.0; 16]).unwrap_err();
    assert!(e.to_string().contains("both.onnx") && e.to_string().contains("2 tokens"), "{e}");
}

/// The rows of each text by itself are those it has in company, on any number of threads: of a float graph, and of one that rounds
/// activations by a scale of the whole input.
#[test]
fn a_text_has_the_same_rows_alone_and_in_company() {
    let texts: [&[u32]; 6] = [&[2, 9, 3], &[5], &[2, 9, 3], &[15, 14, 13, 12, 11, 10, 9], &[2, 7, 3], &[1, 1]];
    let ids: Vec<u32> = texts.concat();
    let ends = texts.iter().scan(0, |end, text| {
        *end += text.len() as u32;
        Some(*end)
    });
    let offsets: Vec<u32> = std::iter::once(0).chain(ends).collect();
    for name in ["dynamic.onnx", "rows.onnx"] {
        let graph = open(&file(name), 1).unwrap();
        let width = graph.width();
        let mut alone = Vec::new();
        for text in texts {
            let mut out = vec![f32::NAN; text.len() * width];
            graph.run(text, &[0, text.len() as u32], &mut out).unwrap();
            alone.extend(out.into_iter().map(f32::to_bits));
        }
        for threads in [1, 2, 5] {
            let graph = open(&file(name), threads).unwrap();
            let mut out = vec![f32::NAN; ids.len() * width];
            graph.run(&ids, &offsets, &mut out).unwrap();
            assert!(out.into_iter().map(f32::to_bits).eq(alone.iter().copied()), "{name} on {threads} threads");
        }
    }
    assert!(open(&file("dynamic.onnx"), 1).unwrap().facts().dynamic);
}

/// What the promise above rests on: the same tokens in one input with others would have other rows.
#[test]
fn the_graph_with_a_scale_of_the_whole_input_would_feel_company() {
    let graph = open(&file("dynamic.onnx"), 1).unwrap();
    let (alone, longer) = (run(&graph, &[2, 9, 3]), run(&graph, &[2, 9, 3, 4, 11, 8]));
    assert_ne!(alone, longer[..alone.len()]);
}
