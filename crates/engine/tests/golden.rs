//! Every golden model against what sentence-transformers (or, for model2vec, its definition) computes in f64.

use embral::{Config, Embedder, Embeddings, Precision, Prompt};
use embral_backend::Backend;
use embral_cpu::Cpu;
use embral_forward::Transformer;
use embral_models::{ModelFolder, Network};
use embral_testkit::golden::{Golden, Rows};
use embral_types::Batch;

/// Largest difference of a component: what f32 arithmetic of another order gives on vectors of length 1 (the reference's own f32
/// differs from its f64 by up to 4e-7, and by 2e-6 where a mean is over hundreds of rows).
const MAX_ABS: f64 = 2e-6;
/// Largest difference of a component of a row behind the last block; rows are not normalised, and have components of up to 10.
const MAX_HIDDEN: f64 = 1e-5;
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
    if let Some((text, rows)) = &golden.hidden {
        hidden_rows_agree(name, &golden, &golden.ids[*text], rows);
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

/// The rows behind the last block, of which a vector is the mean or one.
fn hidden_rows_agree(name: &str, golden: &Golden, ids: &[u32], expected: &Rows) {
    let folder = ModelFolder::read(&golden.folder).unwrap();
    let Network::Transformer { blueprint, names, .. } = &folder.network else { panic!("{name} has rows") };
    let (cpu, weights) = (Cpu::new(Some(1)), folder.open_weights().unwrap());
    let model = Transformer::load(&cpu, blueprint, names, &*weights, &Precision::F32.into()).unwrap();
    let mut batch = Batch::default();
    batch.push(ids);
    let plan = cpu.plan(&batch).unwrap();
    let rows = model.rows(&cpu, &plan, &batch, &mut |_, _| Ok(())).unwrap();
    let mut found = vec![0.0; ids.len() * blueprint.hidden];
    cpu.read(&rows, &mut found).unwrap();
    let expected: Vec<f64> = expected.concat();
    assert_eq!(found.len(), expected.len(), "{name}");
    let worst = found.iter().zip(&expected).map(|(&f, e)| (f64::from(f) - e).abs()).fold(0.0, f64::max);
    assert!(worst <= MAX_HIDDEN, "{name}: a component of a row differs by {worst:.1e}");
}

/// The least cosine of a text in each precision that rounds, to the reference: random weights of 32 components lose more than real ones,
/// and what is lost by a part that is not computed at all is more than this.
#[test]
fn lower_precisions_are_near_on_every_architecture() {
    for name in Golden::names().iter().filter(|name| name.starts_with("tiny")) {
        let golden = Golden::load(name);
        for (precision, least) in [(Precision::Bf16, 0.999), (Precision::Int8, 0.97)] {
            let config = Config { precision, ..Config::model(golden.folder.to_str().expect("a path in UTF-8")) };
            let rows = Embedder::with_config(config).unwrap().embed_batch(&golden.texts).unwrap();
            for (row, (found, expected)) in rows.rows().zip(&golden.embeddings).enumerate() {
                let dot: f64 = found.iter().zip(expected).map(|(&f, &e)| f64::from(f) * e).sum();
                assert!(dot >= least, "{name} in {precision}, text {row}: cosine {dot}");
            }
        }
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
    gguf_bert
    gguf_nomic_bert
    gguf_nomic_moe
    gguf_qwen3
    gguf_xlm_roberta
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
    tiny_camembert
    tiny_deberta_v2
    tiny_deberta_v3
    tiny_distilbert
    tiny_eurobert
    tiny_gemma3
    tiny_gte
    tiny_jina_bert
    tiny_jina_bert_code
    tiny_llama
    tiny_mistral
    tiny_modernbert
    tiny_mpnet
    tiny_nomic_bert
    tiny_nomic_moe
    tiny_qwen2
    tiny_qwen2_causal
    tiny_qwen3
    tiny_qwen3_windows
    tiny_roberta
    tiny_roberta_merges
    tiny_xlm_roberta
    tiny_xlm_roberta_torch
    tiny_xlm_roberta_torch_sharded
}
