//! The commands beside `embed`.

use crate::process::{command, embeddings, finish, floats, good, run, write_texts};
use serde_json::Value;
use std::fs;

#[test]
fn the_default_model_needs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let rows = embeddings(
        &crate::process::finish(crate::process::embral(folder.path()).args([
            "embed",
            "a cat sat on the mat",
            "ein Hund",
        ]))
        .out,
    );
    assert_eq!(rows.len(), 2);
    for row in rows {
        assert_eq!(row.len(), 256);
        assert!((row.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is set up");
}

#[test]
fn packed_weights_are_shown_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let packed = at.join("cache/packed");
    assert_eq!(good(at, "models rm --packed"), "removed packed weights, 0.0 MB\n");
    fs::create_dir_all(&packed).unwrap();
    fs::write(packed.join("a-int8.packed"), vec![0; 2_000_000]).unwrap();
    let findings: Value = serde_json::from_str(&good(at, "doctor --json")).unwrap();
    assert_eq!(findings["packed_bytes"], 2_000_000);
    assert_eq!(findings["packed"], packed.to_str().unwrap());
    assert!(good(at, "doctor").contains("cache/packed (2.0 MB)"));
    assert_eq!(good(at, "models rm --packed"), "removed packed weights, 2.0 MB\n");
    assert_eq!(fs::read_dir(&packed).unwrap().count(), 0);
    assert_eq!(run(at, "models rm").code, Some(2));
    assert_eq!(run(at, "models rm x --packed").code, Some(2));
}

#[test]
fn similarity_is_a_symmetric_matrix() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let table = good(at, "similarity -m $BERT cat dog mat");
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 4);
    assert!(lines[1].starts_with("1   1.0000  ") && lines[1].ends_with("  cat"), "{table}");
    let json: Value = serde_json::from_str(&good(at, "similarity -m $BERT cat dog mat --json")).unwrap();
    assert_eq!(json["texts"], serde_json::json!(["cat", "dog", "mat"]));
    let cosine = |a: usize, b: usize| json["similarity"][a][b].as_f64().unwrap();
    assert!((cosine(0, 1) - cosine(1, 0)).abs() < 1e-6 && cosine(0, 1) < 1.0);
    assert!(lines[1].contains(&format!("{:.4}", cosine(0, 1))), "{table}");
    // A cosine stays one where the model's vectors are left at their length.
    let long: Value = serde_json::from_str(&good(at, "similarity -m $BERT cat dog mat --json --no-normalize")).unwrap();
    assert!((long["similarity"][0][1].as_f64().unwrap() - cosine(0, 1)).abs() < 1e-5);
}

#[test]
fn search_finds_the_text_itself_first() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::write(at.join("a.txt"), "a cat sat\n\nthe red house\na dog ran\n").unwrap();
    let out = crate::process::finish(
        crate::process::embral(at)
            .args(["search", "a.txt", "the red house", "-k", "2", "-m"])
            .arg(crate::process::model("tiny_bert")),
    );
    assert_eq!(out.out.lines().count(), 2, "{}", out.err);
    assert!(out.out.starts_with("1.0000  3  the red house\n"), "{}", out.out);
    fs::write(at.join("a.jsonl"), "{\"n\":5,\"text\":\"dog\"}\n{\"n\":6,\"text\":\"cat\"}\n").unwrap();
    let hits = good(at, "search a.jsonl cat --json --id-field n -m $STATIC");
    let first: Value = serde_json::from_str(hits.lines().next().unwrap()).unwrap();
    assert_eq!((first["id"].as_i64(), first["line"].as_u64(), first["text"].as_str()), (Some(6), Some(2), Some("cat")));
    assert_eq!(hits.lines().count(), 2);
    assert!(good(at, "search a.jsonl cat --id-field n -m $STATIC").starts_with("1.0000  2  6  cat\n"));
}

