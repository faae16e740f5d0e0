//! Sparse and multi-vector models against sentence-transformers (bge-m3: its definition) in f64, alone and in company, in every
//! precision.

use embral::{
    Config, Embedder, Embeddings, ErrorKind, Joint, JointEmbedder, MultiVectorEmbedder, Precision, SparseEmbedder,
    SparseEmbedding, Truncation,
};
use embral_testkit::{
    golden::Golden,
    tasks::{SparseRow, TaskGolden},
};

/// Largest difference of a component of a vector of length 1, as in golden.rs.
const MAX_ABS: f64 = 3e-6;
/// Largest difference of a sparse weight: logits are of size 20, and up to 48 of them are summed up.
const MAX_WEIGHT: f64 = 3e-5;
/// Largest difference of MaxSim for its size; the reference computes it in f32.
const MAX_SIMILARITY: f64 = 3e-6;
const SPARSE: [&str; 5] =
    ["tiny_splade", "tiny_splade_sum", "tiny_joint", "tiny_joint_torch", "tiny_joint_xlm_roberta"];
const MULTI: [&str; 6] = [
    "tiny_colbert",
    "tiny_colbert_pylate",
    "tiny_colbert_stanford",
    "tiny_joint",
    "tiny_joint_torch",
    "tiny_joint_xlm_roberta",
];

fn config(golden: &TaskGolden) -> Config {
    Config::model(golden.folder().to_str().unwrap())
}

fn bits(rows: &[f32]) -> Vec<u32> {
    rows.iter().map(|x| x.to_bits()).collect()
}

fn near(what: &str, found: &[f32], expected: &[f64], allowed: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let difference = (f64::from(*found) - expected).abs();
        assert!(difference <= allowed, "{what}: {at} is off by {difference:.1e}");
    }
}

fn sparse_near(what: &str, found: &[SparseEmbedding], expected: &[SparseRow]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (text, (found, (ids, weights))) in found.iter().zip(expected).enumerate() {
        assert_eq!(&found.ids, ids, "{what}, text {text}");
        near(&format!("{what}, text {text}"), &found.weights, weights, MAX_WEIGHT);
        assert!(found.ids.is_sorted_by(|a, b| a < b) && found.weights.iter().all(|w| *w > 0.0), "{what}, text {text}");
    }
}

fn rows_near(what: &str, found: &[Embeddings], expected: &[Vec<Vec<f64>>]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (text, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found.len(), expected.len(), "{what}, text {text}: vectors");
        let flat: Vec<f64> = expected.iter().flatten().copied().collect();
        near(&format!("{what}, text {text}"), found.as_slice(), &flat, MAX_ABS);
    }
}

