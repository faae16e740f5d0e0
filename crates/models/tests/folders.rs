//! Whole model folders: what is read from each form, and what is said about each that is broken.

use embral_formats::safetensors;
use embral_models::{Head, ModelFolder, Network, QkNorm, Role, StaticLayout, TokenizerFiles, check_shapes};
use embral_testkit::golden::Golden;
use embral_types::{Activation, Error, ErrorKind, Pooling, Tensor};
use std::{fs, path::Path};

fn read(name: &str) -> (Golden, ModelFolder) {
    let golden = Golden::load(name);
    let folder = ModelFolder::read(&golden.folder).unwrap_or_else(|e| panic!("{name}: {e}"));
    (golden, folder)
}

#[test]
fn every_golden_reads_and_its_weights_fit_its_configuration() {
    for name in Golden::names() {
        let (golden, folder) = read(&name);
        let weights = folder.open_weights().unwrap();
        match &folder.network {
            Network::Transformer { blueprint, names, .. } => {
                check_shapes(blueprint, names, &*weights).unwrap();
                // What a model computes for itself, and the second name of a tensor, are in files of PyTorch.
                let counts = |n: &&String| !n.ends_with("position_ids") && !n.starts_with("lm_head.");
                let names_stored = weights.names();
                let stored: u64 =
                    names_stored.iter().filter(counts).map(|n| weights.get(n).unwrap().len() as u64).sum();
                assert_eq!(blueprint.parameters(), stored, "{name}");
                assert_eq!(
                    names.weight_in(&*weights, Role::Word, 0).unwrap().shape(),
                    [blueprint.vocab, blueprint.hidden]
                );
            }
            Network::Static(spec) => {
                let mapping = spec.read_mapping(&*weights).unwrap();
                assert_eq!(mapping.map_or(spec.rows, |m| m.len()), spec.vocab, "{name}");
            }
            Network::Graph(spec) => panic!("{name} has weights, and was read as {}", spec.file.display()),
        }
        assert_eq!(folder.dimensions, golden.embeddings[0].len(), "{name}");
        assert_eq!(folder.prompts.values().filter(|p| !p.is_empty()).count(), golden.prompts.len(), "{name}");
        let longest = golden.ids.iter().map(Vec::len).max().unwrap();
        assert!(folder.max_tokens.is_none_or(|limit| limit == longest), "{name}: the longest text reaches the limit");
    }
}

#[test]
fn both_configuration_formats_describe_one_model() {
    let ((_old_files, old), (_new_files, new)) = (read("tiny_bert"), read("tiny_bert_new_format"));
    assert_eq!(old.network, new.network);
    assert_eq!((old.pooling, new.pooling), (Some(Pooling::Mean), Some(Pooling::Mean)));
    assert_eq!((&old.heads[..], &new.heads[..]), (&[Head::Normalize][..], &[Head::Normalize][..]));
    assert_eq!((old.max_tokens, new.max_tokens), (Some(32), Some(32)));
    assert_eq!((old.similarity, new.similarity), (None, Some("cosine".to_owned())));
    assert!(old.include_prompt && new.include_prompt && !old.do_lower_case);
    assert!(old.matryoshka.is_empty() && matches!(old.tokenizer, TokenizerFiles::Json(_)));
}

#[test]
fn each_pooling_heads_and_prompts_are_read() {
    for (name, pooling) in [("cls", Pooling::Cls), ("max", Pooling::Max), ("lasttoken", Pooling::Last)] {
        assert_eq!(read(&format!("tiny_bert_{name}")).1.pooling, Some(pooling));
    }
    let (_files, folder) = read("tiny_bert_dense");
    let [Head::Dense(dense), Head::Normalize] = &folder.heads[..] else { panic!("{:?}", folder.heads) };
    assert_eq!((dense.inputs, dense.outputs, dense.bias, dense.activation), (32, 16, true, Activation::Tanh));
    let weights = embral_formats::open(&dense.weights).unwrap();
    assert_eq!(weights.get("linear.weight").unwrap().shape(), [16, 32]);
    assert_eq!(folder.default_prompt.as_deref(), Some("query"));
    assert_eq!(folder.prompts["query"], "query: ");
    assert!(folder.normalizes() && folder.include_prompt);
    assert!(!read("tiny_bert_without_prompt").1.include_prompt);
}

