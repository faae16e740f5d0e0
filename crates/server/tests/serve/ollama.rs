//! Ollama's routes.

use crate::support::{Running, bits, bits_of, golden, golden_config, settings, standard, start, task};
use embral::{Config, Embedder};
use embral_server::Settings;
use embral_testkit::tasks::TaskGolden;
use serde_json::{Value, json};

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
        ("/api/embed", json!({ "model": "/etc/passwd", "input": "a" }), 404, "model '/etc/passwd' not found"),
        ("/api/embed", json!({ "model": "%2e%2e/%2e%2e/etc/passwd", "input": "a" }), 404, "not found"),
        ("/api/embed", json!({ "model": "tiny_bert/../tiny_bert", "input": "a" }), 404, "not found"),
        ("/api/embed", json!({ "model": null, "name": null }), 400, "model is required"),
        ("/api/embed", json!({ "model": "tiny_bert", "input": ["a", 7] }), 400, "invalid input type"),
        ("/api/embed", json!({ "model": "tiny_bert", "input": [1, 2] }), 400, "invalid input type"),
        ("/api/embed", json!({ "model": "tiny_bert", "input": "a", "keep_alive": "5 days" }), 400, "invalid duration"),
        ("/api/embed", json!({ "model": "tiny_bert", "input": "a", "dimensions": 100_000 }), 400, "dimensions"),
        ("/api/embeddings", json!({ "model": "x", "prompt": "a" }), 404, "model 'x' not found"),
        ("/api/embeddings", json!({ "prompt": "a" }), 400, "model is required"),
        ("/api/embeddings", json!({ "model": "tiny_bert", "prompt": 7 }), 400, "string"),
        ("/api/show", json!({ "model": "y" }), 404, "model 'y' not found"),
        ("/api/show", json!({ "model": "../../etc/passwd" }), 404, "not found"),
        ("/api/show", json!({}), 400, "model is required"),
        ("/api/pull", json!({}), 400, "model is required"),
        ("/api/generate", json!({ "model": "tiny_bert" }), 404, "/api/generate"),
        ("/api/pull", json!({ "name": "org/other" }), 403, "--allow-pull"),
        ("/api/pull", json!({ "name": "/etc" }), 403, "not allowed"),
    ] {
        let reply = server.post(path, &body).json(status);
        assert!(reply["error"].as_str().unwrap().contains(message), "{path} {reply}");
    }
    for path in ["/api/embed", "/api/embeddings", "/api/show", "/api/pull"] {
        assert_eq!(server.send("POST", path, &[], b" ").json(400)["error"], "missing request body");
        assert!(server.send("POST", path, &[], b"{\"model\":").json(400)["error"].is_string());
        assert!(server.get(path).json(405)["error"].is_string());
    }
    for name in ["x", "../../etc", "/etc"] {
        let body = json!({ "name": name }).to_string();
        assert!(server.send("DELETE", "/api/delete", &[], body.as_bytes()).json(404)["error"].is_string());
    }
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

#[test]
fn what_clients_send_besides_is_taken() {
    let server = start(Settings { models: vec![golden("tiny_bert")], ..settings() });
    let body = json!({ "name": "tiny_bert:latest", "model": null, "input": ["a cat"], "truncate": null, "dimensions": 0,
                       "keep_alive": null, "options": { "mirostat": null, "temperature": null }, "unknown": [{}] });
    let reply = server.post("/api/embed", &body).json(200);
    let embedder = Embedder::with_config(golden_config("tiny_bert")).unwrap();
    assert_eq!(bits_of(&reply["embeddings"][0]), bits(&embedder.embed("a cat").unwrap()));
    assert_eq!(reply["model"], "tiny_bert:latest");
    let short = Embedder::with_config(Config { dims: Some(8), ..golden_config("tiny_bert") }).unwrap();
    let reply =
        server.post("/api/embed", &json!({ "model": "tiny_bert", "input": "a cat", "dimensions": 8 })).json(200);
    assert_eq!(bits_of(&reply["embeddings"][0]), bits(&short.embed("a cat").unwrap()));
    let long = server.post("/api/embed", &json!({ "model": "tiny_bert", "input": "cat ".repeat(3000) })).json(200);
    assert_eq!(bits_of(&long["embeddings"][0]), bits(&embedder.embed(&"cat ".repeat(3000)).unwrap()));
    let none = json!({ "model": "tiny_bert", "prompt": null, "keep_alive": 300 });
    assert_eq!(server.post("/api/embeddings", &none).json(200)["embedding"], json!([]));
    assert_eq!(server.send("HEAD", "/", &[], b"").status, 200);
    assert_eq!(server.send("HEAD", "/api/tags", &[], b"").status, 200);
}

/// The first model: whether it is open, and the seconds that it is kept.
fn kept(server: &Running) -> (bool, i64) {
    let model = &server.get("/embral/v1/models").json(200)["models"][0];
    (model["loaded"] == true, model["keep_alive_s"].as_i64().unwrap())
}

