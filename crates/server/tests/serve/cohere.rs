//! Cohere's and Jina's routes.

use crate::{
    hub::inside,
    support::{bits, bits_of, golden, golden_config, of_task, settings, start, task},
};
use embral::{
    Config, Embedder, Prompt, Reranker, Scores, base64,
    quantize::{Calibration, Quantization, quantize},
};
use embral_server::{ModelEntry, Settings};
use embral_testkit::{golden::Golden, tasks::TaskGolden};
use serde_json::{Value, json};

#[test]
fn embed_by_type_and_plain() {
    let server = start(Settings { models: vec![golden("tiny_bert")], ..settings() });
    let texts = ["a cat", "rates"];
    let rows = Embedder::with_config(golden_config("tiny_bert")).unwrap().embed_batch(&texts).unwrap();
    let body = json!({ "model": "tiny_bert", "texts": texts, "input_type": "search_document", "priority": 3,
                       "embedding_types": ["float", "base64", "binary", "ubinary"], "truncate": "END" });
    let reply = server.post("/v2/embed", &body).json(200);
    let bytes = quantize(&rows, Quantization::Ubinary, None).unwrap();
    for i in 0..2 {
        assert_eq!(bits_of(&reply["embeddings"]["float"][i]), bits(rows.row(i)));
        let packed = base64::decode(reply["embeddings"]["base64"][i].as_str().unwrap()).unwrap();
        assert_eq!(bits(&packed), bits(rows.row(i)));
        let ubinary: Vec<u8> = serde_json::from_value(reply["embeddings"]["ubinary"][i].clone()).unwrap();
        assert_eq!(ubinary, bytes.row(i));
    }
    assert_eq!((&reply["texts"], &reply["response_type"]), (&json!(texts), &json!("embeddings_by_type")));
    assert!(reply["id"].is_string() && reply["meta"]["billed_units"]["input_tokens"].as_u64().unwrap() > 4, "{reply}");
    let plain = server.post("/v1/embed", &json!({ "texts": texts })).json(200);
    assert_eq!(
        (bits_of(&plain["embeddings"][1]), &plain["response_type"]),
        (bits(rows.row(1)), &json!("embeddings_floats"))
    );
    let parts =
        json!({ "inputs": [{ "content": [{ "type": "text", "text": "a cat" }] }], "input_type": "search_query" });
    assert_eq!(bits_of(&server.post("/v2/embed", &parts).json(200)["embeddings"]["float"][0]), bits(rows.row(0)));
    let short =
        Embedder::with_config(Config { dims: Some(8), ..golden_config("tiny_bert") }).unwrap().embed("rates").unwrap();
    let reply = server.post("/v2/embed", &json!({ "texts": ["rates"], "output_dimension": 8 })).json(200);
    assert_eq!(bits_of(&reply["embeddings"]["float"][0]), bits(&short));
    for (body, status) in [
        (json!({ "texts": [] }), 400),
        (json!({ "texts": ["a"], "input_type": "poem" }), 400),
        (json!({ "texts": ["a"], "truncate": "MIDDLE" }), 400),
        (json!({ "texts": ["word ".repeat(3000)], "truncate": "NONE" }), 400),
        (json!({ "texts": ["a"], "embedding_types": ["int8"] }), 422),
        (json!({ "texts": ["a"], "model": "embed-v9" }), 404),
        (json!({ "images": ["a"] }), 422),
        (json!({ "texts": ["a"], "inputs": [] }), 400),
    ] {
        assert!(server.post("/v2/embed", &body).json(status)["message"].is_string(), "{body}");
    }
}

#[test]
fn documents_are_ranked_on_every_path() {
    let golden_reranker = TaskGolden::load("tiny_reranker");
    let server = start(Settings { models: vec![golden("tiny_bert"), task(&golden_reranker, "ranks")], ..settings() });
    let documents = ["by photosynthesis", "with a fork", "rates"];
    let config = Config { scores: Some(Scores::Sigmoid), ..of_task(&golden_reranker) };
    let alone = Reranker::with_config(config).unwrap().rerank("how do plants eat", &documents, Some(2)).unwrap();
    let mixed = json!([documents[0], { "text": documents[1] }, documents[2]]);
    for path in ["/v1/rerank", "/v2/rerank", "/rerank"] {
        let body = json!({ "query": "how do plants eat", "documents": mixed, "top_n": 2, "return_documents": true });
        let reply = server.post(path, &body).json(200);
        let results = reply["results"].as_array().unwrap();
        assert_eq!(results.len(), 2);
        for (found, ranked) in results.iter().zip(&alone) {
            assert_eq!(found["index"], ranked.index);
            assert_eq!((found["relevance_score"].as_f64().unwrap() as f32).to_bits(), ranked.score.to_bits());
            assert_eq!(found["document"]["text"], documents[ranked.index]);
        }
        assert!(reply["usage"]["total_tokens"].as_u64().unwrap() > 8 && reply["meta"].is_object());
        let bad = server.post(path, &json!({ "query": "a", "documents": ["b"], "model": "tiny_bert" })).json(422);
        assert!(bad["message"].as_str().unwrap().contains("does not rerank"), "{path} {bad}");
    }
    assert_eq!(server.post("/v2/rerank", &json!({ "query": "a", "documents": [] })).status, 400);
    assert_eq!(server.post("/v2/rerank", &json!({ "query": "a", "documents": ["b"], "top_n": 0 })).status, 400);
}

