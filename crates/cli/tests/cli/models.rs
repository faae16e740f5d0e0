//! What is known of models: the catalogue, the presets, memory, and references.

use crate::process::{command, finish, good, model, run};
use serde_json::{Value, json};
use std::fs;

fn object(at: &std::path::Path, line: &str) -> Value {
    serde_json::from_str(&good(at, line)).unwrap()
}

#[test]
fn a_model_that_is_not_here_is_described_by_the_catalogue() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let text = good(at, "models info nomic-embed-text");
    for part in [
        "not on this machine: embral models pull nomic-embed-text-v1.5",
        "repository    nomic-ai/nomic-embed-text-v1.5",
        "layers        12 of width 768",
        "pooling       mean",
        "prompt        query: \"search_query: \"",
        "licence       Apache-2.0",
        "(estimated from the number of parameters)",
        "note          ",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let found = object(at, "models info nomic-embed-text --json");
    assert_eq!((&found["from"], &found["dimensions"]), (&json!("catalogue"), &json!(768)));
    let bytes = |precision: &str| found["memory"]["weights"][precision].as_u64().unwrap();
    assert!(found["memory"]["estimated"] == true && bytes("f32") > bytes("bf16") && bytes("bf16") > bytes("int8"));
    // What is not known is not guessed.
    let rare = object(at, "models info embeddinggemma-2 --json");
    assert!(rare["licence"].is_null() && rare["architecture"].is_null(), "{rare}");
    assert!(good(at, "models info embeddinggemma-2").contains("licence       unknown"));
    for name in ["multilingual", "code", "long", "high-quality", "efficient", "splade-v3", "jina-embeddings-v3"] {
        assert_eq!(object(at, &format!("models info {name} --json"))["from"], "catalogue", "{name}");
    }
    assert_eq!(run(at, "models info nobody/nothing").code, Some(1));
}

#[test]
fn a_model_on_disk_has_the_memory_of_its_shapes() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let found = object(at, "models info $BERT --json");
    let memory = &found["memory"];
    assert_eq!((&found["from"], &memory["estimated"]), (&json!("machine"), &json!(false)));
    let weights = memory["weights"]["f32"].as_u64().unwrap();
    assert!(weights >= 4 * found["parameters"].as_u64().unwrap(), "{found}");
    // 2048 tokens of a row, query, key and value, heads and perceptron: 32, 96, 32 and 64 numbers.
    assert_eq!(memory["batch"], json!({"tokens": 2048, "bytes": 4 * 2048 * (32 + 96 + 32 + 64)}));
    let text = good(at, "models info");
    assert!(text.contains("licence       Apache-2.0") && text.contains("preset        ultra-efficient"), "{text}");
    assert!(text.contains("memory        f32 "), "{text}");
    let table = object(at, "models info --json");
    assert!(table["memory"]["batch"].is_null() && table["memory"]["weights"]["int8"].is_null(), "{table}");

    fs::create_dir(at.join("licensed")).unwrap();
    for entry in fs::read_dir(model("static_f32")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::write(at.join("licensed").join(path.file_name().unwrap()), fs::read(&path).unwrap()).unwrap();
        }
    }
    fs::write(at.join("licensed/README.md"), "---\nlanguage: en\nlicense: cc0-1.0\n---\n# A table\n").unwrap();
    assert_eq!(object(at, "models info ./licensed --json")["licence"], "cc0-1.0");
}

#[test]
fn presets_open_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    assert_eq!(good(at, "embed x -m ultra-efficient"), good(at, "embed x"));
    let listed = good(at, "models list");
    assert!(listed.contains("\nultra-efficient  embral-static-256\n"), "{listed}");
    assert!(listed.contains("\nefficient        all-MiniLM-L6-v2  (not on this machine)\n"), "{listed}");
    good(at, "models import $BERT --name all-MiniLM-L6-v2");
    for name in ["efficient", "minilm", "Sentence-Transformers/all-minilm-l6-v2"] {
        assert_eq!(good(at, &format!("embed x --offline -m {name}")), good(at, "embed x -m $BERT"), "{name}");
    }
    assert!(good(at, "models list").contains("\nefficient        all-MiniLM-L6-v2\n"));
    let rows = object(at, "models list --json");
    assert!(rows.as_array().unwrap().iter().any(|row| row["presets"] == json!(["efficient"])), "{rows}");
    let missing = run(at, "embed x --offline -m code");
    assert!(missing.code == Some(1) && missing.err.contains("jina-embeddings-v2-base-code"), "{}", missing.err);
}

#[test]
fn the_prompts_of_the_catalogue_are_used_where_the_folder_has_none() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    good(at, "models import $BERT --name bge-small-en-v1.5");
    let named = good(at, "embed cat --prompt query -m bge-small");
    let mut by_text = command(at, "embed cat -m $BERT --prompt-text");
    assert_eq!(finish(by_text.arg("Represent this sentence for searching relevant passages: ")).out, named);
    assert!(run(at, "embed cat -m bge-small").err.contains("was trained with prompts"));
}

#[test]
fn verify_says_equal_or_where_and_why_not() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let text = good(at, "models verify");
    assert!(text.contains("result        equal") && text.contains("the same, bit for bit"), "{text}");
    let none = run(at, "models verify $BERT");
    assert!(none.code == Some(1) && none.err.contains("docs/make_reference.py"), "{}", none.err);

    let golden: Value = serde_json::from_slice(&fs::read(model("tiny_bert").join("golden.json")).unwrap()).unwrap();
    let mut reference = json!({"version": 1, "made_with": "sentence-transformers", "sets": [
        {"texts": golden["texts"], "embeddings": golden["embeddings"], "ids": golden["ids"]}]});
    fs::write(at.join("r.json"), reference.to_string()).unwrap();
    for precision in ["f32", "bf16", "int8"] {
        let found = object(at, &format!("models verify $BERT --reference r.json --precision {precision} --json"));
        assert!(found["equal"] == true && found["causes"] == json!([]), "{found}");
    }
    let component = &mut reference["sets"][0]["embeddings"][2][7];
    *component = json!(component.as_f64().unwrap() + 0.5);
    fs::write(at.join("r.json"), reference.to_string()).unwrap();
    let wrong = run(at, "models verify $BERT --reference r.json");
    assert_eq!(wrong.code, Some(1));
    for part in ["result        DIFFERS", "set 0, text 2: ", "component 7: expected ", "cause         unknown"] {
        assert!(wrong.out.contains(part), "{part}: {}", wrong.out);
    }
    assert!(wrong.err.contains("differs from its reference"), "{}", wrong.err);
    fs::write(at.join("r.json"), "{}").unwrap();
    assert!(run(at, "models verify $BERT --reference r.json").err.contains("no reference"));
}
