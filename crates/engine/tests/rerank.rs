//! Rerankers and classifiers against sentence-transformers and transformers in f64, alone and in company, in every precision.

use embral::{
    Classifier, Config, Embedder, ErrorKind, Precision, Prompt, Reranker, Scores, Truncation, cache::VectorCache,
};
use embral_testkit::tasks::TaskGolden;

/// Largest difference of a score: logits of size 1 in f32, as in golden.rs.
const MAX_ABS: f64 = 3e-6;
const RERANKERS: [&str; 5] =
    ["tiny_reranker", "tiny_reranker_saved", "tiny_xlm_roberta_reranker", "tiny_yes_no", "tiny_yes_no_untied"];

fn config(golden: &TaskGolden) -> Config {
    Config::model(golden.folder().to_str().unwrap())
}

fn bits(scores: &[f32]) -> Vec<u32> {
    scores.iter().map(|x| x.to_bits()).collect()
}

fn check(what: &str, found: &[f32], expected: &[Vec<f64>]) {
    assert_eq!(found.len(), expected.iter().map(Vec::len).sum::<usize>(), "{what}");
    for (row, (found, expected)) in found.iter().zip(expected.iter().flatten()).enumerate() {
        let difference = (f64::from(*found) - expected).abs();
        let allowed = MAX_ABS * expected.abs().max(1.0);
        assert!(difference <= allowed, "{what} {row}: {found} is off by {difference:.1e}");
    }
}

