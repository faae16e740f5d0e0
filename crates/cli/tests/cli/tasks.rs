//! Rerankers, classifiers, sparse and multi-vector models at a shell.

use crate::process::{command, finish, good, run};
use embral_testkit::tasks::TaskGolden;
use serde_json::Value;
use std::fs;

/// Numbers are printed so that they read back as the same f32.
const NEAR: f64 = 3e-5;

fn lines(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

fn float(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

/// Puts the model of a golden into `folder` under its name.
fn place(folder: &std::path::Path, name: &str) -> TaskGolden {
    let golden = TaskGolden::load(name);
    copy(&golden.folder(), &folder.join(name));
    golden
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

#[test]
fn rerank_prints_documents_by_their_scores() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let golden = place(at, "tiny_reranker");
    let (pairs, scores) = (golden.pairs(), golden.rows("scores"));
    let query = pairs[0].0.clone();
    let documents: Vec<&str> = pairs.iter().take_while(|pair| pair.0 == query).map(|pair| pair.1.as_str()).collect();
    let jsonl: String =
        documents.iter().map(|text| serde_json::json!({"text": text, "key": "k"}).to_string() + "\n").collect();
    fs::write(at.join("docs.jsonl"), jsonl).unwrap();
    let rerank = |line: &str| {
        let mut words = command(at, "rerank");
        finish(words.arg(&query).args(line.split(' ').filter(|w| !w.is_empty())))
    };

    let ran = rerank("-i docs.jsonl -m ./tiny_reranker --json --id-field key");
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    let all = lines(&ran.out);
    assert_eq!(all.len(), documents.len());
    assert!(all.is_sorted_by(|a, b| float(&a["score"]) >= float(&b["score"])));
    for line in &all {
        let index = line["index"].as_u64().unwrap() as usize;
        assert!(line["text"] == documents[index] && line["id"] == "k");
        assert!((float(&line["score"]) - scores[index][0]).abs() < NEAR, "{line}");
    }
    let best = rerank("-i docs.jsonl -m ./tiny_reranker --json --top-n 2");
    let best = lines(&best.out);
    assert!(best.len() == 2 && best[0]["index"] == all[0]["index"] && best[1]["index"] == all[1]["index"]);
    assert!(best[0].get("id").is_none());

    let tsv = rerank("-i docs.jsonl -m ./tiny_reranker --tsv -n 1").out;
    let cells: Vec<&str> = tsv.trim_end_matches('\n').split('\t').collect();
    assert!(
        cells.len() == 3 && cells[1].parse::<u64>().ok() == all[0]["index"].as_u64() && tsv.ends_with('\n'),
        "{tsv:?}"
    );
    assert_eq!(cells[0].parse::<f64>().unwrap(), float(&all[0]["score"]));
    for query in ["", " \t"] {
        for rest in [&["dog", "-m", "./tiny_reranker"][..], &["-m", "./tiny_reranker"]] {
            let ran = finish(command(at, "rerank").arg(query).args(rest));
            assert!(ran.code == Some(2) && ran.err.contains("the query is empty"), "{}", ran.err);
        }
        let ran = finish(command(at, "search docs.jsonl").arg(query));
        assert!(ran.code == Some(2) && ran.err.contains("the query is empty"), "{}", ran.err);
    }
    let plain = good(at, "rerank cats cat dog -m ./tiny_reranker");
    assert!(plain.lines().count() == 2 && plain.contains("  dog\n"), "{plain}");
    // The lines of standard input are documents too, and logits are what the sigmoid is taken of.
    let logits = rerank("-i docs.jsonl -m ./tiny_reranker --scores logits --json -n 1").out;
    let (logit, score) = (float(&lines(&logits)[0]["score"]), float(&all[0]["score"]));
    assert!((1.0 / (1.0 + (-logit).exp()) - score).abs() < 1e-6);
}

#[test]
fn classify_prints_labels() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let golden = place(at, "tiny_classifier");
    let (labels, scores) = (golden.labels(), golden.rows("scores"));
    let (text, row) = (&golden.texts()[0], &scores[0]);
    let best = (0..3).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
    let mut words = command(at, "classify -m ./tiny_classifier --json");
    let ran = finish(words.arg(text));
    let line = &lines(&ran.out)[0];
    assert_eq!((line["index"].as_u64(), line["labels"][0]["label"].as_str()), (Some(0), Some(labels[best].as_str())));
    assert!(line["labels"].as_array().unwrap().len() == 3);
    assert!((float(&line["labels"][0]["score"]) - row[best]).abs() < NEAR);
    let plain = good(at, "classify -m ./tiny_classifier cat dog");
    assert!(plain.lines().count() == 2 && plain.ends_with("  1  dog\n"), "{plain}");
    let tsv = good(at, "classify -m ./tiny_classifier cat --tsv --top-n 2");
    assert!(tsv.lines().count() == 2 && tsv.lines().all(|line| line.split('\t').count() == 4), "{tsv}");
    let pairs = good(at, "classify -m ./tiny_classifier cat --pair dog --json");
    assert_ne!(pairs, good(at, "classify -m ./tiny_classifier cat --json"));
}

#[test]
fn sparse_and_multi_vector_outputs_are_json_lines() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let golden = place(at, "tiny_joint");
    place(at, "tiny_colbert_pylate");
    let texts: String = golden.texts().iter().map(|text| text.replace(['\n', '\t'], " ") + "\n").collect();
    fs::write(at.join("in.txt"), &texts).unwrap();

    let sparse = lines(&good(at, "embed -i in.txt -m ./tiny_joint --sparse"));
    for (line, (ids, weights)) in sparse.iter().zip(golden.sparse()) {
        let found: Vec<u32> = serde_json::from_value(line["sparse"]["indices"].clone()).unwrap();
        assert!(found == ids && line.get("embedding").is_none(), "{line}");
        for (found, expected) in line["sparse"]["values"].as_array().unwrap().iter().zip(weights) {
            assert!((float(found) - expected).abs() < NEAR);
        }
    }
    let all = lines(&good(at, "embed -i in.txt -m ./tiny_joint --sparse --multi-vector --dense --with-text"));
    let dense = lines(&good(at, "embed -i in.txt -m ./tiny_joint"));
    let vectors = lines(&good(at, "embed -i in.txt -m ./tiny_joint --multi-vector"));
    assert_eq!(all.len(), golden.texts().len());
    for (i, line) in all.iter().enumerate() {
        assert!(line["index"] == i && line["embedding"] == dense[i]["embedding"], "{i}");
        assert!(line["sparse"] == sparse[i]["sparse"] && line["multi_vector"] == vectors[i]["multi_vector"], "{i}");
        assert!(line["text"].is_string());
    }
    let query = lines(&good(at, "embed cat -m ./tiny_colbert_pylate --multi-vector --prompt query"));
    let document = lines(&good(at, "embed cat -m ./tiny_colbert_pylate --multi-vector"));
    let rows = |line: &Value| line["multi_vector"].as_array().unwrap().len();
    assert_eq!((rows(&query[0]), rows(&document[0])), (16, 3));

    // Into a file, with the checkpoints of any other run.
    good(at, "embed -i in.txt -m ./tiny_joint --sparse -o out.jsonl");
    assert_eq!(lines(&fs::read_to_string(at.join("out.jsonl")).unwrap()), sparse);
    let again = run(at, "embed -i in.txt -m ./tiny_joint --sparse -o out.jsonl --resume");
    assert!(again.code == Some(0) && again.err.contains("is complete"), "{}", again.err);
}

