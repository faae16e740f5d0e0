//! Folders with an exported graph, against the weights that it was exported from.
#![cfg(feature = "onnx")]

use embral::{
    Config, Embedder, Embeddings, ErrorKind, OnnxChoice, Pooling, Precision, Prompt,
    chunk::{ChunkVector, Chunking},
};
use embral_testkit::golden::Golden;
use std::{
    fs,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

/// Largest difference of a component of a vector of length 1 between two orders of addition in f32.
const MAX_ABS: f32 = 2e-6;

fn graph(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../onnx/tests/graphs").join(name)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let from = entry.unwrap().path();
        let to = to.join(from.file_name().unwrap());
        if from.is_dir() { copy(&from, &to) } else { fs::copy(&from, &to).map(|_| ()).unwrap() }
    }
}

/// A golden's folder with graphs put into it, as pairs of a fixture and its place.
fn folder(golden: &Golden, graphs: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    copy(&golden.folder, folder.path());
    for (from, to) in graphs {
        let to = folder.path().join(to);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(graph(from), to).unwrap();
    }
    folder
}

fn config(folder: &Path) -> Config {
    Config::model(folder.to_str().expect("a path in UTF-8"))
}

fn open(config: Config) -> Embedder {
    Embedder::with_config(config).unwrap()
}

fn refused(config: Config) -> embral::Error {
    Embedder::with_config(config).expect_err("nothing of the kind opens")
}

fn close(found: &Embeddings, expected: &Embeddings) {
    assert_eq!((found.len(), found.dim()), (expected.len(), expected.dim()));
    let pairs = found.as_slice().iter().zip(expected.as_slice());
    let worst = pairs.map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
    assert!(worst <= MAX_ABS, "a component differs by {worst:e}");
}

#[test]
fn a_graph_gives_the_vectors_of_its_weights_in_every_setting() {
    let golden = Golden::load("tiny_bert");
    let both = folder(&golden, &[("rows.onnx", "onnx/model.onnx")]);
    for pooling in [None, Some(Pooling::Cls), Some(Pooling::Max), Some(Pooling::Last)] {
        for (dims, normalize, max_tokens) in [(None, None, None), (Some(7), None, Some(9)), (None, Some(false), None)] {
            let native = Config { pooling, dims, normalize, max_tokens, ..config(both.path()) };
            let exported = Config { onnx: OnnxChoice::Always, ..native.clone() };
            let (native, exported) = (open(native), open(exported));
            let (a, b) = (native.info(), exported.info());
            assert!(a.graph.is_none() && b.graph.is_some());
            assert_eq!((a.dimensions, a.width, a.max_tokens), (b.dimensions, b.width, b.max_tokens));
            assert_eq!((a.pooling, a.normalize, &a.architecture), (b.pooling, b.normalize, &b.architecture));
            let texts = &golden.texts;
            close(&exported.embed_batch(texts).unwrap(), &native.embed_batch(texts).unwrap());
        }
    }
}

#[test]
fn prompts_heads_and_prompts_left_out_of_the_pooling_are_those_of_the_folder() {
    for name in ["tiny_bert_dense", "tiny_bert_without_prompt"] {
        let golden = Golden::load(name);
        let both = folder(&golden, &[("rows.onnx", "model.onnx")]);
        let native = open(config(both.path()));
        let exported = open(Config { onnx: OnnxChoice::Always, ..config(both.path()) });
        let found = exported.embed_batch(&golden.texts).unwrap();
        close(&found, &native.embed_batch(&golden.texts).unwrap());
        for prompt in golden.prompts.keys() {
            let prompt = Prompt::Name(prompt);
            let found = exported.embed_batch_as(&golden.texts, prompt).unwrap();
            close(&found, &native.embed_batch_as(&golden.texts, prompt).unwrap());
        }
    }
}

fn chunks(embedder: &Embedder, text: &str, chunking: &Chunking) -> embral::Result<Vec<ChunkVector>> {
    embedder.embed_chunks([text], chunking, Prompt::Default)?.collect()
}

#[test]
fn late_chunks_are_pooled_from_the_rows_of_the_graph() {
    let golden = Golden::load("tiny_bert");
    let both = folder(&golden, &[("rows.onnx", "model.onnx"), ("pooled.onnx", "onnx/pooled.onnx")]);
    let text = golden.texts.iter().max_by_key(|text| text.len()).unwrap();
    let chunking = Chunking { size: Some(5), late: true, ..Chunking::default() };
    let native = chunks(&open(config(both.path())), text, &chunking).unwrap();
    let exported = Config { onnx: OnnxChoice::Always, ..config(both.path()) };
    let exported = chunks(&open(exported), text, &chunking).unwrap();
    assert!(native.len() > 2);
    assert_eq!(native.len(), exported.len());
    for (a, b) in native.iter().zip(&exported) {
        assert_eq!(a.bytes, b.bytes);
        assert!(a.vector.iter().zip(&b.vector).all(|(x, y)| (x - y).abs() <= MAX_ABS));
    }
}

