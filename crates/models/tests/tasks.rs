//! Folders of other tasks than one vector a text: what is read of each, and what is said about each that is broken.

use embral_models::{
    Expansion, Head, HeadLayer, MaxSim, ModelFolder, Scores, SparseSpec, Task, TermPooling, YesNoSpec,
};
use embral_testkit::{golden::Golden, tasks::TaskGolden};
use embral_types::ErrorKind;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::{fs, path::Path};

fn read(name: &str) -> (TaskGolden, ModelFolder) {
    let golden = TaskGolden::load(name);
    let folder = ModelFolder::read(&golden.folder()).unwrap_or_else(|e| panic!("{name}: {e}"));
    (golden, folder)
}

/// Reads the folder with these keys of a file changed.
fn changed(name: &str, file: &str, changes: &[(&str, Value)]) -> embral_types::Result<ModelFolder> {
    let golden = TaskGolden::load(name);
    let path = golden.folder().join(file);
    let mut value: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap_or("{}".into())).unwrap();
    for (key, to) in changes {
        value[*key] = to.clone();
    }
    fs::write(&path, value.to_string()).unwrap();
    ModelFolder::read(&golden.folder())
}

#[test]
fn each_folder_says_what_it_is_for() {
    for (name, task) in [
        ("tiny_bert", Task::Embedding),
        ("tiny_reranker", Task::Classification),
        ("tiny_reranker_saved", Task::Classification),
        ("tiny_classifier", Task::Classification),
        ("tiny_yes_no", Task::Generation),
        // A masked language model may be meant as anything until modules say more.
        ("tiny_splade", Task::Embedding),
        ("tiny_splade_sum", Task::Sparse),
        ("tiny_colbert", Task::MultiVector),
        ("tiny_colbert_pylate", Task::MultiVector),
        ("tiny_colbert_stanford", Task::MultiVector),
        ("tiny_joint", Task::Embedding),
    ] {
        let (_golden, folder) = read(name);
        assert_eq!(folder.task, task, "{name}");
        let outputs = &folder.outputs;
        assert_eq!(outputs.classifier.is_some(), task == Task::Classification, "{name}");
        assert_eq!(outputs.yes_no.is_some(), task == Task::Generation, "{name}");
        assert_eq!(outputs.sparse.is_some(), name.contains("splade") || name == "tiny_joint", "{name}");
        assert_eq!(outputs.multi_vector.is_some(), task == Task::MultiVector || name == "tiny_joint", "{name}");
        let error = task.instead_of("something else", &folder.root).to_string();
        assert!(error.contains(task.noun()) && error.contains(task.usage()), "{error}");
    }
    assert!(read("tiny_reranker").1.segments && !read("tiny_reranker_saved").1.segments);
    let spec = read("tiny_reranker_saved").1.outputs.classifier.unwrap();
    assert_eq!((spec.reranking, spec.classification, spec.labels.len()), (Scores::Logits, Scores::Sigmoid, 1));
    assert!(matches!(spec.layers[..], [HeadLayer::Dense { name: "bert.pooler.dense", .. }, HeadLayer::Dense { .. }]));
}

