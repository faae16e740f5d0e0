//! Load on a server from the command line.

use crate::process::{command, finish, good, run, write_texts};
use embral_testkit::server::{Reply, Server, model};
use serde_json::Value;

#[test]
fn bench_server_prints_a_table_or_json() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let server = Server::keep_alive(model("openai", 8));
    let line = format!("bench server {} --clients 3 --requests 60 --seconds 60 --warm-up 0 -m tiny", server.url);
    let table = good(at, &line);
    for part in
        ["server      http://127.0.0.1:", "closed loop of 3 clients\n", "\nlatency ms  p50 ", "\nstatuses    200: 60\n"]
    {
        assert!(table.contains(part), "{part:?} is not in {table}");
    }
    write_texts(&at.join("in.txt"), 30);
    let json = good(at, &format!("{line} --json -i in.txt --limit 5 --rate 1000 --dialect openai --priority high"));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (json["requests"].as_u64(), json["good"].as_u64(), json["texts"].as_u64()),
        (Some(60), Some(60), Some(60))
    );
    assert_eq!((json["rate"].as_f64(), json["fault"].as_str(), json["unsent"].as_u64()), (Some(1000.0), None, Some(0)));
    assert!(json["latency_ms"]["p99"].as_f64().unwrap() > 0.0 && json["tokens_s"].as_f64().unwrap() > 0.0, "{json}");
    let last = server.requests().pop().unwrap();
    assert_eq!(last.header("x-embral-priority"), Some("high"));
    assert!(matches!(last.json()["input"].as_str(), Some(text) if text.len() < 40));
}

#[test]
fn bench_server_fails_where_answers_are_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let server = Server::keep_alive(|request, number| match number {
        0..4 => model("openai", 8)(request, number),
        _ => Reply::status(200, "{}"),
    });
    let ran = run(at, &format!("bench server {} --clients 1 --requests 20 --warm-up 0", server.url));
    assert_eq!(ran.code, Some(1));
    assert!(ran.out.contains("\nstatuses    200: 20\n"), "{}", ran.out);
    assert!(
        ran.err.starts_with("embral: error: 17 answers were wrong; the first: POST /v1/embeddings: "),
        "{}",
        ran.err
    );
}

#[test]
fn bench_server_takes_the_key_from_the_environment_and_never_prints_it() {
    const KEY: &str = "sk-very-secret";
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let server = Server::keep_alive(|request, number| match request.header("authorization") {
        Some(sent) if sent == format!("Bearer {KEY}") => model("openai", 8)(request, number),
        _ => Reply::status(401, "bad key"),
    });
    let line = format!("bench server {} --clients 1 --requests 3 --warm-up 0 --json", server.url);
    let ran = finish(command(at, &line).env("EMBRAL_API_KEY", KEY));
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(!ran.out.contains(KEY) && !ran.err.contains(KEY));
    let ran = run(at, &line);
    assert!(ran.code == Some(1) && ran.err.contains("status 401: bad key (--api-key"), "{}", ran.err);
}

#[test]
fn bench_server_refuses_what_is_not_this_machine() {
    let folder = tempfile::tempdir().unwrap();
    let ran = run(folder.path(), "bench server http://192.0.2.7:8080");
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
    assert!(ran.err.contains("192.0.2.7 is not this machine") && ran.err.contains("--allow-remote"), "{}", ran.err);
    let ran = run(folder.path(), "bench server http://127.0.0.1:1 --mix single=1,pairs=2");
    assert_eq!(ran.code, Some(2), "{}", ran.err);
    assert!(ran.err.contains("pairs=2"), "{}", ran.err);
}