#[test]
fn qwen3_is_causal_grouped_rotary_and_gated() {
    let (_files, folder) = read("tiny_qwen3");
    let Network::Transformer { architecture, blueprint, .. } = &folder.network else { panic!("a transformer") };
    assert_eq!(*architecture, "qwen3");
    assert_eq!((blueprint.attention.heads, blueprint.attention.kv_heads, blueprint.attention.head_dim), (4, 2, 16));
    assert_eq!(blueprint.attention.views[0].rope.unwrap().theta, 2500.0);
    assert!(blueprint.mlp.gated && blueprint.final_norm && blueprint.attention.qk_norm == Some(QkNorm::Head));
    assert_eq!((folder.pooling, folder.max_tokens), (Some(Pooling::Last), Some(96)));
}

#[test]
fn static_models_are_told_apart_by_who_wrote_them() {
    for name in ["f32", "f16", "i8", "vocabulary_quantized"] {
        let (_files, folder) = read(&format!("static_{name}"));
        let Network::Static(spec) = &folder.network else { panic!("{name}") };
        assert!(spec.layout == StaticLayout::Model2Vec && spec.drop_unknown() && folder.normalizes(), "{name}");
        assert_eq!((spec.max_tokens(), spec.width, folder.heads.len()), (Some(512), 16, 1));
        assert_eq!(spec.mapping.is_some(), name == "vocabulary_quantized");
    }
    let (_files, folder) = read("static_embedding");
    let Network::Static(spec) = &folder.network else { panic!("a static model") };
    assert!(spec.layout == StaticLayout::SentenceTransformers && !spec.drop_unknown() && !folder.normalizes());
    assert_eq!((folder.max_tokens, spec.table.as_str()), (None, "embedding.weight"));
}

/// A copy of a golden, to be changed.
struct Copy(tempfile::TempDir);

impl Copy {
    fn of(name: &str) -> Self {
        Self(Golden::load(name).copy_of())
    }

    fn write(&self, file: &str, text: &str) -> &Self {
        fs::write(self.0.path().join(file), text).unwrap();
        self
    }

    fn remove(&self, file: &str) -> &Self {
        fs::remove_file(self.0.path().join(file)).unwrap();
        self
    }

    fn set(&self, file: &str, key: &str, value: serde_json::Value) -> &Self {
        let path = self.0.path().join(file);
        let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        json[key] = value;
        fs::write(path, json.to_string()).unwrap();
        self
    }

    fn read(&self) -> Result<ModelFolder, Error> {
        ModelFolder::read(self.0.path())
    }

    fn refused(&self) -> Error {
        self.read().unwrap_err()
    }
}

#[test]
fn a_plain_transformers_folder_leaves_pooling_open() {
    let copy = Copy::of("tiny_bert");
    let folder = copy.remove("modules.json").read().unwrap();
    assert_eq!(folder.pooling, Some(Pooling::Mean), "the folder of the pooling module says it");
    let e = copy.set("1_Pooling/config.json", "word_embedding_dimension", 31.into()).refused();
    assert!(e.file().unwrap().ends_with("1_Pooling/config.json"), "{e}");
    let folder = copy.remove("1_Pooling/config.json").read().unwrap();
    assert_eq!((folder.pooling, folder.heads.len(), folder.dimensions), (None, 0, 32));
}

