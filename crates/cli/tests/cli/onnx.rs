//! Models that are exported graphs, at the command line.

use crate::process::{good, model, run};
use serde_json::Value;
use std::{fs, path::Path};

/// A whole model of weights and two graphs in `folder`/m.
fn put(folder: &Path) {
    let (from, to) = (model("tiny_bert"), folder.join("m"));
    fs::create_dir_all(to.join("1_Pooling")).unwrap();
    fs::create_dir_all(to.join("onnx")).unwrap();
    for name in [
        "1_Pooling/config.json",
        "config.json",
        "model.safetensors",
        "modules.json",
        "sentence_bert_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
    let graphs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../onnx/tests/graphs");
    fs::copy(graphs.join("rows.onnx"), to.join("onnx/model.onnx")).unwrap();
    fs::copy(graphs.join("pooled.onnx"), to.join("onnx/pooled.onnx")).unwrap();
    fs::copy(graphs.join("signed_shifted.onnx"), to.join("onnx/wrong.onnx")).unwrap();
}

fn vector(line: &str) -> Vec<f64> {
    let row: Value = serde_json::from_str(line.lines().next().unwrap()).unwrap();
    row["embedding"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

#[test]
fn every_way_to_name_a_graph_gives_the_vectors_of_the_weights() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path());
    let expected = vector(&good(folder.path(), "embed -m m --max-tokens 9 cat-and-dog"));
    for model in ["m --onnx", "m --onnx=model.onnx", "m --onnx=onnx/pooled.onnx", "m/onnx/model.onnx"] {
        let found = vector(&good(folder.path(), &format!("embed -m {model} --max-tokens 9 cat-and-dog")));
        assert_eq!(found.len(), expected.len(), "{model}");
        let worst = found.iter().zip(&expected).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
        assert!(worst < 2e-6, "{model}: {worst:e}");
    }
}

#[test]
fn info_says_what_the_graph_is_and_which_weights_come_first() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path());
    let weights = good(folder.path(), "models info m");
    assert!(!weights.contains("graph") && weights.contains("layers        2 of width 32"), "{weights}");
    let graph = good(folder.path(), "models info m/onnx/model.onnx");
    for line in [
        "architecture  bert",
        "dimensions    32",
        "inputs        input_ids, attention_mask, token_type_ids",
        "output        last_hidden_state, one row a token",
        "pooling       mean",
    ] {
        assert!(graph.contains(line), "{line}\n{graph}");
    }
    let json: Value = serde_json::from_str(&good(folder.path(), "models info m/onnx/pooled.onnx --json")).unwrap();
    assert_eq!((&json["graph"]["pooled"], &json["graph"]["integers"]), (&true.into(), &false.into()));
    assert_eq!((&json["graph"]["opset"], &json["graph"]["output"]), (&17.into(), &"sentence_embedding".into()));
}

#[test]
fn what_cannot_be_run_fails_with_one_line() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path());
    for (line, expected) in [
        ("embed -m m --onnx=none.onnx text", "onnx/pooled.onnx"),
        ("embed -m m --onnx --precision int8 text", "the numbers it was exported in"),
        ("embed -m m --onnx=pooled.onnx --pooling cls text", "the graph pools by itself"),
        ("embed -m $STATIC --onnx text", "static model"),
        ("inspect -m m/onnx/model.onnx", "the numbers it was exported in"),
    ] {
        let ran = run(folder.path(), line);
        assert_eq!(ran.code, Some(1), "{line}: {}", ran.err);
        assert!(ran.err.contains(expected) && ran.err.trim_end().lines().count() == 1, "{line}: {}", ran.err);
    }
    // An ONNX Runtime on the machine, in a build that uses one, computes what is refused without it.
    if cfg!(not(feature = "ort")) {
        let ran = run(folder.path(), "embed -m m --onnx=wrong.onnx text");
        assert!(ran.code == Some(1) && ran.err.contains("MatMulInteger"), "{}", ran.err);
    }
}