#[test]
fn tokens_and_back() {
    let server = start(Settings { models: vec![golden("tiny_bert")], ..settings() });
    let reply = server.post("/v1/tokenize", &json!({ "text": "a cat sat", "model": "tiny_bert" })).json(200);
    assert_eq!(reply["tokens"].as_array().unwrap().len(), reply["token_strings"].as_array().unwrap().len());
    let text = server.post("/v1/detokenize", &json!({ "tokens": reply["tokens"] })).json(200);
    assert_eq!(text["text"], "a cat sat");
    assert_eq!(server.get("/v1/embed").json(405)["message"].as_str().map(|m| m.contains("GET")), Some(true));
    assert!(matches!(server.post("/v1/tokenize", &json!({})).json(400)["message"], Value::String(_)));
}

#[test]
fn input_types_are_prompts_of_the_model() {
    let model = Golden::load("tiny_bert").copy_of();
    let prompts = json!({ "prompts": { "query": "find: ", "clustering": "group: " }, "default_prompt_name": "query" });
    std::fs::write(model.path().join("config_sentence_transformers.json"), prompts.to_string()).unwrap();
    let name = model.path().to_str().unwrap().to_owned();
    let entry = ModelEntry { name: name.clone(), ..ModelEntry::default() };
    let server = start(Settings { models: vec![entry], ..settings() });
    let embedder = Embedder::with_config(Config::model(name)).unwrap();
    for (kind, prompt) in [
        (json!("search_query"), Prompt::Query),
        (json!("search_document"), Prompt::None),
        (json!("classification"), Prompt::None),
        (json!("clustering"), Prompt::Text("group: ")),
        (json!(null), Prompt::Default),
    ] {
        let wanted = embedder.embed_batch_as(&["a cat"], prompt).unwrap();
        for path in ["/v1/embed", "/v2/embed"] {
            let body = json!({ "texts": ["a cat"], "input_type": kind, "embedding_types": ["float"] });
            let reply = server.post(path, &body).json(200);
            assert_eq!(bits_of(&reply["embeddings"]["float"][0]), bits(wanted.row(0)), "{path} {kind}");
        }
    }
}

#[test]
fn bytes_are_by_the_ranges_that_were_kept() {
    let folder = golden("tiny_bert").name;
    let Some(_) = inside("cohere::bytes_are_by_the_ranges_that_were_kept", folder.as_ref()) else { return };
    let texts = ["a cat", "rates"];
    let embedder = Embedder::with_config(golden_config("tiny_bert")).unwrap();
    let rows = embedder.embed_batch(&texts).unwrap();
    let mut kept = Calibration::begin(&embedder, Prompt::Default).unwrap();
    kept.add(&embedder.embed_batch(&["one", "two", "three cats"]).unwrap()).unwrap();
    kept.write(&kept.path().unwrap()).unwrap();
    let ranges = kept.ranges().unwrap();
    let server = start(Settings { models: vec![golden("tiny_bert")], ..settings() });
    let body =
        json!({ "texts": texts, "input_type": "search_document", "embedding_types": ["int8", "uint8", "binary"] });
    let reply = server.post("/v2/embed", &body).json(200);
    let found = &reply["embeddings"];
    assert!(found.get("float").is_none(), "{reply}");
    for (name, form) in [("int8", Quantization::Int8), ("uint8", Quantization::Uint8), ("binary", Quantization::Binary)]
    {
        let wanted = quantize(&rows, form, Some(&ranges)).unwrap();
        for (i, row) in wanted.rows().enumerate() {
            let found: Vec<i64> = serde_json::from_value(found[name][i].clone()).unwrap();
            let signed = |byte: &u8| if name == "uint8" { i64::from(*byte) } else { i64::from(byte.cast_signed()) };
            assert_eq!(found, row.iter().map(signed).collect::<Vec<_>>(), "{name}");
        }
    }
}