#[test]
fn kernels_marks_one_variant_of_each() {
    let folder = tempfile::tempdir().unwrap();
    let found: Value =
        serde_json::from_str(&good(folder.path(), "kernels --quick --tokens 16 --json -m $BERT")).unwrap();
    let rows = found["rows"].as_array().unwrap();
    let group = |row: &Value| (row["kernel"].clone(), row["precision"].clone(), row["shape"].clone());
    for row in rows {
        let picks = rows.iter().filter(|other| group(other) == group(row) && other["pick"] == true).count();
        assert_eq!(picks, 1, "{row}");
    }
    let doctor: Value = serde_json::from_str(&good(folder.path(), "doctor --json")).unwrap();
    for isa in doctor["isa_available"].as_array().unwrap() {
        assert!(rows.iter().any(|row| row["kernel"] == "qkv" && row["variant"] == *isa), "{isa} is missing");
    }
    let table = run(folder.path(), "kernels --quick --tokens 16 -m $STATIC --threads 1");
    assert!(table.err.contains("static") && table.err.contains("all-MiniLM-L6-v2"), "{}", table.err);
    assert!(table.out.contains("16 x 384 x 1152"), "{}", table.out);
}

#[test]
fn inspect_names_each_part_and_the_worst() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let table = good(at, "inspect -m $BERT");
    assert!(table.contains(" in int8 against f32: 12 texts, "), "{table}");
    assert_eq!(table.lines().filter(|line| line.starts_with("--part-precision ")).count(), 3, "{table}");
    write_texts(&at.join("a.txt"), 5);
    let found: Value =
        serde_json::from_str(&good(at, "inspect -m $BERT --precision bf16 --texts a.txt --threads 1 --json")).unwrap();
    assert_eq!((found["texts"].as_u64(), found["precision"].as_str()), (Some(5), Some("bf16")));
    let layers = found["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 2);
    assert!(
        layers.iter().all(|layer| layer["parts"].as_array().unwrap().len() == 5 && layer["total"].as_f64() > Some(0.0))
    );
    assert!(found["worst"].as_array().unwrap().iter().all(|kept| kept["precision"] == "f32"));
    let refused = run(at, "inspect -m $BERT --precision f32");
    assert!(refused.code == Some(1) && refused.err.contains("expected bf16 or int8"), "{}", refused.err);
}

#[test]
fn doctor_says_what_would_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let found: Value = serde_json::from_str(&good(folder.path(), "doctor --json")).unwrap();
    assert_eq!(found["threads"].as_u64(), Some(2));
    assert!(found["isa_available"].as_array().unwrap().contains(&found["isa"]));
    assert_eq!(found["bf16"].is_null(), found["slow"].as_array().unwrap().contains(&"bf16".into()), "{found}");
    assert!(found["hub_cache"].as_str().unwrap().starts_with(folder.path().to_str().unwrap()));
    assert_eq!(found["trial"]["dimensions"].as_u64(), Some(256));
    let text = good(folder.path(), "doctor");
    for part in ["CPU", "instructions", "threads", "hub cache", "default model", "trial", "EMBRAL_THREADS=2"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn models_come_are_listed_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    assert!(good(at, "models list").contains("inside embral"));
    assert!(good(at, "models list --catalogue").contains("sentence-transformers/all-MiniLM-L6-v2"));
    assert!(serde_json::from_str::<Value>(&good(at, "models list --catalogue --json")).unwrap()[0]["dims"].is_u64());
    let said = good(at, "models import $BERT --name tiny");
    assert!(said.starts_with("imported tiny (") && said.contains("use it with -m tiny"), "{said}");
    let listed: Value = serde_json::from_str(&good(at, "models list --json")).unwrap();
    let tiny = listed.as_array().unwrap().iter().find(|m| m["name"] == "tiny").unwrap();
    assert_eq!(tiny["source"], "imported");
    assert_eq!(good(at, "embed x -m tiny"), good(at, "embed x -m $BERT"));
    let info: Value = serde_json::from_str(&good(at, "models info tiny --json")).unwrap();
    assert_eq!((info["dimensions"].as_u64(), info["layers"].as_u64()), (Some(32), Some(2)));
    assert!(good(at, "models info tiny").contains("2 of width 32"));
    assert!(good(at, "models info").contains("dimensions    256"));
    assert!(good(at, "models rm tiny").starts_with("removed tiny, "));
    assert_eq!(run(at, "models info tiny").code, Some(1));
    assert_eq!(run(at, "models rm tiny").code, Some(1));
}

