//! TEI's routes.

use crate::support::{bits, bits_of, golden, golden_config, of_task, settings, start, task};
use embral::{Classifier, Config, Embedder, Reranker, Scores, SparseEmbedder};
use embral_server::Settings;
use embral_testkit::tasks::TaskGolden;
use serde_json::{Value, json};

const TEXTS: [&str; 3] = ["a cat sat on the mat", "rates", "Straße – 猫"];

#[test]
fn embed_gives_rows_whatever_the_input() {
    let server = start(Settings { models: vec![golden("tiny_bert")], ..settings() });
    let embedder = Embedder::with_config(golden_config("tiny_bert")).unwrap();
    let rows = embedder.embed_batch(&TEXTS).unwrap();
    let ids = embedder.tokenize(TEXTS[0]).unwrap();
    let reply = server.post("/embed", &json!({ "inputs": [TEXTS[1], ids, TEXTS[2]], "encoding_format": "float" }));
    for header in ["x-compute-type", "x-total-time", "x-inference-time", "x-compute-tokens", "x-compute-characters"] {
        assert!(reply.header(header).is_some(), "{header}");
    }
    let found = reply.json(200);
    for (i, wanted) in [1, 0, 2].into_iter().enumerate() {
        assert_eq!(bits_of(&found[i]), bits(rows.row(wanted)));
    }
    let single = server.post("/embed", &json!({ "inputs": TEXTS[0] })).json(200);
    assert_eq!((single.as_array().unwrap().len(), bits_of(&single[0])), (1, bits(rows.row(0))));
    let raw = Embedder::with_config(Config { normalize: Some(false), ..golden_config("tiny_bert") }).unwrap();
    let reply = server.post("/embed", &json!({ "inputs": TEXTS[0], "normalize": false })).json(200);
    assert_eq!(bits_of(&reply[0]), bits(&raw.embed(TEXTS[0]).unwrap()));
    let all = server.post("/embed_all", &json!({ "inputs": TEXTS })).json(200);
    for (i, text) in TEXTS.iter().enumerate() {
        assert_eq!(all[i].as_array().unwrap().len(), embedder.tokenize(text).unwrap().len());
    }
}

#[test]
fn errors_are_those_of_tei() {
    let server = start(Settings { models: vec![golden("tiny_bert")], max_inputs: Some(4), ..settings() });
    let long = "word ".repeat(3000);
    for (path, body, status, kind) in [
        ("/embed", json!({ "inputs": [] }), 400, "Empty"),
        ("/embed", json!({ "inputs": ["a", ""] }), 400, "Empty"),
        ("/embed_all", json!({ "inputs": "" }), 400, "Empty"),
        ("/tokenize", json!({ "inputs": "" }), 400, "Empty"),
        ("/decode", json!({ "ids": [[1], []] }), 400, "Empty"),
        ("/similarity", json!({ "inputs": { "source_sentence": "a", "sentences": [] } }), 400, "Empty"),
        ("/embed", json!({ "inputs": vec!["a"; 5] }), 422, "Validation"),
        ("/embed", json!({ "inputs": long, "truncate": false }), 422, "Validation"),
        ("/embed", json!({ "inputs": "a", "prompt_name": "nothing" }), 422, "Validation"),
        ("/embed", json!({ "inputs": "a", "dimensions": 0 }), 422, "Validation"),
        ("/embed", json!({ "inputs": 1 }), 422, "Validation"),
        ("/embed", json!({ "inputs": "a", "truncation_direction": "up" }), 422, "Validation"),
        ("/embed", json!({ "inputs": "a", "dimensions": 100_000 }), 422, "Validation"),
        ("/embed", json!({ "inputs": "a", "model": "another" }), 404, "Validation"),
        ("/embed_sparse", json!({ "inputs": "a" }), 424, "Backend"),
        ("/predict", json!({ "inputs": "a" }), 424, "Backend"),
        ("/rerank", json!({ "query": "a", "texts": ["b"] }), 424, "Backend"),
        ("/rerank", json!({ "query": "a", "texts": [] }), 400, "Empty"),
    ] {
        let reply = server.post(path, &body).json(status);
        assert_eq!(reply["error_type"], kind, "{path} {reply}");
        assert!(reply["error"].as_str().is_some_and(|e| e.len() > 10), "{reply}");
    }
    let limit = Embedder::with_config(golden_config("tiny_bert")).unwrap().max_tokens();
    for (body, told) in [
        (
            json!({ "inputs": "word ".repeat(3000), "truncate": false }),
            format!("Input validation error: `inputs` must have less than {limit} tokens. Given: "),
        ),
        (json!({ "inputs": "" }), "Input validation error: `inputs` cannot be empty".to_owned()),
        (json!({ "inputs": vec!["a"; 5] }), "batch size 5 > maximum allowed batch size 4".to_owned()),
        (
            json!({ "inputs": "a", "dimensions": 0 }),
            "Input validation error: `dimensions` should be positive".to_owned(),
        ),
    ] {
        let reply = server.post("/embed", &body);
        let reply: Value = serde_json::from_slice(&reply.body).unwrap();
        assert!(reply["error"].as_str().unwrap().starts_with(&told), "{reply}");
    }
    let cut = server.post("/embed", &json!({ "inputs": long, "truncation_direction": "Left" }));
    assert_eq!(cut.status, 200);
    let syntax = server.send("POST", "/embed", &[("content-type", "application/json")], b"{");
    assert_eq!((syntax.status, syntax.header("content-type")), (400, Some("text/plain; charset=utf-8")));
    assert_eq!(server.send("POST", "/embed", &[], b"{\"inputs\":\"a\"}").status, 415);
    assert_eq!(server.get("/embed").json(405)["error_type"], "Validation");
}

