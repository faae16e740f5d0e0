//! `embral serve` as an operator meets it: its settings, its signals, and workers that are killed.

use crate::process::{command, embral, good, run};
use embral_testkit::tasks::TaskGolden;
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

/// A server of its own process; killed when it is dropped.
struct Serving {
    child: Child,
    address: String,
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Serving {
    /// Starts one, and waits for the line that says where it is.
    fn start(folder: &Path, line: &str) -> Self {
        Self::spawn(&mut command(folder, &format!("serve --port 0 --log warn {line}")))
    }

    fn spawn(command: &mut Command) -> Self {
        let mut serving = Self { child: command.spawn().unwrap(), address: String::new() };
        let mut lines = BufReader::new(serving.child.stderr.take().unwrap());
        let mut all = String::new();
        loop {
            let mut line = String::new();
            assert!(lines.read_line(&mut line).unwrap() > 0, "it ended: {all}");
            all.push_str(&line);
            if let Some((_, address)) = line.trim_end().split_once("serving on http://") {
                serving.address = address.to_owned();
                // Somebody has to read on, or it would stop at a full pipe.
                thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
                return serving;
            }
        }
    }

    fn signal(&self, name: &str) {
        let done = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(done.success());
    }

    fn post(&self, path: &str, body: &Value) -> (u16, String) {
        post(&self.address, path, &body.to_string()).unwrap()
    }
}

/// The status and the body of an answer; an error where there is none.
fn post(address: &str, path: &str, body: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes())?;
    let mut all = String::new();
    stream.read_to_string(&mut all)?;
    let broken = || std::io::Error::other(format!("no answer: {all:?}"));
    let (head, body) = all.split_once("\r\n\r\n").ok_or_else(broken)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(broken)?;
    Ok((status, body.to_owned()))
}

fn vector(body: &str) -> Vec<f32> {
    let value: Value = serde_json::from_str(body).unwrap();
    serde_json::from_value(value["data"][0]["embedding"].clone()).unwrap()
}

#[test]
fn the_settings_in_force_are_printed_and_are_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("embral.toml");
    fs::write(&file, "port = 1234\nqueue-requests = 7\n[[models]]\nname = \"a\"\naliases = [\"b\"]\n").unwrap();
    let printed = |line: &str| good(folder.path(), &format!("serve --print-config {line}"));
    let mut command = embral(folder.path());
    command.args(["serve", "--print-config", "--config", "embral.toml", "--port", "99"]);
    command.env("EMBRAL_QUEUE_REQUESTS", "8").env("EMBRAL_MAX_INPUTS", "5").env("EMBRAL_SERVER_API_KEY", "s3cret");
    let all = String::from_utf8(command.output().unwrap().stdout).unwrap();
    for line in
        ["port = 99\n", "queue-requests = 8\n", "max-inputs = 5\n", "aliases = [\"b\"]\n", "preset = \"throughput\"\n"]
    {
        assert!(all.contains(line), "{line} is not in {all}");
    }
    assert!(!all.contains("s3cret"));
    fs::write(&file, &all).unwrap();
    assert_eq!(printed("--config embral.toml"), all);
    for (bad, named) in [
        ("--port x", "port"),
        ("--preset quick", "preset"),
        ("--config nowhere.toml", "nowhere.toml"),
        ("--tls-cert a.pem", "tls-key"),
        ("-m no-such-model --offline", "no-such-model"),
    ] {
        let ran = run(folder.path(), &format!("serve --port 0 {bad}"));
        assert!(ran.code != Some(0) && ran.err.contains(named), "{bad}: {}", ran.err);
    }
    fs::write(&file, "prot = 1\n").unwrap();
    let ran = run(folder.path(), "serve --config embral.toml");
    assert!(ran.err.contains("prot") && ran.err.contains("embral.toml"), "{}", ran.err);
}

/// What the pages tell a reader to send: the path and the body of each `curl` line.
fn told(page: &str) -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(page);
    let text = fs::read_to_string(&path).unwrap();
    let lines = text.lines().filter(|line| line.contains("curl ") && line.contains(" -d '"));
    let told = lines.map(|line| {
        let (address, body) = line.split_once(" -d '").unwrap();
        let path = address.split_once(":8080").unwrap().1.split(' ').next().unwrap();
        (path.to_owned(), body.trim_end_matches('\'').to_owned())
    });
    told.collect()
}

#[test]
fn what_the_pages_say_to_send_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let reranker = TaskGolden::load("tiny_reranker");
    let model = |name: &str, alias: &str| format!("[[models]]\nname = {name:?}\naliases = [{alias:?}]\n");
    let reranker = reranker.folder();
    let models = model("", "text-embedding-3-small") + &model(reranker.to_str().unwrap(), "rerank");
    fs::write(folder.path().join("embral.toml"), models).unwrap();
    let server = Serving::start(folder.path(), "--config embral.toml");
    let mut sent = 0;
    for page in ["README.md", "docs/server.md"] {
        for (path, body) in told(page) {
            let (status, answer) = post(&server.address, &path, &body).unwrap();
            assert_eq!(status, 200, "{page}: {path} {body}: {answer}");
            sent += 1;
        }
    }
    assert!(sent >= 7, "{sent}");
    let (_, answer) = server.post("/embral/v1/embed", &json!({ "input": ["a cat sat on the mat"], "dimensions": 8 }));
    let shown = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/server.md")).unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let numbers = answer["data"][0]["embedding"].as_array().unwrap();
    assert!(numbers.len() == 8 && shown.contains(&numbers[0].to_string()), "docs/server.md does not show {numbers:?}");
}

