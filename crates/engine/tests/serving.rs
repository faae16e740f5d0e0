//! A model of any task, run on sequences of many callers: what comes out is what the type for it alone gives, bit for bit.

use embral::{
    Classifier, Config, Embedder, ErrorKind, Joint, JointEmbedder, MultiVectorEmbedder, Prompt, Reranker,
    SparseEmbedder, Truncation,
    serving::{Input, Output, Reading, Sequence, ServedModel, Wanted},
};
use embral_testkit::tasks::TaskGolden;

fn golden(name: &str) -> Config {
    Config::model(format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR")))
}

/// A golden of another task than one vector a text: its folder lives as long as it does.
fn task(name: &str) -> (TaskGolden, Config) {
    let golden = TaskGolden::load(name);
    let config = Config::model(golden.folder().to_str().unwrap());
    (golden, config)
}

fn open(name: &str) -> ServedModel {
    ServedModel::open(golden(name)).unwrap()
}

const TEXTS: [&str; 4] = ["a cat sat on the mat", "", "interest rates rose again, and again", "a cat"];

fn read<'a>(model: &ServedModel, texts: &[&'a str], reading: &Reading<'a>) -> Vec<Sequence> {
    texts.iter().map(|text| model.read(Input::Text(text), reading).unwrap()).collect()
}

fn run(model: &ServedModel, sequences: &[Sequence]) -> Vec<Output> {
    model.run(&sequences.iter().collect::<Vec<_>>()).into_iter().map(Result::unwrap).collect()
}

