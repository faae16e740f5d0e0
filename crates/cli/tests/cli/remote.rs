//! The commands on models behind a server.

use crate::process::{Ran, command, embeddings, embral, finish, floats, good, run, write_texts};
use embral_testkit::server::{Reply, Server, model, vector};
use std::{
    fs,
    path::Path,
    sync::Arc,
    sync::atomic::{AtomicBool, Ordering},
};

const DIMS: usize = 8;

#[test]
fn every_command_takes_an_address() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_texts(&at.join("in.txt"), 40);
    let texts = fs::read_to_string(at.join("in.txt")).unwrap();
    let expected: Vec<Vec<f32>> = texts.lines().map(|line| vector(line, DIMS)).collect();
    for kind in ["openai", "tei", "ollama", "cohere"] {
        let server = Server::start(model(kind, DIMS));
        let address = match kind {
            "cohere" => format!("{}/v2?model=tiny", server.url),
            _ => server.url.clone(),
        };
        assert_eq!(embeddings(&good(at, &format!("embed -i in.txt -m {address}"))), expected, "{kind}");
        let out = good(at, &format!("similarity a b a -m {address} --json"));
        let json: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert!((json["similarity"][0][2].as_f64().unwrap() - 1.0).abs() < 1e-6, "{kind}: {out}");
        let out = good(at, &format!("search in.txt 7 -k 1 -m {address}"));
        assert!(out.starts_with("1.0000  8  7"), "{kind}: {out}");
        let out = good(at, &format!("models info {address}"));
        assert!(out.contains(&format!("kind          remote ({kind})\ndimensions    8\n")), "{kind}: {out}");
        let out = good(at, &format!("bench texts --texts in.txt --rounds 2 --npy rows.npy -m {address}"));
        assert!(out.starts_with("texts                 40\n"), "{kind}: {out}");
        assert_eq!(floats(&at.join("rows.npy"), 128, DIMS), expected, "{kind}");
    }
}

#[test]
fn a_query_is_told_from_a_document_where_the_server_knows_both() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_texts(&at.join("in.txt"), 3);
    let server = Server::start(model("cohere", DIMS));
    good(at, &format!("search in.txt cat -m {}/v2?model=tiny", server.url));
    let types: Vec<String> =
        server.requests().iter().map(|r| r.json()["input_type"].as_str().unwrap_or_default().to_owned()).collect();
    assert_eq!(types, ["search_document", "search_query", "search_document"]);
}

#[test]
fn a_server_that_fails_keeps_what_was_done_and_the_run_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_texts(&at.join("in.txt"), 2000);
    let good_model = model("openai", DIMS);
    let broken = Arc::new(AtomicBool::new(true));
    let broke = Arc::clone(&broken);
    let server = Server::start(move |request, number| {
        // Two probes and the first chunk, 64 texts in seven requests, come through.
        if broke.load(Ordering::Relaxed) && number > 8 {
            Reply::status(500, "on fire")
        } else {
            good_model(request, number)
        }
    });
    let line = format!("embed -i in.txt -o out.raw -m {}/v1?model=tiny&batch=10&concurrency=1&retries=0", server.url);
    let ran = run(at, &line);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("the server failed (status 500): on fire"), "{}", ran.err);
    assert!(ran.err.contains("64 rows are safe: then run it again with --resume to complete out.raw"), "{}", ran.err);
    broken.store(false, Ordering::Relaxed);
    good(at, &format!("{line} --resume -q").replace("&batch=10", "&batch=100"));
    let texts = fs::read_to_string(at.join("in.txt")).unwrap();
    let expected: Vec<Vec<f32>> = texts.lines().map(|line| vector(line, DIMS)).collect();
    assert_eq!(floats(&at.join("out.raw"), 0, DIMS), expected);
}

#[test]
fn a_text_that_a_server_finds_too_long_is_named_by_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::write(at.join("in.txt"), "short\nalso short\na long one\n").unwrap();
    let good_model = model("ollama", DIMS);
    let server = Server::start(move |request, number| match String::from_utf8_lossy(&request.body).contains("long") {
        true => Reply::status(400, r#"{"error":"the input length exceeds the context length"}"#),
        false => good_model(request, number),
    });
    let ran = run(at, &format!("embed -i in.txt --truncate error -m {}", server.url));
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("the text in line 3: ") && ran.err.contains("exceeds the context length"), "{}", ran.err);
    assert_eq!(server.requests().last().unwrap().json()["truncate"], false);
}