#[test]
fn the_limit_of_tokens_is_found_wherever_it_is() {
    let copy = Copy::of("tiny_bert");
    let limit = || copy.read().unwrap().max_tokens;
    assert_eq!(limit(), Some(32), "sentence_bert_config.json");
    copy.remove("sentence_bert_config.json");
    copy.set("tokenizer_config.json", "model_max_length", 40.into());
    assert_eq!(limit(), Some(40), "tokenizer_config.json");
    copy.set("tokenizer_config.json", "model_max_length", 1e30.into());
    assert_eq!(limit(), Some(48), "the positions there are");
    copy.write("tokenizer_config.json", r#"{"model_max_length": 1000000000000000019884624838656}"#);
    assert_eq!(limit(), Some(48), "a sentinel is no limit");
    copy.write("sentence_roberta_config.json", r#"{"max_seq_length": 100000, "do_lower_case": true}"#);
    assert_eq!(limit(), Some(48), "no more than there are positions");
    assert!(copy.read().unwrap().do_lower_case);
    copy.write("sentence_roberta_config.json", r#"{"max_seq_length": 0}"#);
    assert!(copy.refused().message().starts_with("max_seq_length: "));
}

#[test]
fn a_vocabulary_stands_in_for_a_tokenizer_file() {
    let copy = Copy::of("tiny_bert");
    copy.remove("tokenizer.json");
    let flags = |config: &str| {
        copy.write("tokenizer_config.json", config);
        let TokenizerFiles::Vocab { vocab, lower_case, strip_accents, split_ideographs } =
            copy.read().unwrap().tokenizer
        else {
            panic!("the vocabulary is all there is");
        };
        assert_eq!(vocab, copy.0.path().join("vocab.txt"));
        (lower_case, strip_accents, split_ideographs)
    };
    assert_eq!(flags("{}"), (true, true, true));
    assert_eq!(flags(r#"{"strip_accents": null, "do_lower_case": false}"#), (false, false, true));
    assert_eq!(flags(r#"{"strip_accents": true, "do_lower_case": false}"#), (false, true, true));
    assert_eq!(flags(r#"{"strip_accents": false, "tokenize_chinese_chars": false}"#), (true, false, false));
    let e = copy.write("tokenizer_config.json", r#"{"strip_accents": "no"}"#).refused();
    assert!(e.kind() == ErrorKind::Malformed && e.message().starts_with("strip_accents: "), "{e}");
    let e = copy.remove("vocab.txt").refused();
    assert!(e.kind() == ErrorKind::NotFound && e.message().contains("tokenizer.json, vocab.txt, or"), "{e}");
}

#[test]
fn the_first_two_files_of_roberta_stand_in_for_a_tokenizer_file() {
    let copy = Copy::of("tiny_roberta_merges");
    let prefix_space = || match copy.read().unwrap().tokenizer {
        TokenizerFiles::Pairs { prefix_space, .. } => prefix_space,
        other => panic!("{other:?}"),
    };
    assert!(!prefix_space());
    copy.set("tokenizer_config.json", "add_prefix_space", true.into());
    assert!(prefix_space());
    let e = copy.set("tokenizer_config.json", "tokenizer_class", "GPT2Tokenizer".into()).refused();
    assert!(e.message().starts_with("tokenizer_class: expected RobertaTokenizer"), "{e}");
    assert_eq!(copy.remove("merges.txt").refused().kind(), ErrorKind::NotFound);
}

#[test]
fn a_static_table_needs_no_configuration_at_all() {
    let copy = Copy::of("static_embedding");
    let inside = copy.0.path().join("0_StaticEmbedding");
    for name in ["model.safetensors", "tokenizer.json"] {
        fs::rename(inside.join(name), copy.0.path().join(name)).unwrap();
    }
    copy.remove("modules.json").write("config_sentence_transformers.json", r#"{"normalize": true}"#);
    let folder = copy.read().unwrap();
    assert!(folder.normalizes() && folder.dimensions == 16);
    let Network::Static(spec) = folder.network else { panic!("a static model") };
    assert_eq!(spec.layout, StaticLayout::SentenceTransformers);
}

/// What is broken, how, and the error: its kind, the end of its file's name, a part of its message.
type Broken = (&'static str, fn(&Copy) -> &Copy, ErrorKind, &'static str, &'static str);

#[test]
fn broken_folders_name_the_file_the_key_and_what_was_found() {
    let cases: &[Broken] = &[
        ("missing config", |c| c.remove("config.json"), ErrorKind::NotFound, "config.json", "missing"),
        ("bad JSON", |c| c.write("config.json", "{"), ErrorKind::Malformed, "config.json", "not JSON"),
        ("no type", |c| c.write("config.json", "{}"), ErrorKind::Malformed, "config.json", "model_type"),
        (
            "unknown architecture",
            |c| c.set("config.json", "model_type", "t5".into()),
            ErrorKind::Unsupported,
            "config.json",
            "expected one of bert, roberta, xlm-roberta, camembert, ",
        ),
        (
            "absurd size",
            |c| c.set("config.json", "vocab_size", 4_000_000_000u64.into()),
            ErrorKind::Malformed,
            "config.json",
            "vocab_size: expected a whole number from 1 to 10000000, found 4000000000",
        ),
        (
            "two modes",
            |c| c.set("1_Pooling/config.json", "pooling_mode_cls_token", true.into()),
            ErrorKind::Unsupported,
            "config.json",
            "concatenated",
        ),
        (
            "another width",
            |c| c.set("1_Pooling/config.json", "word_embedding_dimension", 64.into()),
            ErrorKind::Mismatch,
            "config.json",
            "expected rows of 32 components, as the model has, found 64",
        ),
        (
            "unknown module",
            |c| c.write("modules.json", r#"[{"type":"a.Transformer","path":""},{"type":"b.CNN","path":"1_CNN"}]"#),
            ErrorKind::Unsupported,
            "modules.json",
            "unknown module \"b.CNN\"",
        ),
        (
            "order of modules",
            |c| {
                c.write(
                    "modules.json",
                    r#"[{"type":"a.Transformer"},{"type":"a.Normalize"},{"type":"a.Pooling","path":"1_Pooling"}]"#,
                )
            },
            ErrorKind::Unsupported,
            "modules.json",
            "found Pooling as module 2",
        ),
        (
            "first module",
            |c| c.write("modules.json", r#"[{"type":"a.Pooling","path":"1_Pooling"}]"#),
            ErrorKind::Unsupported,
            "modules.json",
            "as the first module, found Pooling",
        ),
        (
            "module folder",
            |c| c.write("modules.json", r#"[{"type":"a.Transformer"},{"type":"a.Dense","path":"9_Dense"}]"#),
            ErrorKind::NotFound,
            "config.json",
            "missing",
        ),
        (
            "default prompt",
            |c| c.write("config_sentence_transformers.json", r#"{"prompts":{"a":"x"},"default_prompt_name":"b"}"#),
            ErrorKind::Malformed,
            "config_sentence_transformers.json",
            "expected one of the prompts [\"a\"], found \"b\"",
        ),
        (
            "task",
            |c| c.write("sentence_bert_config.json", r#"{"transformer_task":"fill-mask"}"#),
            ErrorKind::Unsupported,
            "sentence_bert_config.json",
            "found \"fill-mask\"",
        ),
        (
            "no weights",
            |c| c.remove("model.safetensors"),
            ErrorKind::NotFound,
            "",
            "pytorch_model.bin.index.json, found none",
        ),
    ];
    for (what, change, kind, file, message) in cases {
        let copy = Copy::of("tiny_bert");
        change(&copy);
        let e = copy.refused();
        assert_eq!(e.kind(), *kind, "{what}: {e}");
        let named = e.file().unwrap_or_else(|| panic!("{what}: no file in {e}"));
        assert!(named.starts_with(copy.0.path()) && named.to_string_lossy().ends_with(file), "{what}: {e}");
        assert!(e.message().contains(message), "{what}: {e}");
    }
    assert_eq!(ModelFolder::read(Path::new("no/such/folder")).unwrap_err().kind(), ErrorKind::NotFound);
    let empty = tempfile::tempdir().unwrap();
    assert!(ModelFolder::read(empty.path()).unwrap_err().message().contains("modules.json or config.json"));
}

#[test]
fn a_static_model_whose_tensors_disagree_is_refused() {
    let good = [0.5f32; 32];
    let table = || ("embeddings", Tensor::from_f32(vec![8, 4], &good));
    let ints = |shape: Vec<usize>, values: &[i32]| {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Tensor::new(embral_types::Dtype::I32, shape, bytes)
    };
    type Tensors = Vec<(&'static str, Tensor<'static>)>;
    let cases: Vec<(Tensors, &str, &str)> = vec![
        (vec![("rows", Tensor::from_f32(vec![8, 4], &good))], "", "embeddings or embedding.weight"),
        (vec![("embeddings", Tensor::from_f32(vec![32], &good))], "embeddings", "found F32 of shape [32]"),
        (vec![("embeddings", ints(vec![2, 1], &[1, 2]))], "embeddings", "found I32"),
        (vec![("embeddings", Tensor::from_f32(vec![0, 4], &[]))], "embeddings", "at least one row"),
        (
            vec![table(), ("weights", Tensor::from_f32(vec![7], &good[..7]))],
            "weights",
            "shape [8], found F32 of shape [7]",
        ),
        (vec![table(), ("mapping", Tensor::from_f32(vec![8], &good[..8]))], "mapping", "found F32"),
        (vec![table(), ("mapping", ints(vec![2, 1], &[1, 2]))], "mapping", "found I32 of shape [2, 1]"),
    ];
    for (tensors, tensor, message) in cases {
        let copy = Copy::of("static_f32");
        safetensors::write(&copy.0.path().join("model.safetensors"), &tensors).unwrap();
        let e = copy.refused();
        assert_eq!((e.kind(), e.tensor().unwrap_or_default()), (ErrorKind::Mismatch, tensor), "{e}");
        assert!(e.message().contains(message), "{e}");
    }
    for row in [-1, 8] {
        let copy = Copy::of("static_f32");
        let tensors = [table(), ("mapping", ints(vec![3], &[0, row, 7]))];
        safetensors::write(&copy.0.path().join("model.safetensors"), &tensors).unwrap();
        let folder = copy.read().unwrap();
        let Network::Static(spec) = &folder.network else { panic!("a static model") };
        let e = spec.read_mapping(&*folder.open_weights().unwrap()).unwrap_err();
        assert!(e.message().contains(&format!("expected rows below 8, found {row} for token 1")), "{e}");
    }
}

#[test]
fn outside_models_read_too() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/models");
    if !shared.is_dir() {
        println!("skipped: {} is not there", shared.display());
        return;
    }
    for name in ["tiny_bert_coldfire", "tiny_bert_jammi"] {
        let folder = ModelFolder::read(&shared.join(name)).unwrap();
        let Network::Transformer { blueprint, names, .. } = &folder.network else { panic!("{name}") };
        check_shapes(blueprint, names, &*folder.open_weights().unwrap()).unwrap();
    }
    let fixtures = shared.join("model2vec-rs-fixtures");
    for (name, sizes) in [
        ("test-model-float32", (29_528, 29_528, 2)),
        ("test-model-float16", (29_528, 29_528, 2)),
        ("test-model-int8", (29_528, 29_528, 2)),
        ("test-model-sentence-transformers", (29_528, 29_528, 2)),
        ("test-model-vocab-quantized", (29_524, 128, 64)),
    ] {
        let folder = ModelFolder::read(&fixtures.join(name)).unwrap();
        let Network::Static(spec) = &folder.network else { panic!("{name}") };
        assert_eq!((spec.vocab, spec.rows, spec.width), sizes, "{name}");
        assert!(folder.normalizes(), "{name}");
        let weights = folder.open_weights().unwrap();
        assert_eq!(spec.read_mapping(&*weights).unwrap().is_some(), name.ends_with("quantized"));
        assert_eq!(spec.read_token_weights(&*weights).unwrap().is_some(), name.ends_with("quantized"));
    }
}