#[test]
fn bench_measures_what_embed_computes() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_texts(&at.join("in.txt"), 50);
    let table = good(
        at,
        "bench texts --model $BERT --precision f32 --threads 2 --batch-size 8 --max-tokens 16 --rounds 3 --texts in.txt --limit 20 --json o.json --npy o.npy",
    );
    assert!(table.contains("tokens/s"), "{table}");
    let json: Value = serde_json::from_slice(&fs::read(at.join("o.json")).unwrap()).unwrap();
    assert_eq!((json["seconds"].as_array().unwrap().len(), json["texts"].as_u64()), (3, Some(20)));
    assert!(json["seconds"][0].as_f64().unwrap() > 0.0 && json["load_seconds"].as_f64().unwrap() > 0.0);
    assert!(json["tokens"].as_u64().unwrap() >= 60);
    let stage = |name: &str| json["stages"][name].as_f64().unwrap();
    let parts = ["tokenize_ms", "pack_ms", "inference_ms", "pool_ms", "normalize_ms", "other_ms"].map(stage);
    assert!(stage("inference_ms") > 0.0 && stage("other_ms") >= 0.0, "{json}");
    assert!((parts.iter().sum::<f64>() - stage("wall_ms")).abs() < 1e-6, "{json}");
    assert!(table.contains("\ninference ") && table.contains(" %\n"), "{table}");
    assert!(cfg!(not(target_os = "linux")) || json["peak_rss_bytes"].as_u64().unwrap() > 1 << 20);
    let expected = embeddings(&good(at, "embed -i in.txt -m $BERT --max-tokens 16"));
    assert_eq!(floats(&at.join("o.npy"), 128, 32), expected[..20]);
}

#[test]
fn prompts_go_by_name_or_by_their_text() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let glued = good(at, "embed red-cat -m $STATIC");
    assert_eq!(good(at, "embed cat --prompt-text red- -m $STATIC"), glued);
    assert_ne!(good(at, "embed cat -m $STATIC"), glued);

    let query = run(at, "embed cat --prompt query -m $tiny_qwen3");
    assert_eq!((query.code, query.err.as_str()), (Some(0), ""));
    let mut by_text = command(at, "embed cat -m $tiny_qwen3 --prompt-text");
    assert_eq!(finish(by_text.arg("Instruct: Find the passage\nQuery:")).out, query.out);
    let document = good(at, "embed cat --prompt passage -m $tiny_qwen3");
    assert_ne!(query.out, document);

    for (line, expected) in [
        ("embed cat --prompt clustering -m $tiny_qwen3", "no prompt \"clustering\"; it has: query"),
        ("embed cat --prompt query -m $BERT", "no prompt \"query\"; it has: none"),
        ("similarity cat dog --prompt qery -m $tiny_qwen3", "it has: query"),
    ] {
        let ran = run(at, line);
        assert!(ran.code == Some(1) && ran.err.contains(expected) && ran.out.is_empty(), "{line}: {}", ran.err);
    }
    assert_eq!(run(at, "embed cat --prompt query --prompt-text x").code, Some(2));
}

#[test]
fn a_forgotten_prompt_is_said_once_on_standard_error() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_texts(&at.join("in.txt"), 300);
    let silent = run(at, "embed -i in.txt -m $tiny_qwen3 -q");
    assert_eq!((silent.code, silent.err.as_str()), (Some(0), ""));
    let told = run(at, "embed -i in.txt -m $tiny_qwen3");
    assert_eq!(told.out, silent.out);
    assert!(told.err.matches("was trained with prompts").count() == 1 && told.err.contains("query"), "{}", told.err);
    assert!(run(at, "similarity cat dog -m $tiny_qwen3").err.contains("was trained with prompts"));
    for line in ["embed cat -m $BERT", "embed cat -m $tiny_qwen3 --prompt document", "search in.txt cat -m $tiny_qwen3"]
    {
        assert_eq!(run(at, line).err, "", "{line}");
    }
    let mut none = command(at, "embed cat -m $tiny_qwen3 --prompt-text");
    assert_eq!(finish(none.arg("")).err, "");
}

#[test]
fn completions_know_the_flags() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = good(folder.path(), &format!("completions {shell}"));
        assert!(script.contains("save-ranges") && script.contains("similarity"), "{shell}");
    }
}