#[test]
fn info_says_what_a_model_is_for() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for (name, expected) in [
        ("tiny_reranker", vec!["task          classification", "labels        LABEL_0"]),
        ("tiny_classifier", vec!["labels        contradiction, entailment, neutral"]),
        ("tiny_yes_no", vec!["task          generation"]),
        ("tiny_splade_sum", vec!["task          sparse"]),
        ("tiny_colbert", vec!["task          multi-vector", "dimensions    8"]),
        ("tiny_joint", vec!["task          embedding", "dimensions    32", "pooling       cls"]),
    ] {
        place(at, name);
        let out = good(at, &format!("models info ./{name}"));
        assert!(expected.iter().all(|line| out.contains(line)), "{name}: {out}");
        let json: Value = serde_json::from_str(&good(at, &format!("models info ./{name} --json"))).unwrap();
        assert!(out.contains(json["task"].as_str().unwrap()), "{json}");
    }
    let known = good(at, "models list --catalogue");
    assert!(known.lines().any(|l| l.starts_with("cross-encoder/ms-marco-MiniLM-L6-v2 ") && l.contains("reranking")));
}

#[test]
fn what_does_not_go_together_is_said_with_what_does() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for name in ["tiny_joint", "tiny_reranker", "tiny_classifier", "tiny_splade", "tiny_colbert"] {
        place(at, name);
    }
    for (line, code, expected) in [
        ("embed cat -m ./tiny_joint --sparse -o out.npy", 2, "written as JSON lines, not as npy"),
        ("embed cat -m ./tiny_joint --sparse --format csv", 2, "--format jsonl"),
        ("embed cat -m ./tiny_joint --sparse --output binary", 2, "one vector a text"),
        ("embed cat -m ./tiny_joint --sparse --chunk tokens", 2, "take whole texts"),
        ("embed cat -m ./tiny_joint --multi-vector --base64", 2, "--base64 is for one vector a text"),
        ("embed cat -m ./tiny_joint --sparse --vector-cache memory", 2, "--vector-cache-size keep vectors"),
        ("rerank cat dog -m ./tiny_reranker --vector-cache on", 2, "--vector-cache-size keep vectors"),
        ("embed cat -m http://127.0.0.1:9 --sparse", 1, "is the address of a server"),
        ("rerank cat dog -m http://127.0.0.1:9", 1, "is the address of a server"),
        ("classify cat -m http://127.0.0.1:9", 1, "is the address of a server"),
        ("embed cat -m ./tiny_joint --dense", 2, "--dense belongs to"),
        ("embed cat -m ./tiny_joint --sparse --multi-vector --prompt query", 2, "leave them out"),
        ("embed cat -m ./tiny_colbert --multi-vector --prompt clustering", 2, "--prompt query, or nothing"),
        ("embed cat -m ./tiny_colbert --multi-vector --sparse", 1, "no sparse output"),
        ("embed cat -m ./tiny_joint --sparse --dims 4", 1, "dims is about the vector of a text"),
        ("embed cat -m $BERT --sparse", 1, "found an embedding model (use Embedder, or `embral embed`)"),
        ("embed cat -m ./tiny_reranker", 1, "`embral rerank`"),
        ("embed cat -m ./tiny_colbert", 1, "`embral embed --multi-vector`"),
        ("search in.txt cat -m ./tiny_classifier", 1, "`embral classify`"),
        ("rerank cat dog -m ./tiny_classifier", 1, "one label, found 3"),
        ("rerank cat dog -m $BERT", 1, "expected a reranker, found an embedding model"),
        ("rerank cat dog", 1, "expected the name of a reranker"),
        ("rerank cat dog -m ./tiny_reranker --scores softmax", 1, "a reranker has one"),
        ("rerank cat dog -m ./tiny_reranker --scores raw", 2, "expected logits, sigmoid or softmax"),
        ("classify cat -m ./tiny_splade", 1, "expected a sequence classifier, found an embedding model"),
        ("classify cat -m ./tiny_classifier --prompt query", 2, "not for classifiers"),
        ("rerank cat dog -i in.txt -m ./tiny_reranker", 2, "cannot be used with"),
    ] {
        fs::write(at.join("in.txt"), "one\ntwo\n").unwrap();
        let ran = run(at, line);
        assert!(ran.code == Some(code) && ran.err.contains(expected), "embral {line}: {:?} {}", ran.code, ran.err);
        assert!(ran.out.is_empty() && ran.err.lines().count() == 1, "embral {line}: {}", ran.err);
    }
}
