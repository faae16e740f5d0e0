//! What `verify` says of models that are right, and of models that are wrong in the usual ways.

use embral::{
    Config, ErrorKind, Precision,
    verify::{Reference, Set, run},
};
use embral_testkit::golden::{Golden, Rows};

fn config(golden: &Golden) -> Config {
    Config::model(golden.folder.to_str().unwrap())
}

fn rows(rows: &Rows) -> Vec<Vec<f32>> {
    rows.iter().map(|row| row.iter().map(|&x| x as f32).collect()).collect()
}

fn set(golden: &Golden) -> Set {
    Set {
        prompt: None,
        prompt_text: None,
        texts: golden.texts.clone(),
        embeddings: rows(&golden.embeddings),
        ids: Some(golden.ids.clone()).filter(|_| golden.unprompted.is_none()),
    }
}

fn reference(sets: Vec<Set>) -> Option<Reference> {
    Some(Reference { from: "golden".to_owned(), made_with: "sentence-transformers".to_owned(), sets })
}

#[test]
fn goldens_are_equal_in_every_precision_that_they_have() {
    for name in ["tiny_bert", "tiny_qwen3", "tiny_xlm_roberta", "gguf_nomic_bert", "static_f32"] {
        let golden = Golden::load(name);
        let mut sets = vec![set(&golden)];
        sets.extend(golden.prompts.iter().map(|(prompt, rows_of)| Set {
            prompt: Some(prompt.clone()),
            embeddings: rows(rows_of),
            ids: None,
            ..set(&golden)
        }));
        let precisions = if name.starts_with("static") { &Precision::ALL[..1] } else { &Precision::ALL };
        for &precision in precisions {
            let report = run(&Config { precision, ..config(&golden) }, reference(sets.clone())).unwrap();
            assert!(report.is_equal(), "{name} in {precision}: {report:?}");
            assert_eq!(report.texts, sets.len() * golden.texts.len());
            assert!(report.causes.is_empty() && (precision == Precision::F32) == report.tolerance.max_abs.is_some());
        }
    }
}

#[test]
fn what_is_usually_wrong_is_named() {
    let golden = Golden::load("tiny_bert");
    let other = |name: &str| Some(set(&Golden::load(name))).filter(|s| s.texts == golden.texts);
    let cause = |config: Config, set: Set| {
        let report = run(&config, reference(vec![set])).unwrap();
        assert!(!report.is_equal() && report.company.is_empty());
        report.causes.join("\n")
    };
    let cls = other("tiny_bert_cls").expect("the same texts");
    assert!(cause(config(&golden), Set { ids: None, ..cls }).contains("pooling: with cls in the place of mean"));
    let double = |set: Set| Set {
        embeddings: set.embeddings.iter().map(|row| row.iter().map(|x| 2.0 * x).collect()).collect(),
        ..set
    };
    let lengths = cause(config(&golden), double(set(&golden)));
    assert!(lengths.contains("normalise: the same direction, of length 2.0000"), "{lengths}");
    let cut = cause(Config { max_tokens: Some(8), ..config(&golden) }, set(&golden));
    assert!(cut.contains("tokens: ") && cut.contains("and 8 here") && cut.contains("truncation: cut at"), "{cut}");

    let prompted = Golden::load("tiny_qwen3");
    let query = Set { embeddings: rows(&prompted.prompts["query"]), ids: None, ..set(&prompted) };
    assert!(cause(config(&prompted), query).contains("prompt: with the prompt \"query\""));
    let told = Set {
        prompt: Some("query".to_owned()),
        prompt_text: Some("q: ".to_owned()),
        embeddings: rows(prompted.unprompted.as_ref().unwrap()),
        ids: None,
        ..set(&prompted)
    };
    let found = cause(config(&prompted), told);
    assert!(found.contains("the reference put \"q: \"") && found.contains("without a prompt"), "{found}");
}

#[test]
fn a_difference_says_where_it_is() {
    let golden = Golden::load("tiny_bert");
    let mut changed = set(&golden);
    changed.embeddings[1][5] += 0.25;
    let report = run(&config(&golden), reference(vec![changed.clone()])).unwrap();
    let [difference] = &report.differences[..] else { panic!("{report:?}") };
    assert_eq!((difference.index, difference.component, &difference.text), (1, 5, &golden.texts[1]));
    assert_eq!(difference.expected, changed.embeddings[1][5]);
    assert!((difference.expected - difference.found - 0.25).abs() < 1e-5 && report.causes.is_empty(), "{report:?}");
}

#[test]
fn another_width_and_a_model_without_a_reference_say_what_to_do() {
    let golden = Golden::load("tiny_bert");
    let narrow = Set { embeddings: golden.texts.iter().map(|_| vec![1.0; 3]).collect(), ..set(&golden) };
    let e = run(&config(&golden), reference(vec![narrow])).unwrap_err();
    assert!(e.kind() == ErrorKind::Mismatch && e.to_string().contains("have 3 components, and those of the model 32"));
    let e = run(&config(&golden), None).unwrap_err();
    assert!(e.kind() == ErrorKind::NotFound && e.to_string().contains("make_reference.py"), "{e}");
}

#[test]
fn a_reference_in_the_folder_of_the_model_is_taken() {
    let golden = Golden::load("tiny_bert");
    let copy = golden.copy_of();
    let set = set(&golden);
    let json = serde_json::json!({"version": 1, "sets": [{"texts": set.texts, "embeddings": set.embeddings}]});
    std::fs::write(copy.path().join("embral-reference.json"), json.to_string()).unwrap();
    let report = run(&Config::model(copy.path().to_str().unwrap()), None).unwrap();
    assert!(report.is_equal() && report.reference.0.ends_with("embral-reference.json"), "{report:?}");
}

#[test]
#[cfg(feature = "default-model")]
fn the_default_model_is_equal_to_its_definition() {
    let report = run(&Config::default(), None).unwrap();
    assert!(report.is_equal() && report.texts == 8, "{report:?}");
}
