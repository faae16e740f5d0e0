//! Every golden model against what sentence-transformers (or, for model2vec, its definition) computes in f64.

use embral::{Config, Embedder, Embeddings, Prompt};
use embral_testkit::golden::{Golden, Rows};

/// Largest difference of a component: what f32 arithmetic of another order gives on vectors of length 1 (the reference's own f32
/// differs from its f64 by up to 4e-7, and by 2e-6 where a mean is over hundreds of rows).
const MAX_ABS: f64 = 2e-6;
/// Least cosine.
const MIN_COSINE: f64 = 1.0 - 1e-6;

fn check(what: &str, found: &Embeddings, expected: &Rows) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (row, (found, expected)) in found.rows().zip(expected).enumerate() {
        assert_eq!(found.len(), expected.len(), "{what}");
        let worst = found.iter().zip(expected).map(|(&f, &e)| (f64::from(f) - e).abs()).fold(0.0, f64::max);
        assert!(worst <= MAX_ABS, "{what}, text {row}: a component differs by {worst:.1e}");
        let dot: f64 = found.iter().zip(expected).map(|(&f, &e)| f64::from(f) * e).sum();
        let squares = |v: f64| v * v;
        let norms: f64 = found.iter().map(|&f| squares(f64::from(f))).sum::<f64>().sqrt()
            * expected.iter().copied().map(squares).sum::<f64>().sqrt();
        assert!(norms == 0.0 || dot / norms >= MIN_COSINE, "{what}, text {row}: cosine {}", dot / norms);
    }
}

fn agrees(name: &str) {
    let golden = Golden::load(name);
    let model = golden.folder.to_str().expect("a path in UTF-8");
    let embedder = Embedder::with_config(Config::model(model)).unwrap_or_else(|e| panic!("{name}: {e}"));
    for (row, (text, ids)) in golden.texts.iter().zip(&golden.ids).enumerate() {
        let found = embedder.tokenize(text).unwrap();
        let differ = found.iter().zip(ids).position(|(a, b)| a != b);
        let lengths = (found.len(), ids.len());
        assert!(found == *ids, "{name}, text {row}: {lengths:?} ids, the first that differs: {differ:?}");
    }
    let rows = embedder.embed_batch(&golden.texts).unwrap();
    check(name, &rows, &golden.embeddings);
    if let Some(unprompted) = &golden.unprompted {
        check(name, &embedder.embed_batch_as(&golden.texts, Prompt::None).unwrap(), unprompted);
    }
    for (prompt, expected) in &golden.prompts {
        let rows = embedder.embed_batch_as(&golden.texts, Prompt::Name(prompt)).unwrap();
        check(&format!("{name} with {prompt}"), &rows, expected);
        let by_role = match prompt.as_str() {
            "query" => embedder.embed_query(&golden.texts).unwrap(),
            "document" => embedder.embed_document(&golden.texts).unwrap(),
            other => panic!("{name}: {other} is the prompt of no role"),
        };
        assert_eq!(by_role, rows, "{name} with {prompt}");
    }
}

/// One test a golden.
macro_rules! goldens {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                agrees(stringify!($name));
            }
        )*

        #[test]
        fn every_golden_has_a_test() {
            assert_eq!(Golden::names(), [$(stringify!($name)),*]);
        }
    };
}

goldens! {
    static_embedding
    static_f16
    static_f32
    static_i8
    static_vocabulary_quantized
    tiny_bert
    tiny_bert_cls
    tiny_bert_dense
    tiny_bert_lasttoken
    tiny_bert_max
    tiny_bert_new_format
    tiny_bert_sharded
    tiny_bert_without_prompt
    tiny_qwen3
}