#[test]
fn scores_are_those_of_the_reference() {
    for name in RERANKERS {
        let golden = TaskGolden::load(name);
        let reranker = Reranker::with_config(config(&golden)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let pairs = golden.pairs();
        for ((query, document), ids) in pairs.iter().zip(golden.pair_ids()) {
            assert_eq!(reranker.tokenize(query, document).unwrap(), ids, "{name} {document:?}");
        }
        check(name, &reranker.score_pairs(&pairs).unwrap(), &golden.rows("scores"));
        let logits = golden.rows("logits");
        if !logits.is_empty() {
            let raw = Config { scores: Some(Scores::Logits), ..config(&golden) };
            check(name, &Reranker::with_config(raw).unwrap().score_pairs(&pairs).unwrap(), &logits);
        }
    }
}

#[test]
fn labels_are_those_of_the_reference() {
    let golden = TaskGolden::load("tiny_classifier");
    let classifier = Classifier::with_config(config(&golden)).unwrap();
    assert_eq!((classifier.labels(), classifier.scoring()), (&golden.labels()[..], Scores::Softmax));
    let texts = golden.texts();
    check("texts", classifier.scores(&texts).unwrap().as_slice(), &golden.rows("scores"));
    check("pairs", classifier.scores_of_pairs(&golden.pairs()).unwrap().as_slice(), &golden.rows("pair_scores"));
    let ranked = classifier.classify(&texts[0]).unwrap();
    assert!(ranked.len() == 3 && ranked.is_sorted_by(|a, b| a.score >= b.score));
    let first = &golden.rows("scores")[0];
    let best = (0..3).max_by(|&a, &b| first[a].total_cmp(&first[b])).unwrap();
    assert_eq!(ranked[0].label, golden.labels()[best]);
}

#[test]
fn a_pair_scores_the_same_alone_and_in_company() {
    for name in RERANKERS {
        let golden = TaskGolden::load(name);
        let pairs = golden.pairs();
        for precision in Precision::ALL {
            let config = Config { precision, threads: Some(1), ..config(&golden) };
            let reranker = Reranker::with_config(config.clone()).unwrap();
            let together = reranker.score_pairs(&pairs).unwrap();
            assert!(together.iter().all(|x| x.is_finite()));
            for (i, (query, document)) in pairs.iter().enumerate() {
                let alone = reranker.score(query, &[document]).unwrap();
                assert_eq!(bits(&alone), bits(&together[i..=i]), "{name} {precision} {document:?}");
            }
            for (threads, batch_tokens) in [(2, 1), (3, 70), (2, 4096)] {
                let other = Config { threads: Some(threads), batch_tokens, ..config.clone() };
                let backward: Vec<_> = pairs.iter().rev().collect();
                let backward: Vec<_> = backward.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
                let mut scores = Reranker::with_config(other).unwrap().score_pairs(&backward).unwrap();
                scores.reverse();
                assert_eq!(bits(&scores), bits(&together), "{name} {precision} {threads} {batch_tokens}");
            }
        }
    }
    let golden = TaskGolden::load("tiny_classifier");
    for precision in Precision::ALL {
        let classifier = Classifier::with_config(Config { precision, ..config(&golden) }).unwrap();
        let texts = golden.texts();
        let together = classifier.scores(&texts).unwrap();
        for (i, text) in texts.iter().enumerate() {
            assert_eq!(bits(classifier.scores(&[text]).unwrap().row(0)), bits(together.row(i)), "{precision} {text:?}");
        }
    }
}

#[test]
fn documents_are_ranked_by_their_scores() {
    let golden = TaskGolden::load("tiny_reranker");
    let reranker = Reranker::with_config(config(&golden)).unwrap();
    let documents = ["a cat sat on the mat", "the red house", "a cat sat on the mat", "", "quick brown fox"];
    let scores = reranker.score("cats", &documents).unwrap();
    let all = reranker.rerank("cats", &documents, None).unwrap();
    assert!(all.len() == 5 && all.is_sorted_by(|a, b| (a.score, b.index) >= (b.score, a.index)));
    assert!(all.iter().all(|ranked| ranked.score == scores[ranked.index]));
    let place = |index: usize| all.iter().position(|ranked| ranked.index == index).unwrap();
    assert_eq!(place(0) + 1, place(2), "equal documents stay in their order");
    assert_eq!(reranker.rerank("cats", &documents, Some(2)).unwrap(), all[..2]);
    assert!(reranker.rerank("cats", &[] as &[&str], None).unwrap().is_empty());
    assert_eq!(reranker.profile().texts, 0);
}

#[test]
fn an_instruction_takes_the_place_of_the_usual_one() {
    let golden = TaskGolden::load("tiny_yes_no");
    let reranker = Reranker::with_config(config(&golden)).unwrap();
    let usual = "Given a web search query, retrieve relevant passages that answer the query";
    let as_usual = reranker.score_as("cats", &["a cat"], Prompt::Text(usual)).unwrap();
    assert_eq!(as_usual, reranker.score("cats", &["a cat"]).unwrap());
    assert_ne!(as_usual, reranker.score_as("cats", &["a cat"], Prompt::Text("Find dogs")).unwrap());
}

#[test]
fn a_long_pair_is_cut_or_refused_as_asked() {
    for name in ["tiny_reranker", "tiny_yes_no"] {
        let golden = TaskGolden::load(name);
        let strict = Config { truncation: Truncation::Error, ..config(&golden) };
        let strict = Reranker::with_config(strict).unwrap();
        let error = strict.score("cat", &["short", &"a dog ran ".repeat(300)]).unwrap_err();
        assert!(error.kind() == ErrorKind::TooLong && error.to_string().contains("text 1: "), "{error}");
        let left = Config { truncation: Truncation::Left, ..config(&golden) };
        let left = Reranker::with_config(left).unwrap().tokenize("cat", &format!("{} x", "a dog ran ".repeat(300)));
        let right = Reranker::with_config(config(&golden)).unwrap();
        let (left, right) = (left.unwrap(), right.tokenize("cat", &"a dog ran ".repeat(300)).unwrap());
        assert!(left.len() == right.len() && left != right, "{name}");
    }
}

#[test]
fn a_model_of_another_task_says_what_it_is_and_what_to_use() {
    let path = |name: &str| TaskGolden::load(name);
    let said = |error: embral::Error, expected: [&str; 2]| {
        let error = error.to_string();
        assert!(expected.iter().all(|part| error.contains(part)), "{error}");
    };
    let (reranker, classifier, splade, colbert, bert) = (
        path("tiny_reranker"),
        path("tiny_classifier"),
        path("tiny_splade_sum"),
        path("tiny_colbert"),
        path("tiny_bert"),
    );
    said(Embedder::with_config(config(&reranker)).unwrap_err(), ["found a sequence classifier", "embral rerank"]);
    said(Embedder::with_config(config(&classifier)).unwrap_err(), ["found a sequence classifier", "embral classify"]);
    said(
        Embedder::with_config(config(&splade)).unwrap_err(),
        ["found a sparse (SPLADE) model", "embral embed --sparse"],
    );
    said(Embedder::with_config(config(&colbert)).unwrap_err(), ["found a multi-vector", "--multi-vector"]);
    said(
        Reranker::with_config(config(&bert)).unwrap_err(),
        ["expected a reranker, found an embedding", "embral embed"],
    );
    said(Classifier::with_config(config(&bert)).unwrap_err(), ["expected a sequence classifier", "Embedder"]);
    said(Reranker::with_config(config(&classifier)).unwrap_err(), ["one label, found 3 (contra", "embral classify"]);
    said(Reranker::with_config(Config::default()).unwrap_err(), ["the name of a reranker", "cross-encoder/"]);
    let dims = Config { dims: Some(1), ..config(&reranker) };
    said(Reranker::with_config(dims).unwrap_err(), ["dims is about the vector", "leave it out"]);
    let scored = Config { scores: Some(Scores::Logits), ..config(&bert) };
    said(Embedder::with_config(scored).unwrap_err(), ["scores is about rerankers", "leave it out"]);
    let cached = Config { vector_cache: Some(VectorCache::default()), ..config(&reranker) };
    said(
        Reranker::with_config(cached).unwrap_err(),
        ["vector_cache keeps vectors of embedding models", "leave it out"],
    );
    said(Reranker::open("http://127.0.0.1:9").unwrap_err(), ["is the address of a server", "name a folder"]);
    let softmax = Config { scores: Some(Scores::Softmax), ..config(&reranker) };
    said(Reranker::with_config(softmax).unwrap_err(), ["softmax", "sigmoid"]);
}
