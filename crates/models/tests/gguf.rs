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
    for (name, architecture, pooling, segments) in [
        ("gguf_bert", "bert", Pooling::Cls, true),
        ("gguf_nomic_bert", "nomic_bert", Pooling::Mean, true),
        ("gguf_nomic_moe", "nomic_bert", Pooling::Mean, false),
        ("gguf_xlm_roberta", "bert", Pooling::Cls, false),
        ("gguf_qwen3", "qwen3", Pooling::Last, false),
    ] {
        let root = Golden::root().join(name);
        for path in [root.clone(), root.join("model.gguf")] {
            let folder = ModelFolder::read(&path).unwrap();
            assert_eq!((folder.pooling, folder.dimensions), (Some(pooling), 32), "{name}");
            assert_eq!(folder.segments, segments, "{name}: only WordPiece vocabularies come with token types");
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
            "expected one of bert, nomic-bert, nomic-bert-moe, qwen3, found \"bort\"",
        ),
        ("gguf_bert", "bert.block_count", "bert.black_count", "bert.block_count: the number is missing"),
        ("gguf_bert", "bert.attention.layer_norm_epsilon", "bert.attention.layer_norm_epsilan", "the float is missing"),
        ("gguf_bert", "tokenizer.ggml.tokens", "tokenizer.ggml.takens", "expected a list of texts, found nothing"),
        (
            "gguf_bert",
            "tokenizer.ggml.model",
            "tokenizer.ggml.madel",
            "expected \"bert\", \"gpt2\" or \"t5\", found nothing",
        ),
        (
            "gguf_xlm_roberta",
            "tokenizer.ggml.scores",
            "tokenizer.ggml.scares",
            "tokenizer.ggml.scores: expected 210 finite floats, found nothing",
        ),
        (
            "gguf_xlm_roberta",
            "tokenizer.ggml.bos_token_id",
            "tokenizer.ggml.bus_token_id",
            "tokenizer.ggml.bos_token_id: the id is missing",
        ),
        ("gguf_xlm_roberta", "\u{2}\0\0\0\0\0\0\0t5", "\u{2}\0\0\0\0\0\0\0tx", "found \"tx\""),
        (
            "gguf_nomic_bert",
            "nomic-bert.rope.freq_base",
            "nomic-bert.rope.freq_bose",
            "nomic-bert.rope.freq_base: the float is missing",
        ),
        (
            "gguf_nomic_moe",
            "nomic-bert-moe.expert_count",
            "nomic-bert-moe.expert_caunt",
            "nomic-bert-moe.expert_count: the number is missing",
        ),
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

/// Files of multilingual-e5-small are made like this by a converter that takes every BERT for one with WordPiece.
#[test]
fn a_sentence_piece_vocabulary_that_calls_itself_word_piece_is_refused() {
    let mut bytes = bytes("gguf_bert");
    // Words of two letters or more become ones that begin with the mark of SentencePiece.
    let mark = "▁".as_bytes();
    let mut at = 0;
    while at + 9 <= bytes.len() {
        if bytes[at..].starts_with(mark) && bytes[at + 3..at + 6].iter().all(u8::is_ascii_lowercase) {
            bytes[at + 3..at + 6].copy_from_slice(mark);
        }
        at += 1;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.gguf");
    fs::write(&file, bytes).unwrap();
    let e = ModelFolder::read(&file).unwrap_err();
    assert!(e.kind() == ErrorKind::Unsupported && e.to_string().contains("one of SentencePiece"), "{e}");
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
