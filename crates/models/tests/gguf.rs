//! GGUF files as models: how they are found, and what is said of those that are not read.

use embral_models::{ModelFolder, Network, TokenizerFiles, check_shapes};
use embral_testkit::golden::Golden;
use embral_types::{ErrorKind, Pooling, Result};
use std::{fs, path::Path};

fn bytes(name: &str) -> Vec<u8> {
    fs::read(Golden::root().join(name).join("model.gguf")).unwrap()
}

/// The file with the first `from` replaced by `to`, which is as long.
fn changed(name: &str, from: &str, to: &str) -> Result<ModelFolder> {
    assert_eq!(from.len(), to.len());
    let mut bytes = bytes(name);
    let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).expect("it is in the file");
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.gguf");
    fs::write(&file, bytes).unwrap();
    ModelFolder::read(&file)
}

#[test]
fn a_file_is_a_whole_model() {
    for (name, architecture, pooling) in [("gguf_bert", "bert", Pooling::Cls), ("gguf_qwen3", "qwen3", Pooling::Last)] {
        let root = Golden::root().join(name);
        for path in [root.clone(), root.join("model.gguf")] {
            let folder = ModelFolder::read(&path).unwrap();
            assert_eq!((folder.pooling, folder.dimensions), (Some(pooling), 32), "{name}");
            assert!(folder.normalizes() && matches!(folder.tokenizer, TokenizerFiles::Inside(_)));
            let Network::Transformer { architecture: found, blueprint, names } = &folder.network else {
                panic!("{name}")
            };
            assert_eq!(*found, architecture);
            let weights = folder.open_weights().unwrap();
            check_shapes(blueprint, names, &*weights).unwrap();
            let sizes = weights
                .names()
                .iter()
                .map(|name| weights.size(name).unwrap())
                .fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
            assert_eq!(sizes.0 as u64, blueprint.parameters(), "{name}");
            assert!(sizes.1 < 3 * sizes.0, "{name}: mostly blocks of few bits");
        }
    }
}

#[test]
fn what_is_not_read_is_named_with_its_key() {
    for (name, from, to, expected) in [
        (
            "gguf_bert",
            "\u{4}\0\0\0\0\0\0\0bert",
            "\u{4}\0\0\0\0\0\0\0bort",
            "expected one of bert, qwen3, found \"bort\"",
        ),
        ("gguf_bert", "bert.block_count", "bert.black_count", "bert.block_count: the number is missing"),
        ("gguf_bert", "bert.attention.layer_norm_epsilon", "bert.attention.layer_norm_epsilan", "the float is missing"),
        ("gguf_bert", "tokenizer.ggml.tokens", "tokenizer.ggml.takens", "expected a list of texts, found nothing"),
        ("gguf_bert", "tokenizer.ggml.model", "tokenizer.ggml.madel", "expected \"bert\" or \"gpt2\", found nothing"),
        (
            "gguf_qwen3",
            "tokenizer.ggml.pre",
            "tokenizer.ggml.prx",
            "tokenizer.ggml.pre: expected \"qwen2\", found nothing",
        ),
        (
            "gguf_qwen3",
            "qwen3.embedding_length",
            "qwen3.embedding_langth",
            "qwen3.embedding_length: the number is missing",
        ),
    ] {
        let e = changed(name, from, to).unwrap_err();
        assert!(e.to_string().contains(expected) && e.to_string().contains("model.gguf"), "{e}");
    }
    let e = changed("gguf_bert", "token_embd.weight", "token_embx.weight").unwrap_err();
    assert!(e.to_string().contains("token_embd.weight: the tensor is missing"), "{e}");
}

#[test]
fn of_several_files_none_is_guessed() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.gguf", "b.GGUF"] {
        fs::write(folder.path().join(name), bytes("gguf_bert")).unwrap();
    }
    let e = ModelFolder::read(folder.path()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidInput);
    assert!(e.to_string().contains("found 2: a.gguf, b.GGUF") && e.to_string().contains("the path of one"), "{e}");
    assert!(ModelFolder::read(&folder.path().join("b.GGUF")).is_ok());
    assert!(ModelFolder::read(Path::new("none.gguf")).is_err());
}

#[test]
fn safetensors_come_first_where_a_folder_holds_both() {
    let golden = Golden::load("tiny_bert_cls");
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(&golden.folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    fs::remove_file(folder.path().join("modules.json")).unwrap();
    fs::write(folder.path().join("model.gguf"), bytes("gguf_qwen3")).unwrap();
    let read = ModelFolder::read(folder.path()).unwrap();
    assert!(read.weights.ends_with("model.safetensors"));
}