#[test]
fn rerank_predict_and_sparse_take_the_model_that_can() {
    let (reranker, classifier, sparse) =
        (TaskGolden::load("tiny_reranker"), TaskGolden::load("tiny_classifier"), TaskGolden::load("tiny_splade"));
    let models = vec![golden("tiny_bert"), task(&reranker, "r"), task(&classifier, "c"), task(&sparse, "s")];
    let server = start(Settings { models, ..settings() });
    let documents = ["by photosynthesis", "with a fork"];
    let config = Config { scores: Some(Scores::Sigmoid), ..of_task(&reranker) };
    let alone = Reranker::with_config(config).unwrap().rerank("how do plants eat", &documents, None).unwrap();
    let body = json!({ "query": "how do plants eat", "texts": documents, "return_text": true });
    let reply = server.post("/rerank", &body).json(200);
    for (found, ranked) in reply.as_array().unwrap().iter().zip(&alone) {
        assert_eq!((&found["index"], &found["text"]), (&json!(ranked.index), &json!(documents[ranked.index])));
        assert_eq!((found["score"].as_f64().unwrap() as f32).to_bits(), ranked.score.to_bits());
    }
    let config = Config { scores: Some(Scores::Softmax), ..of_task(&classifier) };
    let labels = Classifier::with_config(config).unwrap().classify("a cat").unwrap();
    let check = |found: &Value| {
        for (found, label) in found.as_array().unwrap().iter().zip(&labels) {
            assert_eq!(found["label"], label.label);
            assert_eq!((found["score"].as_f64().unwrap() as f32).to_bits(), label.score.to_bits());
        }
    };
    check(&server.post("/predict", &json!({ "inputs": "a cat" })).json(200));
    check(&server.post("/predict", &json!({ "inputs": [["a cat"], ["a", "b"]] })).json(200)[0]);
    assert!(server.post("/predict", &json!({ "inputs": ["a", "b"] })).json(200)[0]["label"].is_string());
    assert_eq!(server.post("/predict", &json!({ "inputs": [["a", "b", "c"]] })).status, 422);
    let alone = SparseEmbedder::with_config(of_task(&sparse)).unwrap().embed("a cat").unwrap();
    let reply = server.post("/embed_sparse", &json!({ "inputs": "a cat" })).json(200);
    let terms = reply[0].as_array().unwrap();
    assert_eq!(terms.len(), alone.len());
    for (found, (id, weight)) in terms.iter().zip(alone.ids.iter().zip(&alone.weights)) {
        assert_eq!(
            (found["index"].as_u64(), found["value"].as_f64().map(|v| v as f32)),
            (Some(u64::from(*id)), Some(*weight))
        );
    }
}