#[test]
fn it_gives_the_vectors_of_embed_and_ends_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Serving::start(folder.path(), "-m $BERT");
    let (status, body) = server.post("/v1/embeddings", &json!({ "input": "a cat sat on the mat" }));
    assert_eq!(status, 200, "{body}");
    let line = good(folder.path(), "embed -m $BERT --format jsonl cat");
    let (_, cat) = server.post("/v1/embeddings", &json!({ "input": "cat" }));
    assert_eq!(vector(&cat), crate::process::embeddings(&line)[0]);
    server.signal("TERM");
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    assert!(TcpStream::connect(&server.address).is_err());
}

#[test]
fn what_was_taken_is_answered_after_a_signal_under_load() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Serving::start(folder.path(), "-m $BERT");
    let (answered, address) = (AtomicUsize::new(0), server.address.clone());
    let body = json!({ "input": vec!["a cat sat on the mat"; 16] }).to_string();
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                // Until nobody listens any more. What was answered was answered whole.
                while let Ok((status, body)) = post(&address, "/v1/embeddings", &body) {
                    assert_eq!((status, vector(&body).is_empty()), (200, false));
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        while answered.load(Ordering::Relaxed) < 40 {
            thread::yield_now();
        }
        server.signal("TERM");
    });
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_worker_that_is_killed_under_load_loses_no_request() {
    let folder = tempfile::tempdir().unwrap();
    let workers = [Serving::start(folder.path(), "-m $BERT"), Serving::start(folder.path(), "-m $BERT")];
    let line = format!(
        "--worker openai+http://{}/v1 --worker tei+http://{} --worker-strategy round-robin",
        workers[0].address, workers[1].address
    );
    let front = Serving::start(folder.path(), &line);
    let wanted = crate::process::embeddings(&good(folder.path(), "embed -m $BERT --format jsonl cat"))[0].clone();
    let (answered, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let [mut first, second] = workers;
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let (status, body) = front.post("/v1/embeddings", &json!({ "input": ["cat", "a dog"] }));
                    assert_eq!(status, 200, "{body}");
                    let found = vector(&body);
                    let off = found.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                    assert!(found.len() == wanted.len() && off <= 1e-6, "{off}");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let until = |count: usize| {
            while answered.load(Ordering::Relaxed) < count {
                thread::sleep(Duration::from_millis(1));
            }
        };
        until(100);
        first.child.kill().unwrap();
        first.child.wait().unwrap();
        until(400);
        stop.store(true, Ordering::Relaxed);
    });
    drop(second);
    let (status, body) = front.post("/v1/embeddings", &json!({ "input": "cat" }));
    assert!([429, 503].contains(&status), "{status} {body}");
}

#[test]
fn a_front_without_workers_that_answer_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ran = run(folder.path(), &format!("serve --port 0 --worker openai+http://{free}/v1"));
    assert!(ran.code == Some(1) && ran.err.contains(&free.to_string()), "{}", ran.err);
}

/// The bodies that a collector is sent, each as a request came.
fn collector() -> (String, std::sync::mpsc::Receiver<Vec<u8>>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (sender, bodies) = std::sync::mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let (mut length, mut line) = (0, String::new());
            while stream.read_line(&mut line).is_ok_and(|read| read > 0) && line != "\r\n" {
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").unwrap();
            if sender.send(body).is_err() {
                break;
            }
        }
    });
    (address, bodies)
}

#[test]
#[cfg(feature = "otlp")]
fn traces_go_to_a_collector_when_it_ends_at_the_latest() {
    let folder = tempfile::tempdir().unwrap();
    let (address, bodies) = collector();
    let mut server = Serving::start(folder.path(), &format!("-m $BERT --otlp-endpoint http://{address}"));
    assert_eq!(server.post("/v1/embeddings", &json!({ "input": "cat" })).0, 200);
    server.signal("TERM");
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    let all: Vec<u8> = std::iter::from_fn(|| bodies.recv_timeout(Duration::from_secs(1)).ok()).flatten().collect();
    for name in ["/v1/embeddings", "tokenize", "compute", "embral.queue_ms", "http.response.status_code", "tiny_bert"] {
        assert!(all.windows(name.len()).any(|window| window == name.as_bytes()), "{name} is in no trace");
    }
    let ran = run(folder.path(), "serve --port 0 --otlp-endpoint nowhere");
    assert!(ran.code == Some(1) && ran.err.contains("otlp-endpoint"), "{}", ran.err);
}
