//! Ollama's routes.

use crate::support::{bits, bits_of, golden, golden_config, settings, start};
use embral::{Config, Embedder};
use embral_server::Settings;
use serde_json::json;

#[test]
fn both_embedding_routes() {
    let server = start(Settings { models: vec![golden("tiny_bert")], ..settings() });
    let embedder = Embedder::with_config(golden_config("tiny_bert")).unwrap();
    let raw = Embedder::with_config(Config { normalize: Some(false), ..golden_config("tiny_bert") }).unwrap();
    let body = json!({ "model": "tiny_bert", "input": ["a cat", "rates"], "options": { "num_ctx": null }, "keep_alive": "5m" });
    let reply = server.post("/api/embed", &body).json(200);
    for (i, text) in ["a cat", "rates"].into_iter().enumerate() {
        assert_eq!(bits_of(&reply["embeddings"][i]), bits(&embedder.embed(text).unwrap()));
    }
    assert!(reply["total_duration"].as_u64().unwrap() > 0 && reply["load_duration"].is_u64());
    assert!(reply["prompt_eval_count"].as_u64().unwrap() > 4);
    for empty in [
        json!({ "model": "tiny_bert" }),
        json!({ "model": "tiny_bert", "input": "" }),
        json!({ "model": "tiny_bert", "input": [] }),
    ] {
        assert_eq!(server.post("/api/embed", &empty).json(200)["embeddings"], json!([]));
    }
    let old = server.post("/api/embeddings", &json!({ "model": "tiny_bert:latest", "prompt": "a cat" })).json(200);
    assert_eq!(bits_of(&old["embedding"]), bits(&raw.embed("a cat").unwrap()));
    assert_eq!(
        server.post("/api/embeddings", &json!({ "model": "tiny_bert", "prompt": "" })).json(200)["embedding"],
        json!([])
    );
}

#[test]
fn errors_are_text() {
    let server = start(Settings { models: vec![golden("tiny_bert")], ..settings() });
    let long = "word ".repeat(3000);
    for (path, body, status, message) in [
        ("/api/embed", json!({ "model": "x", "input": "a" }), 404, "model 'x' not found"),
        ("/api/embed", json!({ "model": "../../etc/passwd", "input": "a" }), 404, "not found"),
        ("/api/embed", json!({ "input": "a" }), 400, "model is required"),
        ("/api/embed", json!({ "model": "tiny_bert", "input": 7 }), 400, "invalid input type"),
        (
            "/api/embed",
            json!({ "model": "tiny_bert", "input": long, "truncate": false }),
            400,
            "the input length exceeds the context length",
        ),
        ("/api/show", json!({ "model": "y" }), 404, "not found"),
        ("/api/pull", json!({ "name": "org/other" }), 403, "--allow-pull"),
        ("/api/pull", json!({ "name": "/etc" }), 403, "not allowed"),
    ] {
        let reply = server.post(path, &body).json(status);
        assert!(reply["error"].as_str().unwrap().contains(message), "{path} {reply}");
    }
    assert_eq!(server.send("POST", "/api/embed", &[], b"").json(400)["error"], "missing request body");
    let reply = server.send("DELETE", "/api/delete", &[], br#"{"model":"tiny_bert"}"#).json(403);
    assert!(reply["error"].as_str().unwrap().contains("not allowed"), "{reply}");
}

#[test]
fn models_are_listed_shown_and_closed() {
    let server = start(Settings { models: vec![golden("tiny_bert")], ..settings() });
    let tags = server.get("/api/tags").json(200);
    let row = &tags["models"][0];
    assert_eq!(
        (&row["name"], &row["model"], &row["capabilities"]),
        (&json!("tiny_bert:latest"), &json!("tiny_bert:latest"), &json!(["embedding"]))
    );
    assert_eq!(row["digest"].as_str().unwrap().len(), 64);
    let shown = server.post("/api/show", &json!({ "name": "tiny_bert" })).json(200);
    let width = Embedder::with_config(golden_config("tiny_bert")).unwrap().dimensions();
    assert_eq!(
        (&shown["model_info"]["bert.embedding_length"], &shown["capabilities"]),
        (&json!(width), &json!(["embedding"]))
    );
    assert_eq!(server.get("/api/ps").json(200)["models"].as_array().unwrap().len(), 1);
    // Nothing is kept after this one.
    server.post("/api/embed", &json!({ "model": "tiny_bert", "input": "a", "keep_alive": 0 })).json(200);
    assert_eq!(server.get("/api/ps").json(200)["models"], json!([]));
    let pulled = server.post("/api/pull", &json!({ "name": "tiny_bert" }));
    assert_eq!(String::from_utf8(pulled.body).unwrap().lines().last(), Some(r#"{"status":"success"}"#));
    assert_eq!(
        server.post("/api/pull", &json!({ "model": "tiny_bert", "stream": false })).json(200),
        json!({ "status": "success" })
    );
    assert!(server.get("/api/version").json(200)["version"].as_str().unwrap().contains('.'));
    assert_eq!(server.get("/").body, b"Ollama is running");
}