fn bits(row: &[f32]) -> Vec<u32> {
    row.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn vectors_of_any_form_are_those_of_an_embedder_opened_for_it() {
    for name in ["tiny_bert", "tiny_qwen3"] {
        let model = open(name);
        let width = model.info().dimensions;
        let mut all = Vec::new();
        let mut wanted = Vec::new();
        for (dims, normalize) in [(None, None), (Some(width / 2), None), (None, Some(false)), (Some(3), Some(true))] {
            let config = Config { dims, normalize, ..golden(name) };
            let rows = Embedder::with_config(config).unwrap().embed_batch(&TEXTS).unwrap();
            wanted.extend((0..rows.len()).map(|i| rows.row(i).to_vec()));
            let form = Wanted { dims, normalize, ..Wanted::default() };
            all.extend(read(&model, &TEXTS, &Reading { wanted: form, ..Reading::default() }));
        }
        for (found, wanted) in run(&model, &all).iter().zip(&wanted) {
            assert_eq!(bits(&found.vector), bits(wanted), "{name}");
        }
    }
}

#[test]
fn prompts_and_token_ids_are_those_of_the_model() {
    let model = open("tiny_bert");
    let embedder = model.embedder().unwrap();
    let reading = Reading { prompt: Prompt::Text("about: "), ..Reading::default() };
    let rows = embedder.embed_batch_as(&TEXTS, Prompt::Text("about: ")).unwrap();
    let found = run(&model, &read(&model, &TEXTS, &reading));
    assert!(found.iter().enumerate().all(|(i, found)| bits(&found.vector) == bits(rows.row(i))));
    let ids = embedder.tokenize(TEXTS[0]).unwrap();
    let sequence = model.read(Input::Ids(&ids), &Reading::default()).unwrap();
    assert_eq!(bits(&run(&model, &[sequence])[0].vector), bits(&embedder.embed(TEXTS[0]).unwrap()));
    for bad in [&[][..], &[u32::MAX]] {
        assert_eq!(model.read(Input::Ids(bad), &Reading::default()).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn long_texts_are_cut_as_each_caller_says() {
    let model = ServedModel::open(Config { max_tokens: Some(8), ..golden("tiny_bert") }).unwrap();
    let long = "one two three four five six seven eight nine ten";
    let by =
        |truncation| model.read(Input::Text(long), &Reading { truncation: Some(truncation), ..Reading::default() });
    assert_eq!(by(Truncation::Error).unwrap_err().kind(), ErrorKind::TooLong);
    for truncation in [Truncation::Right, Truncation::Left] {
        let config = Config { max_tokens: Some(8), truncation, ..golden("tiny_bert") };
        let alone = Embedder::with_config(config).unwrap().embed(long).unwrap();
        let sequence = by(truncation).unwrap();
        assert!(sequence.is_truncated());
        assert_eq!(bits(&run(&model, &[sequence])[0].vector), bits(&alone));
    }
}

#[test]
fn rows_of_tokens_are_as_many_as_tokens() {
    let model = open("tiny_bert");
    let wanted = Wanted { vector: false, rows: true, ..Wanted::default() };
    let sequences = read(&model, &TEXTS, &Reading { wanted, ..Reading::default() });
    for (sequence, output) in sequences.iter().zip(run(&model, &sequences)) {
        assert_eq!(output.rows.len(), sequence.tokens());
    }
}

#[test]
fn scores_labels_weights_and_token_vectors_are_those_of_their_types() {
    let query = "how do plants eat";
    for name in ["tiny_reranker", "tiny_yes_no"] {
        let (_golden, config) = task(name);
        let reranker = ServedModel::open(config.clone()).unwrap();
        let pairs: Vec<Sequence> =
            TEXTS.iter().map(|text| reranker.read(Input::Pair(query, text), &Reading::default()).unwrap()).collect();
        let mut scores: Vec<f32> = run(&reranker, &pairs).iter().map(|output| output.logits[0]).collect();
        reranker.scoring().unwrap().apply(&mut scores);
        assert_eq!(
            bits(&scores),
            bits(&Reranker::with_config(config).unwrap().score(query, &TEXTS).unwrap()),
            "{name}"
        );
    }

    let (_golden, config) = task("tiny_classifier");
    let classifier = ServedModel::open(config.clone()).unwrap();
    let rows = Classifier::with_config(config).unwrap().scores(&TEXTS).unwrap();
    for (i, output) in run(&classifier, &read(&classifier, &TEXTS, &Reading::default())).into_iter().enumerate() {
        let mut logits = output.logits;
        classifier.scoring().unwrap().apply(&mut logits);
        assert_eq!(bits(&logits), bits(rows.row(i)));
    }

    let (_golden, config) = task("tiny_splade");
    let sparse = ServedModel::open(config.clone()).unwrap();
    let wanted = Wanted { vector: false, sparse: true, ..Wanted::default() };
    let rows = SparseEmbedder::with_config(config).unwrap().embed_batch(&TEXTS).unwrap();
    for (found, row) in run(&sparse, &read(&sparse, &TEXTS, &Reading { wanted, ..Reading::default() })).iter().zip(rows)
    {
        assert_eq!(found.sparse, row);
    }

    let (_golden, config) = task("tiny_colbert");
    let colbert = ServedModel::open(config.clone()).unwrap();
    let alone = MultiVectorEmbedder::with_config(config).unwrap();
    let wanted = Wanted { vector: false, multi_vector: true, ..Wanted::default() };
    for (prompt, rows) in
        [(Prompt::Query, alone.embed_query(&TEXTS).unwrap()), (Prompt::Document, alone.embed_document(&TEXTS).unwrap())]
    {
        let sequences = read(&colbert, &TEXTS, &Reading { prompt, wanted: wanted.clone(), ..Reading::default() });
        for (found, row) in run(&colbert, &sequences).iter().zip(rows) {
            assert_eq!(bits(found.multi_vector.as_slice()), bits(row.as_slice()));
        }
    }
}

#[test]
fn all_outputs_of_a_model_come_of_one_pass() {
    let (_golden, config) = task("tiny_joint");
    let model = ServedModel::open(config.clone()).unwrap();
    let all = Joint { dense: true, sparse: true, multi_vector: true };
    let alone = JointEmbedder::with_config(config, all).unwrap().embed_batch(&TEXTS).unwrap();
    let wanted = Wanted { sparse: true, multi_vector: true, ..Wanted::default() };
    let found = run(&model, &read(&model, &TEXTS, &Reading { wanted, ..Reading::default() }));
    for (i, found) in found.iter().enumerate() {
        assert_eq!(bits(&found.vector), bits(alone.dense.row(i)));
        assert_eq!(found.sparse, alone.sparse[i]);
        assert_eq!(bits(found.multi_vector.as_slice()), bits(alone.multi_vector[i].as_slice()));
    }
}

#[test]
fn what_a_model_lacks_is_said() {
    let model = open("tiny_bert");
    let sparse = Wanted { sparse: true, ..Wanted::default() };
    let many = Wanted { multi_vector: true, ..Wanted::default() };
    for wanted in [sparse, many] {
        let error = model.read(Input::Text("a"), &Reading { wanted, ..Reading::default() }).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    }
    assert_eq!(model.read(Input::Pair("a", "b"), &Reading::default()).unwrap_err().kind(), ErrorKind::Unsupported);
    let wide = Wanted { dims: Some(100_000), ..Wanted::default() };
    let error = model.read(Input::Text("a"), &Reading { wanted: wide, ..Reading::default() }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn tokens_have_their_bytes_and_come_back_as_text() {
    let model = open("tiny_bert");
    let spans = model.tokenize(TEXTS[0], "", true).unwrap();
    assert_eq!(spans.first().unwrap().bytes, None);
    assert!(spans.iter().filter_map(|span| span.bytes.clone()).all(|bytes| TEXTS[0].get(bytes).is_some()));
    let ids: Vec<u32> = spans.iter().map(|span| span.id).collect();
    assert_eq!(model.embedder().unwrap().tokenize(TEXTS[0]).unwrap(), ids);
    let (text, whole) = (model.decode(&ids, false).unwrap(), model.decode(&ids, true).unwrap());
    assert!(whole.len() > text.len(), "{whole}");
}
