//! Several models in one process.

use crate::support::{bits, bits_of, golden, golden_config, settings, start, try_start};
use embral::Embedder;
use embral_server::{ModelEntry, Settings};
use serde_json::{Value, json};
use std::{thread, time::Duration};

fn alias(name: &str, alias: &str) -> ModelEntry {
    ModelEntry { aliases: vec![alias.to_owned()], ..golden(name) }
}

fn vector(reply: &Value) -> Vec<u32> {
    bits_of(&reply["data"][0]["embedding"])
}

#[test]
fn each_model_answers_by_its_names_at_the_same_time() {
    let models = vec![alias("tiny_bert", "text-embedding-3-small"), golden("tiny_qwen3"), golden("tiny_distilbert")];
    let server = start(Settings { models, ..settings() });
    let names = ["tiny_bert", "tiny_qwen3", "tiny_distilbert"];
    let wanted = names.map(|name| bits(&Embedder::with_config(golden_config(name)).unwrap().embed("a cat").unwrap()));
    thread::scope(|scope| {
        for worker in 0..6 {
            let (server, wanted) = (&server, &wanted);
            scope.spawn(move || {
                for n in 0..20 {
                    let which = (worker + n) % 3;
                    let body = json!({ "input": "a cat", "model": names[which] });
                    assert_eq!(vector(&server.post("/v1/embeddings", &body).json(200)), wanted[which]);
                }
            });
        }
    });
    let by_alias =
        server.post("/v1/embeddings", &json!({ "input": "a cat", "model": "text-embedding-3-small" })).json(200);
    assert_eq!((vector(&by_alias), &by_alias["model"]), (wanted[0].clone(), &json!("text-embedding-3-small")));
    let first = server.post("/v1/embeddings", &json!({ "input": "a cat" })).json(200);
    assert_eq!(vector(&first), wanted[0]);
}

fn loaded(server: &crate::support::Running) -> Vec<bool> {
    let models = server.get("/embral/v1/models").json(200);
    models["models"].as_array().unwrap().iter().map(|model| model["loaded"] == true).collect()
}

#[test]
fn models_are_opened_when_they_are_needed_and_closed_when_they_are_not() {
    let models = vec![golden("tiny_bert"), golden("tiny_qwen3")];
    let server = start(Settings { models, lazy: Some(true), keep_alive: Some(1), ..settings() });
    assert_eq!(loaded(&server), [false, false]);
    server.post("/v1/embeddings", &json!({ "input": "a", "model": "tiny_qwen3" })).json(200);
    assert_eq!(loaded(&server), [false, true]);
    for _ in 0..600 {
        if loaded(&server) == [false, false] {
            break;
        }
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(loaded(&server), [false, false]);
    server.post("/v1/embeddings", &json!({ "input": "a", "model": "tiny_qwen3" })).json(200);
}

#[test]
fn a_bound_of_memory_closes_what_was_used_longest_ago() {
    let models = vec![golden("tiny_bert"), golden("tiny_qwen3"), golden("tiny_modernbert")];
    let server = start(Settings { models, lazy: Some(true), model_memory: Some("10GiB".to_owned()), ..settings() });
    let ask = |server: &crate::support::Running, model: &str| {
        server.post("/v1/embeddings", &json!({ "input": "a", "model": model })).status
    };
    assert_eq!(["tiny_bert", "tiny_qwen3", "tiny_modernbert"].map(|name| ask(&server, name)), [200; 3]);
    assert_eq!(loaded(&server), [true; 3]);
    let bytes: u64 = {
        let models = server.get("/embral/v1/models").json(200);
        models["models"].as_array().unwrap().iter().map(|m| m["info"]["memory_bytes"].as_u64().unwrap()).max().unwrap()
    };
    drop(server);
    // Room for the largest of them and half of one more.
    let models = vec![golden("tiny_bert"), golden("tiny_qwen3"), golden("tiny_modernbert")];
    let most = Some(format!("{}", bytes + bytes / 4));
    let server = start(Settings { models, lazy: Some(true), model_memory: most, ..settings() });
    for name in ["tiny_bert", "tiny_qwen3", "tiny_modernbert", "tiny_bert"] {
        assert_eq!(ask(&server, name), 200, "{name}");
    }
    assert!(loaded(&server).iter().filter(|loaded| **loaded).count() < 3);
    drop(server);
    let models = vec![golden("tiny_bert")];
    let server = start(Settings { models, lazy: Some(true), model_memory: Some("1KiB".to_owned()), ..settings() });
    assert_eq!(ask(&server, "tiny_bert"), 503);
}

#[test]
fn what_cannot_be_opened_ends_the_start_or_is_said_to_who_asks() {
    let nowhere = || ModelEntry { name: "no-such-model".to_owned(), ..ModelEntry::default() };
    let failed = try_start(Settings { models: vec![nowhere()], offline: Some(true), ..settings() });
    let error = failed.err().unwrap().to_string();
    assert!(error.contains("no-such-model"), "{error}");
    let models = vec![golden("tiny_bert"), nowhere()];
    let server = start(Settings { models, lazy: Some(true), offline: Some(true), ..settings() });
    server.post("/v1/embeddings", &json!({ "input": "a" })).json(200);
    let reply = server.post("/v1/embeddings", &json!({ "input": "a", "model": "no-such-model" })).json(503);
    assert!(reply["error"]["message"].as_str().unwrap().contains("cannot be opened"), "{reply}");
}

#[test]
fn kept_vectors_are_counted_and_the_same() {
    let settings =
        Settings { models: vec![golden("tiny_bert")], vector_cache_memory: Some("16MiB".to_owned()), ..settings() };
    let server = start(settings);
    let body = json!({ "input": ["one text", "another"] });
    let first = server.post("/v1/embeddings", &body).json(200);
    assert_eq!(server.post("/v1/embeddings", &body).json(200), first);
    let cache = &server.get("/embral/v1/status").json(200)["models"][0]["cache"];
    assert_eq!((&cache["hits"], &cache["misses"]), (&json!(2), &json!(3)));
}