#[test]
fn sparse_weights_are_those_of_the_reference() {
    for name in SPARSE {
        let golden = TaskGolden::load(name);
        let embedder = SparseEmbedder::with_config(config(&golden)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let texts = golden.texts();
        let found = embedder.embed_batch(&texts).unwrap();
        sparse_near(name, &found, &golden.sparse());
        assert_eq!(embedder.embed_query(&texts).unwrap(), found);
        assert_eq!(embedder.embed_document(&texts).unwrap(), found);
        let day = if name.ends_with("xlm_roberta") { 87 } else { 213 };
        assert_eq!(embedder.token(day).as_deref(), Some("日"));
    }
}

#[test]
fn token_vectors_and_their_similarity_are_those_of_the_reference() {
    for name in MULTI {
        let golden = TaskGolden::load(name);
        let embedder = MultiVectorEmbedder::with_config(config(&golden)).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(embedder.dimensions(), 8);
        let texts = golden.texts();
        let documents = embedder.embed_document(&texts).unwrap();
        rows_near(&format!("{name} documents"), &documents, &golden.tokens("documents"));
        let expected = golden.tokens("queries");
        if expected.is_empty() {
            continue;
        }
        let queries = embedder.embed_query(&texts).unwrap();
        rows_near(&format!("{name} queries"), &queries, &expected);
        for (query, expected) in queries.iter().zip(golden.rows("similarity")) {
            for (document, expected) in documents.iter().zip(expected) {
                let difference = (f64::from(embedder.score(query, document)) - expected).abs();
                assert!(difference <= MAX_SIMILARITY * expected.abs(), "{name}: MaxSim is off by {difference:.1e}");
            }
        }
    }
}

#[test]
fn a_text_is_the_same_alone_and_in_company() {
    for precision in Precision::ALL {
        for name in SPARSE {
            let golden = TaskGolden::load(name);
            let config = Config { precision, threads: Some(1), ..config(&golden) };
            let texts = golden.texts();
            let embedder = SparseEmbedder::with_config(config.clone()).unwrap();
            let together = embedder.embed_batch(&texts).unwrap();
            for (text, expected) in texts.iter().zip(&together) {
                let alone = embedder.embed(text).unwrap();
                assert_eq!(alone.ids, expected.ids, "{name} {precision} {text:?}");
                assert_eq!(bits(&alone.weights), bits(&expected.weights), "{name} {precision} {text:?}");
            }
            for (threads, batch_tokens) in [(2, 1), (3, 45)] {
                let other = Config { threads: Some(threads), batch_tokens, ..config.clone() };
                let backward: Vec<&String> = texts.iter().rev().collect();
                let mut found = SparseEmbedder::with_config(other).unwrap().embed_batch(&backward).unwrap();
                found.reverse();
                assert_eq!(found, together, "{name} {precision}");
            }
        }
        for name in MULTI {
            let golden = TaskGolden::load(name);
            let config = Config { precision, threads: Some(1), ..config(&golden) };
            let texts = golden.texts();
            let embedder = MultiVectorEmbedder::with_config(config.clone()).unwrap();
            let other = Config { threads: Some(3), batch_tokens: 45, ..config };
            let other = MultiVectorEmbedder::with_config(other).unwrap();
            for query in [true, false] {
                let run = |embedder: &MultiVectorEmbedder, texts: &[&String]| match query {
                    true => embedder.embed_query(texts).unwrap(),
                    false => embedder.embed_document(texts).unwrap(),
                };
                let forward: Vec<&String> = texts.iter().collect();
                let together = run(&embedder, &forward);
                for (text, expected) in texts.iter().zip(&together) {
                    let alone = run(&embedder, &[text]);
                    assert_eq!(bits(alone[0].as_slice()), bits(expected.as_slice()), "{name} {precision} {text:?}");
                }
                let backward: Vec<&String> = texts.iter().rev().collect();
                let mut found = run(&other, &backward);
                found.reverse();
                assert_eq!(found, together, "{name} {precision}");
            }
        }
    }
}

#[test]
fn one_pass_gives_what_separate_passes_give() {
    for (name, precision) in
        ["tiny_joint", "tiny_joint_xlm_roberta"].into_iter().flat_map(|name| Precision::ALL.map(|p| (name, p)))
    {
        let golden = TaskGolden::load(name);
        let texts = golden.texts();
        let config = Config { precision, ..config(&golden) };
        let all = Joint { dense: true, sparse: true, multi_vector: true };
        let joint = JointEmbedder::with_config(config.clone(), all).unwrap().embed_batch(&texts).unwrap();
        let dense = Embedder::with_config(config.clone()).unwrap().embed_batch(&texts).unwrap();
        assert_eq!(bits(joint.dense.as_slice()), bits(dense.as_slice()), "{precision}");
        assert_eq!(joint.sparse, SparseEmbedder::with_config(config.clone()).unwrap().embed_batch(&texts).unwrap());
        let vectors = MultiVectorEmbedder::with_config(config.clone()).unwrap().embed_document(&texts).unwrap();
        assert_eq!(joint.multi_vector, vectors);
        if precision == Precision::F32 {
            let expected: Vec<f64> = golden.rows("dense").into_iter().flatten().collect();
            near("dense", joint.dense.as_slice(), &expected, MAX_ABS);
        }
        let two = Joint { multi_vector: false, ..all };
        let two = JointEmbedder::with_config(config, two).unwrap().embed_batch(&texts).unwrap();
        assert_eq!((&two.dense, &two.sparse, two.multi_vector.len()), (&joint.dense, &joint.sparse, 0));
    }
}

#[test]
fn outputs_a_model_does_not_have_are_refused_by_name() {
    let refused = |error: embral::Error, expected: [&str; 2]| {
        let error = error.to_string();
        assert!(expected.iter().all(|part| error.contains(part)), "{error}");
    };
    let load = |name: &str| TaskGolden::load(name);
    let (bert, reranker, joint, colbert) =
        (load("tiny_bert"), load("tiny_reranker"), load("tiny_joint"), load("tiny_colbert"));
    refused(SparseEmbedder::with_config(config(&bert)).unwrap_err(), ["expected a sparse model", "embral embed"]);
    refused(SparseEmbedder::with_config(config(&reranker)).unwrap_err(), ["a sequence classifier", "embral rerank"]);
    refused(MultiVectorEmbedder::with_config(config(&bert)).unwrap_err(), ["a multi-vector model", "Embedder"]);
    let all = Joint { dense: true, sparse: true, multi_vector: true };
    refused(JointEmbedder::with_config(config(&bert), all).unwrap_err(), ["no sparse output", "bge-m3"]);
    let only = Joint { dense: false, sparse: false, multi_vector: true };
    refused(JointEmbedder::with_config(config(&colbert), only).unwrap_err(), ["differently", "MultiVectorEmbedder"]);
    let dims = Config { dims: Some(4), ..config(&joint) };
    refused(SparseEmbedder::with_config(dims).unwrap_err(), ["dims is about the vector", "leave it out"]);
}

#[test]
fn texts_at_the_edge_have_a_defined_result() {
    let long = "a dog ran to the red house ".repeat(100);
    let texts = ["", " ", "\0", "日", &long];
    let golden = TaskGolden::load("tiny_colbert_pylate");
    let colbert = MultiVectorEmbedder::with_config(config(&golden)).unwrap();
    let (queries, documents) = (colbert.embed_query(&texts).unwrap(), colbert.embed_document(&texts).unwrap());
    assert!(queries.iter().all(|rows| rows.len() == 16), "every query has the length that it is expanded to");
    // 30 tokens, of which the marker "%" is punctuation, which has no vector.
    assert_eq!(documents[4].len(), 29);
    assert!(queries.iter().chain(&documents).flat_map(|rows| rows.as_slice()).all(|x| x.is_finite()));
    assert!(colbert.embed_document(&[] as &[&str]).unwrap().is_empty());
    let strict = Config { truncation: Truncation::Error, ..config(&golden) };
    let error = MultiVectorEmbedder::with_config(strict).unwrap().embed_query(&["short", &long]).unwrap_err();
    assert!(error.kind() == ErrorKind::TooLong && error.to_string().contains("text 1"), "{error}");
    let tiny = Config { max_tokens: Some(2), ..config(&golden) };
    let error = MultiVectorEmbedder::with_config(tiny).unwrap().embed_query(&["x"]).unwrap_err();
    assert!(error.to_string().contains("the limit is 2 tokens"), "{error}");

    let golden = TaskGolden::load("tiny_splade");
    let splade = SparseEmbedder::with_config(config(&golden)).unwrap();
    let rows = splade.embed_batch(&texts).unwrap();
    assert!(rows.iter().all(|row| row.weights.iter().all(|w| w.is_finite() && *w > 0.0)));
    assert_eq!(splade.profile().truncated, 1);
}

#[test]
fn an_expansion_that_would_see_nothing_of_the_text_is_refused() {
    let folder = Golden::load("tiny_modernbert").copy_of();
    let write = |name: &str, json: &str| std::fs::write(folder.path().join(name), json).unwrap();
    write(
        "modules.json",
        r#"[{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]"#,
    );
    let open = |length: usize, attend: bool| {
        let settings = format!(r#""query_length": {length}, "attend_to_expansion_tokens": {attend}, "prompts": {{}}"#);
        write("config_sentence_transformers.json", &format!(r#"{{"model_type": "ColBERT", {settings}}}"#));
        MultiVectorEmbedder::open(folder.path().to_str().unwrap())
    };
    let error = open(40, false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("expanded to 40 tokens that are not seen"), "{error}");
    assert!(open(40, true).unwrap().embed_query(&["a cat"]).is_ok());
}