#[test]
fn a_splade_module_says_how_terms_are_pooled() {
    let pooled = |changes: &[(&str, Value)]| {
        let folder = changed("tiny_splade_sum", "1_SpladePooling/config.json", changes)?;
        match folder.outputs.sparse {
            Some(SparseSpec::Terms { pooling, twice, .. }) => Ok((pooling, twice)),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(pooled(&[]).unwrap(), (TermPooling::Sum, true));
    let usual = [("pooling_strategy", json!("max")), ("activation_function", json!("relu"))];
    assert_eq!(pooled(&usual).unwrap(), (TermPooling::Max, false));
    for (key, expected) in
        [("pooling_strategy", "expected max or sum"), ("activation_function", "expected relu or log1p_relu")]
    {
        let error: embral_types::Error = pooled(&[(key, json!("mean"))]).unwrap_err();
        assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains(expected), "{error}");
    }
    let class = json!(["FunnelForMaskedLM"]);
    let error = changed("tiny_splade_sum", "config.json", &[("architectures", class)]).unwrap_err().to_string();
    assert!(error.contains("before SpladePooling"), "{error}");
}

#[test]
fn the_settings_of_a_multi_vector_model_are_read_in_each_form() {
    let spec = |name: &str| read(name).1.outputs.multi_vector.unwrap();
    let modules = spec("tiny_colbert");
    assert!(matches!(modules.heads[..], [Head::Dense(_), Head::Normalize]));
    let expansion = Expansion { token: None, length: 12, fixed: false, attend: true };
    assert_eq!(
        (modules.expansion, modules.query.max_tokens, modules.document.max_tokens),
        (Some(expansion), None, Some(40))
    );
    assert_eq!((modules.document.skip.len(), modules.query.skip.len(), modules.similarity), (4, 0, MaxSim::Sum));

    let pylate = spec("tiny_colbert_pylate");
    let expansion = Expansion { token: None, length: 16, fixed: true, attend: false };
    assert_eq!(
        (pylate.expansion, pylate.query.max_tokens, pylate.document.max_tokens),
        (Some(expansion), Some(16), Some(30))
    );
    assert_eq!((pylate.query.marker.as_deref(), pylate.document.marker.as_deref()), (Some("_ "), Some("% ")));
    assert_eq!((pylate.document.skip.len(), pylate.query.skip.len()), (32, 0), "punctuation");

    let stanford = spec("tiny_colbert_stanford");
    assert_eq!((stanford.query.max_tokens, stanford.document.max_tokens), (Some(14), Some(36)));
    assert_eq!((stanford.query.marker.as_deref(), stanford.heads.len()), (Some("_ "), 2));

    let joint = spec("tiny_joint");
    assert!(joint.skip_first && joint.similarity == MaxSim::Mean && joint.expansion.is_none());

    let file = "config_sentence_transformers.json";
    let off = changed("tiny_colbert_pylate", file, &[("do_query_expansion", json!(false))]).unwrap();
    let off = off.outputs.multi_vector.unwrap();
    assert_eq!((off.expansion, off.query.max_tokens), (None, Some(16)));
    let mean = changed("tiny_colbert", file, &[("similarity_fn_name", json!("meanmaxsim"))]).unwrap();
    assert_eq!(mean.outputs.multi_vector.unwrap().similarity, MaxSim::Mean);
}

#[test]
fn what_is_broken_is_named_by_file_and_key() {
    for (name, file, key, to, expected) in [
        ("tiny_colbert", "sentence_bert_config.json", "document_length", json!(0), "document_length: expected a whole"),
        ("tiny_colbert", "sentence_bert_config.json", "query_expansion", json!({"strategy": "all"}), "fixed or min"),
        (
            "tiny_colbert",
            "sentence_bert_config.json",
            "query_expansion",
            json!({"strategy": "min"}),
            "length: the number",
        ),
        ("tiny_colbert", "2_MultiVectorMask/config.json", "skiplist_words", json!("."), "expected a list of words"),
        ("tiny_colbert", "2_MultiVectorMask/config.json", "keep_only_token_ids", json!([1]), "tokens of images"),
        (
            "tiny_colbert",
            "1_Dense/config.json",
            "module_input_name",
            json!("sentence_embedding"),
            "\"token_embeddings\"",
        ),
        ("tiny_colbert", "1_Dense/config.json", "in_features", json!(64), "for 32 components"),
        ("tiny_colbert_stanford", "artifact.metadata", "query_maxlen", json!("x"), "query_maxlen"),
        ("tiny_reranker", "config.json", "id2label", json!({"1": "x"}), "id2label: expected names"),
        ("tiny_reranker", "config.json", "architectures", json!(["XForSequenceClassification"]), "XForSequence"),
        ("tiny_reranker_saved", "sentence_bert_config.json", "transformer_task", json!("chat"), "found \"chat\""),
        ("tiny_reranker_saved", "config_sentence_transformers.json", "activation_fn", json!("my.Own"), "my.Own"),
    ] {
        let error = changed(name, file, &[(key, to)]).unwrap_err();
        assert!(error.to_string().contains(expected) && error.file().is_some(), "{name} {file} {key}: {error}");
    }
    let modules = json!([{"type": "a.Transformer", "path": ""}, {"type": "a.LogitScore", "path": "1_LogitScore"}]);
    let logit = |config: Value| {
        let golden = TaskGolden::load("tiny_yes_no");
        fs::create_dir(golden.folder().join("1_LogitScore")).unwrap();
        fs::write(golden.folder().join("modules.json"), modules.to_string()).unwrap();
        fs::write(golden.folder().join("1_LogitScore/config.json"), config.to_string()).unwrap();
        ModelFolder::read(&golden.folder()).map(|folder| (folder.task, folder.outputs.yes_no))
    };
    let tokens = YesNoSpec::Tokens { yes: 7, no: Some(9) };
    assert_eq!(logit(json!({"true_token_id": 7, "false_token_id": 9})).unwrap(), (Task::Generation, Some(tokens)));
    assert!(logit(json!({"false_token_id": 9})).unwrap_err().to_string().contains("true_token_id"));
}

/// Every file that says something about a task, with the golden that has it.
const FILES: [(&str, &str); 8] = [
    ("tiny_reranker", "config.json"),
    ("tiny_reranker_saved", "config_sentence_transformers.json"),
    ("tiny_colbert", "sentence_bert_config.json"),
    ("tiny_colbert", "2_MultiVectorMask/config.json"),
    ("tiny_colbert_pylate", "config_sentence_transformers.json"),
    ("tiny_colbert_stanford", "artifact.metadata"),
    ("tiny_splade_sum", "1_SpladePooling/config.json"),
    ("tiny_splade_sum", "modules.json"),
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn no_damage_to_a_folder_makes_its_reader_panic(
        which in 0..FILES.len(),
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let (name, file) = FILES[which];
        let golden = TaskGolden::load(name);
        let path = golden.folder().join(file);
        let mut bytes = fs::read(&path).unwrap();
        for (at, to) in damage {
            let at = at.index(bytes.len());
            bytes[at] = to;
        }
        fs::write(&path, &bytes).unwrap();
        match ModelFolder::read(&golden.folder()) {
            Ok(folder) => prop_assert!(folder.outputs.classifier.is_none_or(|spec| !spec.labels.is_empty())),
            Err(error) => prop_assert!(error.file().is_some(), "{}", error),
        }
    }
}

#[test]
fn every_golden_of_a_task_is_over_one_that_is_there() {
    for entry in fs::read_dir(Golden::root()).unwrap() {
        let path = entry.unwrap().path();
        if path.join("tasks.json").is_file() {
            let name = path.file_name().unwrap().to_str().unwrap();
            assert!(Path::new(&TaskGolden::load(name).folder().join("tokenizer.json")).is_file(), "{name}");
        }
    }
}