#[test]
fn weights_come_before_a_graph_and_a_graph_before_nothing() {
    let golden = Golden::load("tiny_bert");
    let both = folder(&golden, &[("rows.onnx", "onnx/model.onnx"), ("rows.onnx", "onnx/model_O2.onnx")]);
    assert!(open(config(both.path())).info().graph.is_none());
    let file = |name: &str| Config { onnx: OnnxChoice::File(name.into()), ..config(both.path()) };
    for name in ["model_O2.onnx", "onnx/model_O2.onnx"] {
        let info = open(file(name)).info().graph.clone().unwrap();
        assert!(info.file.ends_with("onnx/model_O2.onnx"), "{info:?}");
        assert_eq!(info.inputs, ["input_ids", "attention_mask", "token_type_ids"]);
        assert_eq!((info.output.as_str(), info.pooled), ("last_hidden_state", false));
    }
    let e = refused(file("model_int8.onnx"));
    assert_eq!(e.kind(), ErrorKind::NotFound);
    assert!(e.to_string().contains("onnx/model.onnx") && e.to_string().contains("onnx/model_O2.onnx"), "{e}");

    fs::remove_file(both.path().join("model.safetensors")).unwrap();
    let alone = open(config(both.path()));
    assert!(alone.info().graph.as_ref().is_some_and(|graph| graph.file.ends_with("onnx/model.onnx")));
    assert_eq!(alone.info().pooling, Pooling::Mean);

    fs::remove_file(both.path().join("onnx/model.onnx")).unwrap();
    let e = refused(config(both.path()));
    assert!(e.to_string().contains("onnx/model_O2.onnx"), "{e}");
    fs::remove_file(both.path().join("onnx/model_O2.onnx")).unwrap();
    assert!(refused(config(both.path())).to_string().contains("model.safetensors"));
}

#[test]
fn a_file_opens_with_the_folder_it_belongs_to() {
    let golden = Golden::load("tiny_bert");
    let below = folder(&golden, &[("rows.onnx", "onnx/model.onnx")]);
    let expected = open(config(below.path())).embed_batch(&golden.texts).unwrap();
    let found = open(config(&below.path().join("onnx/model.onnx")));
    close(&found.embed_batch(&golden.texts).unwrap(), &expected);

    // As optimum writes it: the graph among the files of the transformer, and no modules.
    let flat = tempfile::tempdir().unwrap();
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(golden.folder.join(name), flat.path().join(name)).unwrap();
    }
    fs::copy(graph("rows.onnx"), flat.path().join("model.onnx")).unwrap();
    let e = refused(config(&flat.path().join("model.onnx")));
    assert!(e.to_string().contains("--pooling"), "{e}");
    let stated = Config { pooling: Some(Pooling::Mean), ..config(&flat.path().join("model.onnx")) };
    let found = open(Config { normalize: Some(true), max_tokens: Some(32), ..stated });
    close(&found.embed_batch(&golden.texts).unwrap(), &expected);
    // The tokenizer and the graph are all that is needed where the graph pools by itself.
    fs::remove_file(flat.path().join("config.json")).unwrap();
    fs::copy(graph("pooled.onnx"), flat.path().join("model.onnx")).unwrap();
    let found = open(Config { max_tokens: Some(32), ..config(flat.path()) });
    assert!(found.info().graph.as_ref().is_some_and(|graph| graph.pooled));
    close(&found.embed_batch(&golden.texts).unwrap(), &expected);
}

#[test]
fn a_graph_that_pools_is_the_whole_model() {
    let golden = Golden::load("tiny_bert");
    let pooled = folder(&golden, &[("pooled.onnx", "model.onnx")]);
    let exported = Config { onnx: OnnxChoice::Always, ..config(pooled.path()) };
    let expected = open(config(pooled.path())).embed_batch(&golden.texts).unwrap();
    close(&open(exported.clone()).embed_batch(&golden.texts).unwrap(), &expected);
    let e = refused(Config { pooling: Some(Pooling::Cls), ..exported.clone() });
    assert!(e.to_string().contains("sentence_embedding"), "{e}");
    let late = chunks(&open(exported), &golden.texts[0], &Chunking { late: true, ..Chunking::default() });
    assert!(late.unwrap_err().to_string().contains("pools by itself"));
}

#[test]
fn a_vector_is_the_same_alone_in_company_and_on_any_threads() {
    let golden = Golden::load("tiny_bert");
    let both = folder(&golden, &[("rows.onnx", "model.onnx")]);
    let exported = |threads| Config { onnx: OnnxChoice::Always, threads: Some(threads), ..config(both.path()) };
    let first = open(exported(1));
    let alone: Vec<Vec<f32>> = golden.texts.iter().map(|text| first.embed(text).unwrap()).collect();
    for (threads, batch_tokens) in [(1, 2048), (2, 2048), (3, 40)] {
        let embedder = open(Config { batch_tokens, ..exported(threads) });
        let together = embedder.embed_batch(&golden.texts).unwrap();
        assert!(together.rows().zip(&alone).all(|(a, b)| a == b), "{threads} threads");
    }
}