#[test]
fn errors_have_a_message_and_nulls_are_nothing() {
    let server = start(Settings { models: vec![golden("tiny_bert")], ..settings() });
    for path in ["/v1/embed", "/v2/embed"] {
        for (body, status) in [
            (json!({}), 400),
            (json!({ "texts": "a" }), 400),
            (json!({ "texts": [1] }), 400),
            (json!({ "texts": ["a"], "embedding_types": ["nibble"] }), 400),
            (json!({ "texts": ["a"], "embedding_types": ["f16"] }), 400),
            (json!({ "texts": ["a"], "output_dimension": 100_000 }), 400),
            (json!({ "texts": ["a"], "output_dimension": 0 }), 400),
            (json!({ "texts": ["a"], "priority": "soon" }), 400),
            (json!({ "texts": ["a"], "model": "../../etc/passwd" }), 404),
            (json!({ "texts": ["a"], "input_type": "image" }), 422),
            (json!({ "inputs": [{ "content": [{ "type": "image_url", "image_url": { "url": "x" } }] }] }), 422),
            (json!({ "inputs": [{ "content": [{ "type": "smell" }] }] }), 400),
        ] {
            assert!(server.post(path, &body).json(status)["message"].is_string(), "{path} {body}");
        }
        assert!(server.send("POST", path, &[], b"{").json(400)["message"].is_string());
        let body = json!({ "texts": ["a"], "model": "tiny_bert", "input_type": "classification", "inputs": null,
                           "images": null, "embedding_types": null, "output_dimension": null, "truncate": null,
                           "priority": null, "max_tokens": null });
        let reply = server.post(path, &body).json(200);
        let version = &path[2..3];
        assert_eq!(reply["meta"]["api_version"]["version"], version);
        for sooner in [json!(-5), json!(0), json!(7), json!("high")] {
            assert_eq!(server.post(path, &json!({ "texts": ["a"], "priority": sooner })).status, 200);
        }
    }
    for path in ["/v1/rerank", "/v2/rerank", "/rerank", "/v1/reranking"] {
        // With no reranker among the models there is nothing to rank with.
        for (body, status) in [
            (json!({ "query": "a", "documents": ["b"] }), 422),
            (json!({ "query": "a", "documents": ["b"], "model": "/etc/passwd" }), 404),
            (json!({ "query": "a", "documents": [{ "title": "b" }] }), 400),
            (json!({ "query": ["a"], "documents": ["b"] }), 400),
        ] {
            assert!(server.post(path, &body).json(status)["message"].is_string(), "{path} {body}");
        }
    }
    let locked = start(Settings { api_key: Some("s3cret".to_owned()), ..settings() });
    for path in ["/v1/embed", "/v2/embed", "/v1/rerank", "/v2/rerank", "/v1/tokenize"] {
        assert!(locked.post(path, &json!({ "texts": ["a"] })).json(401)["message"].is_string());
    }
}

#[test]
fn a_reranker_ranks_and_scores_by_every_name_of_the_route() {
    let reranker = TaskGolden::load("tiny_reranker");
    let server = start(Settings { models: vec![golden("tiny_bert"), task(&reranker, "ranks")], ..settings() });
    let documents = ["by photosynthesis", "with a fork"];
    let query = "how do plants eat";
    let of = |scores| {
        let config = Config { scores: Some(scores), ..of_task(&reranker) };
        Reranker::with_config(config).unwrap().score(query, &documents).unwrap()
    };
    let number = |value: &Value| (value.as_f64().unwrap() as f32).to_bits();
    for (path, version) in [("/v1/rerank", "1"), ("/v2/rerank", "2"), ("/v1/reranking", "2"), ("/reranking", "2")] {
        let body = json!({ "query": query, "documents": documents, "model": "ranks", "top_n": null, "raw_scores": null,
                           "return_documents": null, "max_tokens_per_doc": 100, "rank_fields": ["text"], "priority": 1 });
        let reply = server.post(path, &body).json(200);
        assert_eq!((&reply["meta"]["api_version"]["version"], &reply["model"]), (&json!(version), &json!("ranks")));
        for found in reply["results"].as_array().unwrap() {
            let at = found["index"].as_u64().unwrap() as usize;
            assert_eq!(number(&found["relevance_score"]), of(Scores::Sigmoid)[at].to_bits());
            assert!(found.get("document").is_none(), "{found}");
        }
    }
    for path in ["/score", "/v1/score"] {
        for (body, scores) in [
            (json!({ "text_1": query, "text_2": documents }), Scores::Sigmoid),
            (json!({ "model": "ranks", "queries": [query, query], "documents": documents }), Scores::Sigmoid),
            (json!({ "text_1": query, "text_2": documents, "use_activation": false }), Scores::Logits),
        ] {
            let reply = server.post(path, &body).json(200);
            let found: Vec<u32> = reply["data"].as_array().unwrap().iter().map(|d| number(&d["score"])).collect();
            assert_eq!(found, bits(&of(scores)), "{path} {body}");
            assert!(reply["usage"]["total_tokens"].as_u64().unwrap() > 8 && reply["object"] == "list", "{reply}");
        }
        for (body, status) in [
            (json!({ "text_1": "a" }), 400),
            (json!({ "text_1": ["a", "b"], "text_2": "c" }), 400),
            (json!({ "text_1": "a", "text_2": [] }), 400),
            (json!({ "text_1": "a", "text_2": "b", "model": "tiny_bert" }), 400),
            (json!({ "text_1": "a", "text_2": "b", "model": "none" }), 404),
        ] {
            assert!(server.post(path, &body).json(status)["error"]["message"].is_string(), "{path} {body}");
        }
        assert!(server.get(path).json(404)["error"]["message"].is_string());
    }
}
