//! Models behind a server, on the loopback: what is asked, what comes back, and what is said where it does not.

#![cfg(feature = "remote")]

use embral::{Config, Embedder, Error, ErrorKind, Precision, Prompt, Truncation};
use embral_testkit::server::{Reply, Request, Server, model, vector};
use serde_json::{Value, json};
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

const DIMS: usize = 8;

fn config(address: String) -> Config {
    Config::model(address)
}

fn open(address: String) -> Embedder {
    Embedder::with_config(config(address)).unwrap()
}

fn refused(address: String) -> Error {
    Embedder::with_config(config(address)).expect_err("the server gives no vectors")
}

fn texts(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("text number {i}")).collect()
}

fn expected(texts: &[impl AsRef<str>]) -> Vec<f32> {
    texts.iter().flat_map(|text| vector(text.as_ref(), DIMS)).collect()
}

#[test]
fn every_kind_is_known_by_its_routes_and_gives_vectors() {
    for (kind, path) in
        [("openai", "/v1/embeddings"), ("tei", "/embed"), ("ollama", "/api/embed"), ("cohere", "/v2/embed")]
    {
        let server = Server::start(model(kind, DIMS));
        // A Cohere-type server has no route that tells.
        let address = match kind {
            "cohere" => format!("{}/v2?model=tiny", server.url),
            _ => server.url.clone(),
        };
        let embedder = open(address);
        assert_eq!((embedder.dimensions(), embedder.info().normalize), (DIMS, true), "{kind}");
        assert!(embedder.info().name.starts_with(&format!("{kind}+http://127.0.0.1:")), "{}", embedder.info().name);
        let texts = texts(300);
        let rows = embedder.embed_batch(&texts).unwrap();
        assert_eq!(rows.as_slice(), expected(&texts), "{kind}");
        assert_eq!(embedder.embed("one").unwrap(), vector("one", DIMS), "{kind}");
        assert!(embedder.embed_batch(&[] as &[&str]).unwrap().is_empty());
        let asked = server.requests().iter().filter(|r| r.path == path).count();
        let batch =
            [("openai", 256), ("tei", 4), ("ollama", 64), ("cohere", 96)].iter().find(|b| b.0 == kind).unwrap().1;
        assert_eq!(asked, 2 + 300_usize.div_ceil(batch), "{kind}");
    }
}

#[test]
fn dimensions_prompts_and_truncation_are_said_in_the_words_of_the_kind() {
    for (kind, field) in
        [("openai", "dimensions"), ("tei", "dimensions"), ("ollama", "dimensions"), ("cohere", "output_dimension")]
    {
        let server = Server::start(model(kind, DIMS));
        let end = if kind == "cohere" { "/v2?model=tiny" } else { "" };
        let config = Config { dims: Some(4), truncation: Truncation::Error, ..config(format!("{}{end}", server.url)) };
        let embedder = Embedder::with_config(config).unwrap();
        assert_eq!(embedder.embed("x").unwrap(), vector("x", 4));
        let last = server.requests().pop().unwrap().json();
        assert_eq!(last[field], 4, "{kind}: {last}");
        let told = [("tei", json!(false)), ("ollama", json!(false)), ("cohere", json!("NONE"))];
        if let Some((_, value)) = told.iter().find(|t| t.0 == kind) {
            assert_eq!(last["truncate"], *value, "{kind}");
        }
        let rows = embedder.embed_batch_as(&["x"], Prompt::Text("query: ")).unwrap();
        assert_eq!(rows.as_slice(), vector("query: x", 4), "{kind}");
    }
    let server = Server::start(model("cohere", DIMS));
    let embedder = open(format!("{}/v2?model=tiny", server.url));
    let input_type = |prompt| {
        embedder.embed_batch_as(&["x"], prompt).unwrap();
        server.requests().pop().unwrap().json()["input_type"].clone()
    };
    assert_eq!(input_type(Prompt::Default), "search_document");
    assert_eq!(input_type(Prompt::Name("query")), "search_query");
    let unknown = embedder.embed_batch_as(&["x"], Prompt::Name("summary")).unwrap_err();
    assert!(unknown.to_string().contains("has no prompt \"summary\""), "{unknown}");

    let server = Server::start(model("tei", DIMS));
    let embedder = open(format!("{}?prompts=query,passage", server.url));
    embedder.embed_batch_as(&["x"], Prompt::Name("passage")).unwrap();
    let last = server.requests().pop().unwrap().json();
    assert_eq!((&last["prompt_name"], &last["inputs"]), (&json!("passage"), &json!(["x"])));
}