#[test]
fn what_a_graph_cannot_do_is_said() {
    let golden = Golden::load("tiny_bert");
    let both = folder(
        &golden,
        &[("rows.onnx", "model.onnx"), ("both.onnx", "narrow.onnx"), ("signed_shifted.onnx", "q.onnx")],
    );
    let with = |name: &str| Config { onnx: OnnxChoice::File(name.into()), ..config(both.path()) };
    let e = refused(Config { precision: Precision::Int8, ..with("model.onnx") });
    assert!(e.to_string().contains("int8") && e.to_string().contains("--onnx=FILE"), "{e}");
    let e = refused(with("narrow.onnx"));
    assert!(e.to_string().contains("rows of 32") && e.to_string().contains("rows of 8"), "{e}");
    let e = refused(with("q.onnx"));
    assert!(e.to_string().contains("MatMulInteger"), "{e}");
    let e = refused(Config { max_tokens: Some(49), ..with("model.onnx") });
    assert!(e.to_string().contains("48 positions"), "{e}");
    let e = embral::SparseEmbedder::with_config(with("model.onnx")).map(|_| ()).unwrap_err();
    assert!(e.to_string().contains("safetensors") || e.to_string().contains("sparse"), "{e}");

    let mut bytes = fs::read(graph("rows.onnx")).unwrap();
    bytes.truncate(bytes.len() / 3);
    fs::write(both.path().join("cut.onnx"), bytes).unwrap();
    let e = refused(with("cut.onnx"));
    assert_eq!(e.kind(), ErrorKind::Malformed);
    assert!(e.to_string().contains("cut.onnx"), "{e}");

    for name in ["tokenizer.json", "vocab.txt"] {
        fs::remove_file(both.path().join(name)).unwrap();
    }
    let e = refused(with("model.onnx"));
    assert!(e.kind() == ErrorKind::NotFound && e.to_string().contains("tokenizer.json"), "{e}");
}

#[test]
fn an_architecture_that_is_not_known_is_run_as_it_was_exported() {
    let golden = Golden::load("tiny_bert");
    let both = folder(&golden, &[("rows.onnx", "onnx/model.onnx")]);
    let expected = open(config(both.path())).embed_batch(&golden.texts).unwrap();
    let text = fs::read_to_string(both.path().join("config.json")).unwrap();
    fs::write(both.path().join("config.json"), text.replace("\"bert\"", "\"brand_new\"")).unwrap();
    let e = refused(config(both.path()));
    assert!(e.to_string().contains("brand_new") && e.to_string().contains("--onnx"), "{e}");
    let exported = open(Config { onnx: OnnxChoice::Always, ..config(both.path()) });
    assert_eq!((exported.info().architecture.as_str(), exported.max_tokens()), ("brand_new", 32));
    close(&exported.embed_batch(&golden.texts).unwrap(), &expected);
}

#[test]
fn a_prompt_that_is_left_out_of_the_pooling_needs_the_rows() {
    let golden = Golden::load("tiny_bert_without_prompt");
    let both = folder(&golden, &[("pooled.onnx", "model.onnx")]);
    let exported = open(Config { onnx: OnnxChoice::Always, ..config(both.path()) });
    assert!(exported.embed_batch_as(&golden.texts, Prompt::None).is_ok());
    let prompt = golden.prompts.keys().next().expect("it has a prompt");
    let e = exported.embed_batch_as(&golden.texts, Prompt::Name(prompt)).unwrap_err();
    assert!(e.to_string().contains("leaves its prompt out of the pooling"), "{e}");
}

/// Of two graphs in one folder, opened by their paths, neither is given what the other computed.
#[test]
#[cfg(feature = "vector-cache")]
fn vectors_are_kept_by_the_graph_that_gave_them() {
    let golden = Golden::load("tiny_bert");
    let both = folder(&golden, &[("rows.onnx", "onnx/a.onnx"), ("rows.onnx", "onnx/b.onnx")]);
    let kept = tempfile::tempdir().unwrap();
    let embed = |name: &str| {
        let vector_cache = Some(embral::cache::VectorCache::in_folder(kept.path()));
        let embedder = open(Config { vector_cache, ..config(&both.path().join("onnx").join(name)) });
        let rows = embedder.embed_batch(&golden.texts).unwrap();
        (rows, embedder.profile().cached)
    };
    let (first, none) = embed("a.onnx");
    let (other, of_other) = embed("b.onnx");
    let (again, all) = embed("a.onnx");
    assert_eq!((none, of_other, all), (0, 0, golden.texts.len()));
    assert_eq!(first, again);
    close(&other, &first);
}