#[test]
fn what_was_paid_for_is_kept_by_the_vector_cache() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_texts(&at.join("in.txt"), 50);
    let good_model = model("openai", DIMS);
    let server = Server::start(move |request, number| match number {
        4 => Reply::status(400, "no"),
        _ => good_model(request, number),
    });
    let line = format!("embed -i in.txt --vector-cache kept -m {}/v1?model=tiny&batch=10&concurrency=1", server.url);
    assert_eq!(run(at, &line).code, Some(1));
    assert_eq!(server.requests().len(), 5);
    good(at, &line);
    // The probe and three batches were there.
    assert_eq!(server.requests().len(), 7);
    good(at, &line);
    assert_eq!(server.requests().len(), 7);
}

#[test]
fn a_key_is_sent_and_never_printed() {
    const KEY: &str = "sk-very-secret";
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let good_model = model("openai", DIMS);
    let server = Server::start(move |request, number| match request.header("authorization") {
        Some(sent) if sent == format!("Bearer {KEY}") => good_model(request, number),
        sent => Reply::status(401, &format!("{{\"error\":{{\"message\":\"bad key {}\"}}}}", sent.unwrap_or("none"))),
    });
    let line = |command: &str| format!("{command} -m {}/v1?model=tiny", server.url);
    let quiet = |ran: &Ran| assert!(!ran.out.contains(KEY) && !ran.err.contains(KEY), "{} {}", ran.out, ran.err);
    let ran = finish(command(at, &line("embed x")).env("EMBRAL_API_KEY", KEY));
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    quiet(&ran);
    let ran = finish(command(at, &format!("{}&key_env=MINE", line("embed x"))).env("MINE", KEY));
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let without = run(at, &line("embed x"));
    assert_eq!(without.code, Some(1));
    assert!(without.err.contains("bad key none (set EMBRAL_API_KEY"), "{}", without.err);
    let ran = finish(command(at, &line("embed x")).env("EMBRAL_API_KEY", format!("{KEY}-old")));
    assert!(ran.err.contains("bad key Bearer ***"), "{}", ran.err);
    quiet(&ran);
    let ran = finish(command(at, "doctor").env("EMBRAL_API_KEY", KEY));
    assert!(ran.out.contains("EMBRAL_API_KEY=set"), "{}", ran.out);
    quiet(&ran);
}

#[test]
fn an_address_is_no_model_where_files_are_needed() {
    let folder = tempfile::tempdir().unwrap();
    for line in
        ["inspect -m http://127.0.0.1:9", "kernels --quick -m http://127.0.0.1:9", "models pull http://127.0.0.1:9"]
    {
        let ran = run(folder.path(), line);
        assert_eq!(ran.code, Some(1), "{line}");
        assert!(ran.err.contains("is the address of a server"), "{line}: {}", ran.err);
    }
    let ran = run(folder.path(), "embed x --offline -m http://127.0.0.1:9");
    assert!(ran.err.contains("offline mode is on"), "{}", ran.err);
}

/// The words of an example.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    words.retain(|w| !w.is_empty());
    words
}

#[test]
fn the_examples_of_the_page_about_servers_run() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_texts(&at.join("texts.txt"), 12);
    write_texts(&at.join("notes.txt"), 12);
    let servers = [("openai", "8000"), ("tei", "8080"), ("ollama", "11434"), ("cohere", "9000")]
        .map(|(kind, port)| (Server::start(model(kind, DIMS)), format!("http://localhost:{port}")));
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/remote.md");
    let page = fs::read_to_string(page).unwrap();
    let mut ran = 0;
    for line in page.lines().filter_map(|line| line.trim().strip_prefix("$ embral ")) {
        let mut line = line.to_owned();
        for (server, there) in &servers {
            line = line.replace(there.as_str(), &server.url);
        }
        let outcome = finish(embral(at).args(words(&line)).env("MY_KEY", "k"));
        assert_eq!(outcome.code, Some(0), "embral {line}: {}", outcome.err);
        ran += 1;
    }
    assert!(ran >= 6, "{ran} examples ran");
    for (server, address) in &servers {
        assert!(!server.requests().is_empty(), "no example asks {address}");
    }
}
