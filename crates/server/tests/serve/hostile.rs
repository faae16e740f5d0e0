//! What no client should send: a status for each, no panic, and the server answers the next one.

use crate::support::{Running, golden, settings, standard, start};
use embral_server::Settings;
use serde_json::json;
use std::{fs, io::Write, path::Path};

fn still_answers(server: &Running) {
    assert_eq!(server.post("/v1/embeddings", &json!({ "input": "a" })).status, 200);
}

fn send(server: &Running, path: &str, body: &[u8]) -> u16 {
    server.send("POST", path, &[("content-type", "application/json")], body).status
}

#[test]
fn bodies_that_are_no_request() {
    let server = standard();
    let deep = [b"{\"input\":".as_slice(), &[b'['; 100_000]].concat();
    let objects = "{\"a\":".repeat(50_000);
    let bodies: [&[u8]; 14] = [
        b"",
        b"{",
        b"null",
        b"[]",
        b"{\"input\":\"\xff\xfe\"}",
        b"{\"input\":\"\\ud800\"}",
        b"{\"input\":1e999}",
        b"{\"input\":[1e308,2]}",
        b"{\"input\":[-1]}",
        b"{\"input\":[99999999999999999999999999]}",
        b"{\"input\":{\"a\":1}}",
        b"{\"input\":\"a\",\"dimensions\":-1}",
        &deep,
        objects.as_bytes(),
    ];
    for path in ["/v1/embeddings", "/embral/v1/embed"] {
        for body in bodies {
            let status = send(&server, path, body);
            assert_eq!(status, 400, "{path} {}", String::from_utf8_lossy(&body[..body.len().min(60)]));
        }
    }
    still_answers(&server);
}

#[test]
fn too_much_is_refused_before_it_is_read() {
    let server = start(Settings { body_limit: Some("64KiB".to_owned()), max_inputs: Some(100), ..settings() });
    let large = format!("{{\"input\":\"{}\"}}", "x".repeat(70_000));
    assert_eq!(send(&server, "/v1/embeddings", large.as_bytes()), 413);
    // By its length alone: nothing of it is sent.
    let head = "POST /v1/embeddings HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 100000000\r\n\r\n";
    assert_eq!(server.raw(head.as_bytes()).status, 413);
    let many = json!({ "input": vec!["a"; 101] });
    assert_eq!(server.post("/v1/embeddings", &many).status, 400);
    assert_eq!(server.post("/embral/v1/embed", &many).status, 413);
    still_answers(&server);
}

#[test]
fn a_million_empty_texts() {
    let server = standard();
    let body = format!("{{\"input\":[{}\"\"]}}", "\"\",".repeat(999_999));
    assert_eq!(send(&server, "/v1/embeddings", body.as_bytes()), 400);
    still_answers(&server);
}

#[test]
fn heads_that_are_none() {
    let server = standard();
    let flood: String = (0..5000).map(|i| format!("x-{i}: y\r\n")).collect();
    let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(1 << 20));
    for (bytes, statuses) in [
        (format!("GET /live HTTP/1.1\r\nhost: x\r\n{flood}\r\n"), &[0, 431][..]),
        (long, &[0, 414, 431]),
        ("NONSENSE\r\n\r\n".to_owned(), &[0, 400]),
        ("GET /live HTTP/9.9\r\n\r\n".to_owned(), &[0, 400, 505]),
        ("POST /v1/embeddings HTTP/1.1\r\nhost: x\r\ncontent-length: nope\r\n\r\n".to_owned(), &[0, 400]),
        (
            "POST /v1/embeddings HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"
                .to_owned(),
            &[0, 400],
        ),
    ] {
        let status = server.raw(bytes.as_bytes()).status;
        assert!(statuses.contains(&status), "{status} for {}", &bytes[..40.min(bytes.len())]);
    }
    still_answers(&server);
}

#[test]
fn clients_that_never_finish_are_given_up() {
    let server = start(Settings { client_timeout: Some(1), ..settings() });
    let mut head = server.connect();
    head.write_all(b"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\nx-slow: ").unwrap();
    let mut body = server.connect();
    body.write_all(b"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 20\r\n\r\n{")
        .unwrap();
    // The connections end by themselves, without one more byte from here.
    let statuses = [&mut head, &mut body].map(|stream| crate::support::Reply::read(stream).status);
    assert!([0, 408].contains(&statuses[0]), "{statuses:?}");
    assert_eq!(statuses[1], 408);
    still_answers(&server);
}

#[test]
fn more_connections_than_there_are_places_wait() {
    let server = start(Settings { max_connections: Some(4), client_timeout: Some(1), ..settings() });
    let idle: Vec<_> = (0..12).map(|_| server.connect()).collect();
    // The idle ones are given up one after the other, and this one has its turn.
    still_answers(&server);
    drop(idle);
}

#[test]
fn no_name_of_a_model_is_a_path() {
    let outside = tempfile::tempdir().unwrap();
    let folder = outside.path().join("secret");
    copy(Path::new(&golden("tiny_bert").name), &folder);
    let server = start(Settings { serve_stored: Some(true), ..settings() });
    let path = folder.to_str().unwrap();
    for name in
        [path, "../../etc/passwd", "/etc/passwd", "..", "a/../../b", "file:///etc/passwd", "a\u{0}b", "~", "%2e%2e%2f"]
    {
        let reply = server.post("/v1/embeddings", &json!({ "input": "a", "model": name }));
        assert_eq!(reply.status, 404, "{name}");
        assert!(!String::from_utf8_lossy(&reply.body).contains("No such file"), "{name}");
    }
    still_answers(&server);
}

#[test]
fn a_vector_that_is_not_finite_is_an_error_with_the_index_of_its_text() {
    let outside = tempfile::tempdir().unwrap();
    let folder = outside.path().join("overflows");
    copy(Path::new(&golden("tiny_bert").name), &folder);
    overflow(&folder.join("model.safetensors"), "encoder.layer.1.output.LayerNorm.weight");
    let model = embral_server::ModelEntry { name: folder.to_str().unwrap().to_owned(), ..Default::default() };
    let server = start(Settings { models: vec![model], lazy: Some(true), ..settings() });
    for path in ["/v1/embeddings", "/embral/v1/embed"] {
        let reply = server.post(path, &json!({ "input": ["a", "b"] }));
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        assert_eq!(reply.status, 500, "{text}");
        assert!(text.contains("text 0 gave a vector that is not finite"), "{text}");
    }
    // Nobody can be served: the server lives, and says that it is not ready.
    assert_eq!((server.get("/live").status, server.get("/ready").status), (200, 503));
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(&path, &to).unwrap();
        }
    }
}

/// Makes every number of a tensor of a safetensors file so large that products of it overflow.
fn overflow(file: &Path, tensor: &str) {
    let mut bytes = fs::read(file).unwrap();
    let head = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + head]).unwrap();
    let name = header.as_object().unwrap().keys().find(|name| name.ends_with(tensor)).unwrap();
    let offsets = &header[name]["data_offsets"];
    let at = |i: usize| 8 + head + offsets[i].as_u64().unwrap() as usize;
    for value in bytes[at(0)..at(1)].chunks_exact_mut(4) {
        value.copy_from_slice(&3e38_f32.to_le_bytes());
    }
    fs::write(file, bytes).unwrap();
}
