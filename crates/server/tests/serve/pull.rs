//! `/api/pull` and `/api/delete`, against a hub of their own.

use crate::{
    hub::{SLOW, inside},
    support::{Reply, Running, bits, bits_of, golden, golden_config, settings, start},
};
use embral::Embedder;
use embral_server::{ModelEntry, Settings};
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    io::{Read, Write},
    path::Path,
    thread,
    time::Duration,
};

const WEIGHTS: &str = "model.safetensors";

fn allowed() -> Settings {
    Settings { models: vec![golden("tiny_qwen3")], allow_pull: Some(true), ..settings() }
}

fn folder(name: &str) -> std::path::PathBuf {
    golden(name).name.into()
}

/// The lines of an answer; each is a chunk of its own.
fn lines(reply: &Reply) -> Vec<Value> {
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/x-ndjson")));
    let text = std::str::from_utf8(&reply.body).unwrap();
    text.lines().filter(|line| line.starts_with('{')).map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn delete(server: &Running, body: &Value) -> Reply {
    server.send("DELETE", "/api/delete", &[], body.to_string().as_bytes())
}

#[test]
fn a_model_is_pulled_served_and_deleted() {
    let Some(home) = inside("pull::a_model_is_pulled_served_and_deleted", &folder("tiny_bert")) else { return };
    let server = start(allowed());
    let embed = json!({ "model": "org/tiny", "input": "a cat" });
    assert_eq!(server.post("/api/embed", &embed).json(404)["error"], "model 'org/tiny' not found");
    let pulled = lines(&server.post("/api/pull", &json!({ "model": "org/tiny:latest", "insecure": false })));
    assert_eq!(pulled[0], json!({ "status": "pulling manifest" }));
    assert_eq!(pulled.last().unwrap(), &json!({ "status": "success" }));
    let bytes = fs::metadata(folder("tiny_bert").join(WEIGHTS)).unwrap().len();
    let of_weights = pulled.iter().rfind(|line| line["status"] == "pulling model.safetensors").unwrap();
    assert_eq!((&of_weights["total"], &of_weights["completed"]), (&json!(bytes), &json!(bytes)));
    assert!(of_weights["digest"].is_string());
    let vector = Embedder::with_config(golden_config("tiny_bert")).unwrap().embed("a cat").unwrap();
    assert_eq!(bits_of(&server.post("/api/embed", &embed).json(200)["embeddings"][0]), bits(&vector));
    let tags = server.get("/api/tags").json(200);
    assert!(tags["models"].as_array().unwrap().iter().any(|row| row["model"] == "org/tiny:latest"), "{tags}");
    assert_eq!(
        server.post("/api/pull", &json!({ "name": "org/tiny", "stream": false })).json(200),
        json!({ "status": "success" })
    );
    let cached = home.join("hf/hub/models--org--tiny");
    assert!(cached.is_dir());
    let gone = delete(&server, &json!({ "name": "org/tiny" }));
    assert_eq!((gone.status, gone.body.len(), cached.is_dir()), (200, 0, false));
    assert_eq!(server.post("/api/embed", &embed).status, 404);
    assert_eq!(delete(&server, &json!({ "model": "org/tiny" })).json(404)["error"], "model 'org/tiny' not found");
    // What the server was started with stays.
    assert!(delete(&server, &json!({ "model": "tiny_qwen3" })).json(403)["error"].is_string());
    assert_eq!(server.post("/api/embed", &json!({ "model": "tiny_qwen3", "input": "a" })).status, 200);
}

#[test]
fn what_cannot_be_pulled_is_said_with_a_status() {
    let Some(home) = inside("pull::what_cannot_be_pulled_is_said_with_a_status", &folder("tiny_bert")) else { return };
    let server = start(allowed());
    for stream in [true, false] {
        let pull = |name: &str, status| {
            let reply = server.post("/api/pull", &json!({ "model": name, "stream": stream })).json(status);
            reply["error"].as_str().unwrap().to_owned()
        };
        assert!(pull("org/other", 404).contains("'org/other' not found"));
        assert!(pull("no-such-model", 404).contains("not found"));
        for name in ["../../etc/passwd", "/etc/passwd", "%2e%2e/x", "a/b/c", "org/..", "http://127.0.0.1:1/v1?model=x"]
        {
            let message = pull(name, 400);
            assert!(message.contains("invalid model name"), "{name} {message}");
        }
        assert_eq!(pull("", 400), "model is required");
    }
    assert!(!home.join("hf").exists());
    assert_eq!(server.send("POST", "/api/pull", &[], b"").json(400)["error"], "missing request body");
    let offline = start(Settings { offline: Some(true), ..allowed() });
    assert!(offline.post("/api/pull", &json!({ "model": "org/tiny" })).json(503)["error"].is_string());
}

#[test]
fn a_model_of_the_store_is_not_deleted_under_a_server_that_was_started_with_its_folder() {
    let name = "pull::a_model_of_the_store_is_not_deleted_under_a_server_that_was_started_with_its_folder";
    let Some(home) = inside(name, &folder("tiny_bert")) else { return };
    let server = start(allowed());
    lines(&server.post("/api/pull", &json!({ "model": "org/tiny" })));
    drop(server);
    let snapshots = fs::read_dir(home.join("hf/hub/models--org--tiny/snapshots")).unwrap();
    let path = snapshots.flatten().next().unwrap().path().to_str().unwrap().to_owned();
    let mine = ModelEntry { name: path.clone(), aliases: vec!["mine".to_owned()], ..ModelEntry::default() };
    for lazy in [false, true] {
        let models = vec![mine.clone()];
        let server = start(Settings { models, serve_stored: Some(true), lazy: Some(lazy), ..allowed() });
        let reply = delete(&server, &json!({ "model": "org/tiny" })).json(403);
        assert!(reply["error"].as_str().unwrap().contains("a folder of it") && Path::new(&path).is_dir(), "{reply}");
        assert_eq!(server.post("/api/embed", &json!({ "model": "mine", "input": "a" })).status, 200);
    }
    // Who may not pull may not delete.
    let server = start(Settings { serve_stored: Some(true), allow_pull: None, ..allowed() });
    let reply = delete(&server, &json!({ "model": "org/tiny" })).json(403);
    assert!(reply["error"].as_str().unwrap().contains("--allow-pull"), "{reply}");
    let pulled = lines(&server.post("/api/pull", &json!({ "model": "org/tiny" })));
    assert_eq!(pulled.last().unwrap(), &json!({ "status": "success" }));
}

/// The download of a client that has left, which holds a lock on its file, ends.
fn ends(part: &Path) {
    for _ in 0..600 {
        if File::open(part).unwrap().try_lock().is_ok() {
            let here = fs::metadata(part).unwrap().len();
            return assert!((1..SLOW as u64).contains(&here), "{here}");
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("the download goes on");
}

#[test]
fn a_download_ends_when_its_client_leaves() {
    let model = tempfile::tempdir().unwrap();
    fs::write(model.path().join("config.json"), "{}").unwrap();
    fs::write(model.path().join(WEIGHTS), vec![7; SLOW]).unwrap();
    let Some(home) = inside("pull::a_download_ends_when_its_client_leaves", model.path()) else { return };
    let server = start(allowed());
    for stream in [true, false] {
        let body = json!({ "model": "org/tiny", "stream": stream }).to_string();
        let mut client = server.connect();
        write!(client, "POST /api/pull HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
        let part = home.join("hf/hub/models--org--tiny/blobs").join(format!("{WEIGHTS}.incomplete"));
        if stream {
            let mut seen = Vec::new();
            while !String::from_utf8_lossy(&seen).contains(WEIGHTS) {
                let mut some = [0; 512];
                let read = client.read(&mut some).unwrap();
                assert!(read > 0, "{}", String::from_utf8_lossy(&seen));
                seen.extend_from_slice(&some[..read]);
            }
        }
        // It is under way once its file is locked.
        let locked = || File::open(&part).is_ok_and(|file| file.try_lock().is_err());
        while !locked() {
            thread::sleep(Duration::from_millis(10));
        }
        drop(client);
        ends(&part);
    }
}
