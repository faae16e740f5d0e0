//! `/v1/embeddings` and `/v1/models`.

use crate::support::{bits, bits_of, golden, golden_config, settings, standard, start};
use embral::{Embedder, base64};
use embral_server::Settings;
use serde_json::json;

const TEXTS: [&str; 3] = ["a cat sat on the mat", "", "interest rates rose"];

#[test]
fn vectors_are_those_of_the_library_in_both_forms() {
    let server = start(Settings { models: vec![golden("tiny_bert")], ..settings() });
    let alone = Embedder::with_config(golden_config("tiny_bert")).unwrap().embed_batch(&TEXTS).unwrap();
    let float = server.post("/v1/embeddings", &json!({ "input": TEXTS, "model": "tiny_bert" })).json(200);
    let packed = json!({ "input": TEXTS, "model": "tiny_bert", "encoding_format": "base64", "user": "me" });
    let packed = server.post("/v1/embeddings", &packed).json(200);
    for (i, text) in TEXTS.iter().enumerate() {
        let row = bits(alone.row(i));
        assert_eq!((&float["data"][i]["index"], bits_of(&float["data"][i]["embedding"])), (&json!(i), row.clone()));
        let packed = base64::decode(packed["data"][i]["embedding"].as_str().unwrap()).unwrap();
        assert_eq!(bits(&packed), row);
        let one = server.post("/v1/embeddings", &json!({ "input": text, "model": "" })).json(200);
        assert_eq!(bits_of(&one["data"][0]["embedding"]), row);
    }
    assert_eq!((&float["object"], &float["model"]), (&json!("list"), &json!("tiny_bert")));
    assert_eq!(float["usage"]["prompt_tokens"], float["usage"]["total_tokens"]);
    assert!(float["usage"]["total_tokens"].as_u64().unwrap() >= 9);
}

#[test]
fn token_ids_and_fewer_dimensions() {
    let server = start(Settings { models: vec![golden("tiny_bert")], ..settings() });
    let embedder = Embedder::with_config(golden_config("tiny_bert")).unwrap();
    let ids = embedder.tokenize(TEXTS[0]).unwrap();
    for input in [json!(ids), json!([ids])] {
        let reply = server.post("/v1/embeddings", &json!({ "input": input, "model": "tiny_bert" })).json(200);
        assert_eq!(bits_of(&reply["data"][0]["embedding"]), bits(&embedder.embed(TEXTS[0]).unwrap()));
    }
    let short = Embedder::with_config(embral::Config { dims: Some(5), ..golden_config("tiny_bert") }).unwrap();
    let reply = server.post("/v1/embeddings", &json!({ "input": TEXTS[0], "dimensions": 5 })).json(200);
    assert_eq!(bits_of(&reply["data"][0]["embedding"]), bits(&short.embed(TEXTS[0]).unwrap()));
}

#[test]
fn errors_have_the_four_fields() {
    let server =
        start(Settings { truncate: Some("error".to_owned()), models: vec![golden("tiny_bert")], ..settings() });
    let long = "word ".repeat(5000);
    for (body, status, param, code) in [
        (json!({ "input": [] }), 400, json!("input"), json!(null)),
        (json!({ "input": 7 }), 400, json!(null), json!(null)),
        (json!({ "model": "x" }), 400, json!(null), json!(null)),
        (json!({ "input": "a", "model": "gpt-9" }), 404, json!("model"), json!("model_not_found")),
        (json!({ "input": "a", "dimensions": 0 }), 400, json!("dimensions"), json!(null)),
        (json!({ "input": "a", "dimensions": 10_000 }), 400, json!("dimensions"), json!(null)),
        (json!({ "input": "a", "encoding_format": "hex" }), 400, json!(null), json!(null)),
        (json!({ "input": ["a", long] }), 400, json!("input"), json!("context_length_exceeded")),
        (json!({ "input": [[4_000_000]] }), 400, json!("input"), json!(null)),
    ] {
        let reply = server.post("/v1/embeddings", &body).json(status);
        let error = &reply["error"];
        assert_eq!((&error["param"], &error["code"]), (&param, &code), "{reply}");
        assert!(error["message"].as_str().is_some_and(|m| m.len() > 10) && error["type"].is_string(), "{reply}");
    }
    let reply = server.post("/v1/embeddings", &json!({ "input": [[4_000_000]] })).json(400);
    assert!(reply["error"]["message"].as_str().unwrap().contains("check_embedding_ctx_length"), "{reply}");
}

#[test]
fn models_are_listed_and_found_by_every_name() {
    let server = standard();
    let list = server.get("/v1/models").json(200);
    let name = list["data"][0]["id"].as_str().unwrap();
    assert_eq!((&list["object"], &list["data"][0]["object"]), (&json!("list"), &json!("model")));
    assert_eq!(server.get(&format!("/v1/models/{name}")).json(200)["id"], name);
    for unknown in ["org%2Fother", "%ff"] {
        assert_eq!(server.get(&format!("/v1/models/{unknown}")).json(404)["error"]["code"], "model_not_found");
    }
}
