//! Cohere's and Jina's routes.

use crate::support::{bits, bits_of, golden, golden_config, of_task, settings, start, task};
use embral::{
    Config, Embedder, Reranker, Scores, base64,
    quantize::{Quantization, quantize},
};
use embral_server::Settings;
use embral_testkit::tasks::TaskGolden;
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