#[test]
fn a_model_is_kept_as_long_as_its_last_request_says() {
    let server = start(Settings { models: vec![golden("tiny_bert")], ..settings() });
    let ask = |path: &str, keep: Value| {
        server.post(path, &json!({ "model": "tiny_bert", "input": "a", "prompt": "a", "keep_alive": keep })).json(200)
    };
    for (path, keep, found) in [
        ("/api/embed", json!("5m"), (true, 300)),
        ("/api/embed", json!("-1"), (true, -1)),
        ("/api/embed", json!("1h30m"), (true, 5400)),
        ("/api/embeddings", json!(20), (true, 20)),
        ("/api/embed", json!(null), (true, -1)),
        ("/api/embed", json!("0"), (false, 0)),
        ("/api/embed", json!(null), (true, -1)),
        ("/api/embeddings", json!(0), (false, 0)),
    ] {
        ask(path, keep.clone());
        assert_eq!(kept(&server), found, "{path} {keep}");
    }
    // Closed, it is listed as it was; opened again, it says how long that took.
    let tags = server.get("/api/tags").json(200);
    assert_eq!(server.get("/api/ps").json(200)["models"], json!([]));
    let shown = server.post("/api/show", &json!({ "model": "tiny_bert" })).json(200);
    assert_eq!(kept(&server), (false, 0));
    assert!(ask("/api/embed", json!("10m"))["load_duration"].as_u64().unwrap() > 0);
    assert_eq!(server.get("/api/tags").json(200), tags);
    assert_eq!(server.post("/api/show", &json!({ "model": "tiny_bert" })).json(200), shown);
    let row = &server.get("/api/ps").json(200)["models"][0];
    assert!(row["expires_at"].as_str().unwrap().ends_with('Z') && row["size"].as_u64().unwrap() > 0, "{row}");
    assert!(row["context_length"].is_u64() && row["size_vram"] == 0, "{row}");
    // No input: the model is opened or closed, and that is all.
    server.post("/api/embed", &json!({ "model": "tiny_bert", "keep_alive": 0 })).json(200);
    assert_eq!(kept(&server), (false, 0));
}

#[test]
fn workers_stay_whatever_a_client_asks_for() {
    let worker = start(Settings { models: vec![golden("tiny_bert")], ..settings() });
    let front = start(Settings { workers: vec![format!("http://{}", worker.address)], ..settings() });
    let name = front.get("/api/tags").json(200)["models"][0]["model"].as_str().unwrap().to_owned();
    for _ in 0..2 {
        let body = json!({ "model": name, "input": "a cat", "keep_alive": 0 });
        let reply = front.post("/api/embed", &body).json(200);
        let vector = Embedder::with_config(golden_config("tiny_bert")).unwrap().embed("a cat").unwrap();
        assert_eq!(bits_of(&reply["embeddings"][0]), bits(&vector));
    }
}

#[test]
fn models_of_other_tasks_are_listed_and_do_what_they_can() {
    let goldens = ["tiny_reranker", "tiny_classifier", "tiny_colbert"].map(TaskGolden::load);
    let names = ["ranks", "labels", "late"];
    let models = goldens.iter().zip(names).map(|(golden, name)| task(golden, name)).collect();
    let server = start(Settings { models, ..settings() });
    let tags = server.get("/api/tags").json(200);
    for (at, capability) in ["rerank", "classify", "embedding"].into_iter().enumerate() {
        let row = &tags["models"][at];
        assert_eq!(
            (&row["capabilities"], &row["name"]),
            (&json!([capability]), &json!(format!("{}:latest", names[at])))
        );
        assert!(row["details"]["parameter_size"].is_string() && row["size"].as_u64().unwrap() > 0, "{row}");
        let shown = server.post("/api/show", &json!({ "model": names[at] })).json(200);
        let arch = shown["model_info"]["general.architecture"].as_str().unwrap();
        assert!(shown["model_info"][format!("{arch}.embedding_length")].is_u64(), "{shown}");
        assert!(shown["model_info"][format!("{arch}.context_length")].is_u64(), "{shown}");
        for key in ["license", "modelfile", "parameters", "template", "modified_at"] {
            assert!(shown[key].is_string(), "{key}");
        }
    }
    for path in ["/api/embed", "/api/embeddings"] {
        let reply = server.post(path, &json!({ "model": "ranks", "input": "a", "prompt": "a" })).json(400);
        assert!(reply["error"].is_string(), "{reply}");
    }
}

#[test]
fn keys_are_asked_for_in_this_form() {
    let server = start(Settings { api_key: Some("s3cret".to_owned()), ..settings() });
    for (method, path) in
        [("GET", "/api/tags"), ("POST", "/api/embed"), ("DELETE", "/api/delete"), ("GET", "/api/version")]
    {
        let body = br#"{"model":"embral-static-256"}"#;
        assert!(server.send(method, path, &[], body).json(401)["error"].is_string(), "{path}");
    }
    let reply = server.send("GET", "/api/tags", &[("authorization", "Bearer s3cret")], b"");
    assert!(reply.json(200)["models"].is_array());
}

#[test]
fn the_model_inside_is_one_like_others() {
    let server = standard();
    let reply = server.post("/api/embed", &json!({ "model": "embral-static-256", "input": ["a cat", ""] })).json(200);
    let alone = Embedder::open_default().unwrap().embed_batch(&["a cat", ""]).unwrap();
    for row in 0..2 {
        assert_eq!(bits_of(&reply["embeddings"][row]), bits(alone.row(row)));
    }
    let shown = server.post("/api/show", &json!({ "model": "embral-static-256" })).json(200);
    let arch = shown["model_info"]["general.architecture"].as_str().unwrap();
    assert_eq!(shown["model_info"][format!("{arch}.embedding_length")], 256);
}