#[test]
fn tokens_are_counted_by_servers_that_tell_them() {
    let server = Server::start(model("tei", DIMS));
    let embedder = open(server.url.clone());
    assert_eq!(embedder.count_tokens(&["a b c", "", "d", "e", "f g"]).unwrap(), [3, 0, 1, 1, 2]);
    assert_eq!(embedder.tokenize("a b").unwrap(), [0, 1]);
    let server = Server::start(model("ollama", DIMS));
    let embedder = open(server.url.clone());
    let error = embedder.count_tokens(&["a"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("tells no tokens"), "{error}");
    embedder.embed_batch(&["a", "b"]).unwrap();
    assert_eq!(embedder.profile().tokens, 5);
}

#[test]
fn what_a_server_decides_is_not_asked_of_the_configuration() {
    let address = "openai+http://127.0.0.1:9/v1?model=m".to_owned();
    for (config, message) in [
        (Config { precision: Precision::Int8, ..config(address.clone()) }, "a precision was asked for"),
        (Config { max_tokens: Some(9), ..config(address.clone()) }, "a longest text was asked for"),
        (Config { offline: true, ..config(address.clone()) }, "offline mode is on"),
    ] {
        let error = Embedder::with_config(config).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    let server = Server::start(model("ollama", DIMS));
    let left = Config { truncation: Truncation::Left, ..config(server.url.clone()) };
    assert!(Embedder::with_config(left).unwrap_err().to_string().contains("at their start"));
}

/// A server that has a model, and gives the vectors of texts with `bad` in them by `answer`.
fn spoilt(answer: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Server {
    let good = model("openai", DIMS);
    let bad = AtomicUsize::new(0);
    Server::start(move |request, number| {
        if String::from_utf8_lossy(&request.body).contains("bad") {
            answer(request, bad.fetch_add(1, Ordering::Relaxed))
        } else {
            good(request, number)
        }
    })
}

fn data(rows: &Value) -> Reply {
    Reply::json(&json!({ "data": rows }))
}

/// The error of two texts, asked for with these parameters, and how often they were tried.
fn error_of(server: &Server, parameters: &str) -> (Error, usize) {
    let embedder = open(format!("{}/v1?model=tiny{parameters}", server.url));
    let before = server.count("/v1/embeddings");
    let error = embedder.embed_batch(&["bad", "worse"]).unwrap_err();
    (error, server.count("/v1/embeddings") - before)
}

#[test]
fn an_answer_that_is_none_says_what_was_expected_and_found() {
    let row = |n: usize| vec![0.5; n];
    let item = |index: usize, row: Vec<f64>| json!({ "index": index, "embedding": row });
    let cases: Vec<(Reply, &str)> = vec![
        (Reply::status(200, "<html>hello</html>"), "expected value at line 1"),
        (Reply::status(200, "{\"data\":[{\"embedding\":[1,NaN]}]}"), "it holds NaN"),
        (Reply::json(&json!({ "data": [{ "embedding": [1, null] }] })), "component 1 of a vector is null"),
        (Reply::json(&json!({ "data": null })), "expected a sequence"),
        (data(&json!([item(0, vec![1e39; 8]), item(1, row(8))])), "found inf as component 0 of vector 0"),
        (data(&json!([item(0, row(7)), item(1, row(8))])), "expected vectors of 8 components, found 7 in number 0"),
        (data(&json!([item(0, row(8))])), "expected 2 vectors, one a text, found 1"),
        (data(&json!([])), "expected 2 vectors, one a text, found 0"),
        (data(&json!([item(0, row(8)), item(0, row(8))])), "two vectors have index 0"),
        (data(&json!([item(0, row(8)), item(5, row(8))])), "index 5 among 2"),
        (Reply::Endless, "more than"),
    ];
    for (reply, message) in cases {
        let server = spoilt(move |_, _| reply.clone());
        let (error, tries) = error_of(&server, "");
        let line = error.to_string();
        assert!(line.contains(message), "{message}: {line}");
        assert!(line.contains("/v1/embeddings (2 texts, from 0 to 1): ") && !line.contains('\n'), "{line}");
        assert_eq!((error.kind(), tries), (ErrorKind::Malformed, 1), "{line}");
    }
}

#[test]
fn a_refusal_is_said_in_the_words_of_the_server_and_not_repeated() {
    for (status, body, message, kind) in [
        (
            401,
            r#"{"error":{"message":"Incorrect API key","code":"invalid_api_key"}}"#,
            "refuses the API key, or wants one (status 401): Incorrect API key",
            ErrorKind::Network,
        ),
        (401, "", "wants one (status 401) (set EMBRAL_API_KEY", ErrorKind::Network),
        (
            404,
            r#"{"error":"model 'x' not found"}"#,
            "no such path or model (status 404): model 'x' not found",
            ErrorKind::NotFound,
        ),
        (400, r#"{"message":"no","code":400}"#, "refuses the request (status 400): no", ErrorKind::InvalidInput),
        (
            422,
            r#"{"error":"`inputs` must have less than 512 tokens. Given: 600","error_type":"Validation"}"#,
            "as too long (status 422): `inputs` must have less than 512 tokens",
            ErrorKind::TooLong,
        ),
        (422, r#"{"detail":"no"}"#, "(status 422): no", ErrorKind::InvalidInput),
        (
            429,
            r#"{"error":{"message":"pay","code":"insufficient_quota"}}"#,
            "the account is spent (status 429): insufficient_quota: pay",
            ErrorKind::Network,
        ),
    ] {
        let server = spoilt(move |_, _| Reply::status(status, body));
        let (error, tries) = error_of(&server, "");
        assert!(error.to_string().contains(message), "{status}: {error}");
        assert_eq!((error.kind(), tries), (kind, 1), "{error}");
    }
}

#[test]
fn what_passes_is_tried_again_and_what_does_not_ends() {
    let vectors = |request: &Request| model("openai", DIMS)(request, 0);
    let first: [fn() -> Reply; 5] = [
        || Reply::status(500, "oh"),
        || Reply::status(503, ""),
        || Reply::Whole(429, vec![("Retry-After", "0".to_owned())], String::new()),
        || Reply::Close,
        || Reply::Half("{\"data\":[]}".repeat(50)),
    ];
    for fault in first {
        let server = spoilt(move |request, number| if number < 2 { fault() } else { vectors(request) });
        let embedder = open(format!("{}/v1?model=tiny", server.url));
        assert_eq!(embedder.embed_batch(&["bad", "good"]).unwrap().as_slice(), expected(&["bad", "good"]));

        let server = spoilt(move |_, _| fault());
        let (error, tries) = error_of(&server, "&retries=1");
        assert_eq!((error.kind(), tries), (ErrorKind::Network, 2), "{error}");
        assert!(error.to_string().contains("tried 2 times"), "{error}");
    }
}

#[test]
fn a_server_is_given_the_time_it_asks_for() {
    let vectors = |request: &Request| model("openai", DIMS)(request, 0);
    let server = spoilt(move |request, number| match number {
        0 => Reply::Whole(429, vec![("Retry-After", "1".to_owned())], String::new()),
        _ => vectors(request),
    });
    let embedder = open(format!("{}/v1?model=tiny", server.url));
    let start = Instant::now();
    embedder.embed("bad").unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));

    let server = spoilt(|_, _| Reply::Whole(429, vec![("Retry-After", "3600".to_owned())], String::new()));
    let (error, tries) = error_of(&server, "&deadline=20");
    let line = error.to_string();
    assert!(line.contains("too many requests") && line.contains("past the deadline of 20 s"), "{line}");
    assert_eq!(tries, 1);
}

#[test]
fn a_server_that_hangs_is_left() {
    let server = spoilt(|_, _| Reply::Silence);
    let stalled = spoilt(|_, _| Reply::Stall("{\"data\":[]}".repeat(9)));
    for server in [&server, &stalled] {
        let start = Instant::now();
        let (error, tries) = error_of(server, "&timeout=0.3&retries=1");
        assert!(start.elapsed() < Duration::from_secs(30));
        assert_eq!((error.kind(), tries), (ErrorKind::Network, 2));
        assert!(error.to_string().contains("no whole answer in time; tried 2 times"), "{error}");
    }

    // The deadline ends a try as well.
    let start = Instant::now();
    let (error, tries) = error_of(&server, "&timeout=100&deadline=0.5");
    assert!(start.elapsed() < Duration::from_secs(30) && tries <= 2, "{tries} tries");
    assert!(error.to_string().contains("no whole answer in time"), "{error}");
}

#[test]
fn nothing_follows_a_redirect() {
    for status in [301, 302, 307, 308] {
        let server = Server::start(move |request, _| {
            Reply::Whole(status, vec![("Location", request.path.clone())], String::new())
        });
        let error = refused(format!("{}/v1?model=tiny", server.url)).to_string();
        assert!(error.contains(&format!("the server sends elsewhere (status {status}), to /v1/embeddings")), "{error}");
        assert_eq!(server.requests().len(), 1);
    }
}

#[test]
fn nobody_there_is_said_at_once() {
    let address = Server::start(|_, _| Reply::Close).url.clone();
    let error = refused(format!("{address}/v1?model=tiny&retries=0"));
    assert_eq!(error.kind(), ErrorKind::Network);
    assert!(error.to_string().contains("is the server running"), "{error}");
}

#[test]
fn a_server_of_no_kind_is_named() {
    let server = Server::start(|_, _| Reply::status(404, ""));
    let error = refused(server.url.clone()).to_string();
    assert!(error.contains("does not tell of which kind it is (state it: openai+"), "{error}");
    let server = Server::start(|_, _| Reply::json(&json!({ "data": [{ "id": "a" }, { "id": "b" }] })));
    let error = refused(format!("{}/v1", server.url)).to_string();
    assert!(error.contains("names no model, and the server has a, b (put ?model=NAME"), "{error}");
}

#[test]
fn a_batch_that_is_too_large_goes_in_halves() {
    for (status, body) in [(413, ""), (422, r#"{"error":"batch size 8 > maximum allowed batch size 3"}"#)] {
        let good = model("openai", DIMS);
        let server = Server::start(move |request, number| {
            let texts = request.json()["input"].as_array().map_or(0, Vec::len);
            if texts > 3 { Reply::status(status, body) } else { good(request, number) }
        });
        let embedder = open(format!("{}/v1?model=tiny", server.url));
        let texts = texts(8);
        assert_eq!(embedder.embed_batch(&texts).unwrap().as_slice(), expected(&texts));
    }
}

#[test]
fn a_server_without_base64_is_asked_for_numbers_from_then_on() {
    let good = model("openai", DIMS);
    let server = Server::start(move |request, number| match request.json()["encoding_format"].as_str() {
        Some("base64") => Reply::status(400, r#"{"error":{"message":"unknown encoding_format"}}"#),
        _ => good(request, number),
    });
    let embedder = open(format!("{}/v1?model=tiny", server.url));
    embedder.embed("a").unwrap();
    let asked: Vec<Value> = server.requests().iter().map(|r| r.json()["encoding_format"].clone()).collect();
    assert_eq!(asked, ["base64", "float", "float"]);
}

#[test]
fn no_more_requests_are_under_way_than_allowed() {
    let good = model("openai", DIMS);
    let (under_way, most) = (AtomicUsize::new(0), std::sync::Arc::new(AtomicUsize::new(0)));
    let seen = std::sync::Arc::clone(&most);
    let server = Server::start(move |request, number| {
        let now = under_way.fetch_add(1, Ordering::SeqCst) + 1;
        seen.fetch_max(now, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(20));
        let reply = good(request, number);
        under_way.fetch_sub(1, Ordering::SeqCst);
        reply
    });
    let embedder = open(format!("{}/v1?model=tiny&batch=1&concurrency=3", server.url));
    let texts = texts(24);
    // Of all calls together.
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| assert_eq!(embedder.embed_batch(&texts).unwrap().as_slice(), expected(&texts)));
        }
    });
    assert!((2..=3).contains(&most.load(Ordering::SeqCst)), "{most:?} at once");
}

#[test]
fn a_variable_that_is_not_set_is_no_key() {
    let error = refused("openai+http://127.0.0.1:9/v1?model=m&key_env=EMBRAL_TEST_ABSENT".to_owned()).to_string();
    assert!(error.contains("takes its API key from EMBRAL_TEST_ABSENT, which is not set"), "{error}");
}

#[test]
#[cfg(feature = "vector-cache")]
fn answers_are_kept_and_a_failed_call_keeps_what_came() {
    let server = spoilt(|_, _| Reply::status(400, ""));
    let folder = tempfile::tempdir().unwrap();
    let open = |end: &str| {
        let vector_cache = Some(embral::cache::VectorCache::in_folder(folder.path()));
        Embedder::with_config(Config { vector_cache, ..config(format!("{}/v1?model=tiny{end}", server.url)) }).unwrap()
    };
    let first = texts(6);
    let embedder = open("&batch=2&concurrency=1");
    let mut spoilt = first.clone();
    spoilt.push("bad".to_owned());
    let error = embedder.embed_batch(&spoilt).unwrap_err().to_string();
    assert!(error.contains("(text 6): the server refuses"), "{error}");
    let asked = server.count("/v1/embeddings");
    // Another embedder, with other manners: the same model.
    let again = open("&batch=5&rpm=100");
    assert_eq!(again.embed_batch(&first).unwrap().as_slice(), expected(&first));
    assert_eq!((again.profile().cached, server.count("/v1/embeddings")), (6, asked));
    let twice = again.embed_batch(&["new", "text number 3", "new"]).unwrap();
    assert_eq!(twice.as_slice(), expected(&["new", "text number 3", "new"]));
    let last = server.requests().pop().unwrap().json();
    assert_eq!((&last["input"], server.count("/v1/embeddings")), (&json!(["new"]), asked + 1));
    // Other settings are other vectors.
    again.embed_batch_as(&["text number 3"], Prompt::Text("query: ")).unwrap();
    assert_eq!(again.profile().cached, 0);
    let vector_cache = Some(embral::cache::VectorCache::in_folder(folder.path()));
    let cut = Config { vector_cache, dims: Some(4), ..config(format!("{}/v1?model=tiny", server.url)) };
    let cut = Embedder::with_config(cut).unwrap();
    assert_eq!(cut.embed("text number 3").unwrap(), vector("text number 3", 4));
    assert_eq!(cut.profile().cached, 0);
}