#[test]
fn tokens_and_back_similarity_root_and_vertex() {
    let server = start(Settings { models: vec![golden("tiny_bert")], ..settings() });
    let embedder = Embedder::with_config(golden_config("tiny_bert")).unwrap();
    let tokens = server.post("/tokenize", &json!({ "inputs": TEXTS })).json(200);
    for (i, text) in TEXTS.iter().enumerate() {
        let row = tokens[i].as_array().unwrap();
        let ids: Vec<u32> = row.iter().map(|t| t["id"].as_u64().unwrap() as u32).collect();
        assert_eq!(ids, embedder.tokenize(text).unwrap());
        assert_eq!((&row[0]["special"], &row[0]["start"]), (&json!(true), &Value::Null));
        // Places are in bytes.
        for token in row.iter().filter(|t| !t["start"].is_null()) {
            let at = |name: &str| token[name].as_u64().unwrap() as usize;
            assert_eq!(token["text"], text[at("start")..at("stop")]);
        }
        let decoded = server.post("/decode", &json!({ "ids": ids })).json(200);
        let special = server.post("/decode", &json!({ "ids": [ids], "skip_special_tokens": false })).json(200);
        assert!(special[0].as_str().unwrap().len() > decoded[0].as_str().unwrap().len());
    }
    let compared = json!({ "inputs": { "source_sentence": TEXTS[0], "sentences": TEXTS }, "parameters": {} });
    let found = server.post("/similarity", &compared).json(200);
    let rows = embedder.embed_batch(&TEXTS).unwrap();
    assert_eq!(bits_of(&found), bits(&embral::similarity(&rows, &rows)[..3]));
    assert_eq!(server.post("/", &compared).json(200), found);
    let row = server.post("/", &json!({ "inputs": TEXTS[1] })).json(200);
    assert_eq!(bits_of(&row[0]), bits(rows.row(1)));
    let both = json!({ "instances": [{ "inputs": TEXTS[0] }, { "inputs": [TEXTS[1], TEXTS[2]] }] });
    let reply = server.post("/vertex", &both).json(200);
    assert_eq!(bits_of(&reply["predictions"][1][1]), bits(rows.row(2)));
    let info = server.get("/info").json(200);
    assert_eq!((&info["model_id"], &info["model_type"]["embedding"]["pooling"]), (&json!("tiny_bert"), &json!("mean")));
    assert_eq!(info["max_input_length"], embedder.max_tokens());
}

#[test]
fn a_reranker_predicts_and_a_root_asked_with_parameters_nests() {
    let (reranker, classifier) = (TaskGolden::load("tiny_reranker"), TaskGolden::load("tiny_classifier"));
    let server = start(Settings { models: vec![golden("tiny_bert"), task(&reranker, "r")], ..settings() });
    let scored = server.post("/predict", &json!({ "inputs": ["how do plants eat", "by photosynthesis"] })).json(200);
    let body = json!({ "query": "how do plants eat", "texts": ["by photosynthesis"] });
    let ranked = server.post("/rerank", &body).json(200);
    assert_eq!((&scored[0]["label"], &scored[0]["score"]), (&json!("LABEL_0"), &ranked[0]["score"]));

    let server = start(Settings { models: vec![task(&classifier, "c")], ..settings() });
    let flat = server.post("/", &json!({ "inputs": "a cat" })).json(200);
    let nested = server.post("/", &json!({ "inputs": "a cat", "parameters": {} })).json(200);
    assert_eq!(nested, json!([flat]));
    let parameters = json!({ "top_k": 1, "function_to_apply": "sigmoid" });
    let first = server.post("/", &json!({ "inputs": "a cat", "parameters": parameters })).json(200);
    let config = Config { scores: Some(Scores::Sigmoid), ..of_task(&classifier) };
    let alone = Classifier::with_config(config).unwrap().classify("a cat").unwrap();
    assert_eq!((first[0].as_array().unwrap().len(), &first[0][0]["label"]), (1, &json!(alone[0].label)));
    assert_eq!((first[0][0]["score"].as_f64().unwrap() as f32).to_bits(), alone[0].score.to_bits());
}

#[test]
fn the_model_of_a_route_does_not_depend_on_which_are_open() {
    let (sparse, other) = (TaskGolden::load("tiny_splade"), golden("tiny_qwen3"));
    let models = vec![task(&sparse, "s"), golden("tiny_bert"), other];
    let server = start(Settings { models, lazy: Some(true), ..settings() });
    let ask = |body| server.post("/embed", &body).json(200);
    // The last one is open, and still not the first that gives vectors.
    ask(json!({ "inputs": TEXTS[0], "model": "tiny_qwen3" }));
    let alone = Embedder::with_config(golden_config("tiny_bert")).unwrap().embed(TEXTS[0]).unwrap();
    assert_eq!(bits_of(&ask(json!({ "inputs": TEXTS[0] }))[0]), bits(&alone));
}

#[test]
fn a_prompt_is_part_of_the_tokens_and_of_their_places() {
    let server = start(Settings { models: vec![golden("tiny_bert")], ..settings() });
    let info = Embedder::with_config(golden_config("tiny_bert")).unwrap().info().clone();
    for (name, prompt) in &info.prompts {
        let row = server.post("/tokenize", &json!({ "inputs": "a cat", "prompt_name": name })).json(200);
        let whole = server.post("/tokenize", &json!({ "inputs": format!("{prompt}a cat") })).json(200);
        assert_eq!(row, whole, "{name}");
    }
    assert_eq!(server.post("/tokenize", &json!({ "inputs": "a", "prompt_name": "nothing" })).status, 422);
}
