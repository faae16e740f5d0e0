//! Who may ask, how often, and from which pages.

use crate::support::{Running, settings, standard, start};
use embral_server::Settings;
use serde_json::json;
use std::io::Write;

fn ask(server: &Running, key: Option<&str>) -> u16 {
    let header = key.map(|key| format!("Bearer {key}"));
    let headers: Vec<(&str, &str)> = header.iter().map(|value| ("authorization", value.as_str())).collect();
    server.send("POST", "/v1/embeddings", &headers, json!({ "input": "a" }).to_string().as_bytes()).status
}

#[test]
fn a_key_lets_in_and_nothing_else_does() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "ann first-key weight=2\nbob second-key").unwrap();
    let settings =
        Settings { api_key_file: Some(file.path().to_owned()), api_key: Some("third-key".to_owned()), ..settings() };
    let server = start(settings);
    assert_eq!(["first-key", "second-key", "third-key"].map(|key| ask(&server, Some(key))), [200; 3]);
    assert_eq!([None, Some(""), Some("first-ke"), Some("first-key2")].map(|key| ask(&server, key)), [401; 4]);
    let reply = server.post("/v1/embeddings", &json!({ "input": "a" }));
    assert_eq!(reply.json(401)["error"]["code"], "invalid_api_key");
    assert_eq!(server.get("/embral/v1/models").json(401)["error"]["kind"], "unauthorized");
    for open in ["/live", "/ready", "/health", "/ping", "/metrics"] {
        assert_eq!(server.get(open).status, 200, "{open}");
    }
}

#[test]
fn a_rate_that_is_used_up_says_when_to_come_again() {
    let settings = Settings { api_key: Some("k".to_owned()), requests_per_minute: Some(3), ..settings() };
    let server = start(settings);
    assert_eq!([0; 3].map(|_| ask(&server, Some("k"))), [200; 3]);
    let reply = server.send("POST", "/v1/embeddings", &[("authorization", "Bearer k")], br#"{"input":"a"}"#);
    let seconds: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=20).contains(&seconds));
    assert_eq!(reply.json(429)["error"]["code"], "rate_limit_exceeded");
}

#[test]
fn pages_of_other_origins_are_refused_unless_they_are_let_in() {
    let page = ("origin", "https://example.com");
    let body = br#"{"input":"a"}"#;
    let server = standard();
    assert_eq!(server.send("POST", "/v1/embeddings", &[page], body).status, 403);
    // A name that leads here, as an attacker's page may have it.
    let tricked = [("origin", "http://evil.example:80"), ("host", "evil.example:80")];
    let head = format!(
        "POST /v1/embeddings HTTP/1.1\r\nhost: {}\r\norigin: {}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        tricked[1].1,
        tricked[0].1,
        body.len()
    );
    assert_eq!(server.raw(&[head.as_bytes(), body].concat()).status, 403);
    let own = format!("http://{}", server.address);
    assert_eq!(server.send("POST", "/v1/embeddings", &[("origin", &own)], body).status, 200);
    let server = start(Settings { cors_origins: vec!["https://example.com".to_owned()], ..settings() });
    let reply = server.send("POST", "/v1/embeddings", &[page], body);
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (200, Some("https://example.com")));
    let asks = [
        page,
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,x-stainless-os"),
    ];
    let reply = server.send("OPTIONS", "/v1/embeddings", &asks, b"");
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("access-control-allow-headers"), Some("authorization,x-stainless-os"));
    assert_eq!(server.send("POST", "/v1/embeddings", &[("origin", "https://other.com")], body).status, 403);
}
