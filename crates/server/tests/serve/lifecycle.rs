//! From the start to the end.

use crate::support::{Reply, golden, settings, standard, start};
use embral_server::Settings;
use serde_json::json;
use std::{
    io::Write,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

#[test]
fn it_lives_and_is_ready_when_it_has_computed() {
    let server = standard();
    assert_eq!(
        (server.get("/live").status, server.get("/ready").status, server.get("/health").status),
        (200, 200, 200)
    );
    server.post("/v1/embeddings", &json!({ "input": "a" })).json(200);
    let metrics = server.get("/metrics");
    let page = String::from_utf8(metrics.body).unwrap();
    for name in [
        "te_request_count",
        "te_queue_size",
        "te_batch_next_size_bucket",
        "embral_requests_total",
        "embral_memory_pressure",
    ] {
        assert!(page.contains(name), "{name}");
    }
}

#[test]
fn lazily_started_it_is_ready_once_a_model_has_computed() {
    let server = start(Settings { models: vec![golden("tiny_bert")], lazy: Some(true), ..settings() });
    assert_eq!(server.get("/ready").status, 200);
    let models = server.get("/embral/v1/models").json(200);
    assert_eq!(models["models"][0]["loaded"], true);
}

#[test]
fn what_it_took_is_answered_when_it_stops_under_load() {
    let mut server = start(Settings { models: vec![golden("tiny_bert")], ..settings() });
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let address = server.address;
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let body = json!({ "input": vec!["a cat sat on the mat"; 8] }).to_string();
                while !stop.load(Ordering::Relaxed) {
                    // Once the socket is closed nobody is taken any more.
                    let Ok(mut stream) = std::net::TcpStream::connect(address) else { break };
                    let head = format!(
                        "POST /v1/embeddings HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                        body.len()
                    );
                    if stream.write_all(format!("{head}{body}").as_bytes()).is_err() {
                        continue;
                    }
                    let reply = Reply::read(&mut stream);
                    // A connection that the system had not handed over yet may be refused; one that was is answered whole.
                    if reply.status == 200 {
                        let json: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
                        assert_eq!(json["data"].as_array().unwrap().len(), 8);
                        answered.fetch_add(1, Ordering::Relaxed);
                    } else {
                        assert_eq!(reply.status, 0, "{}", String::from_utf8_lossy(&reply.body));
                        assert!(reply.body.is_empty(), "half an answer");
                    }
                }
            });
        }
        while answered.load(Ordering::Relaxed) < 50 {
            thread::yield_now();
        }
        let wait = server.stopping();
        wait();
        stop.store(true, Ordering::Relaxed);
    });
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[test]
fn connections_that_are_kept_are_told_that_it_stops() {
    let mut server = standard();
    let mut kept = server.connect();
    let wait = server.stopping();
    let waiting = thread::spawn(wait);
    // Within the grace that clients with a connection have.
    let body = r#"{"input":"a"}"#;
    write!(kept, "POST /v1/embeddings HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
    let reply = Reply::read(&mut kept);
    assert!(reply.status == 0 || reply.status == 200 && reply.header("connection") == Some("close"), "{reply:?}");
    waiting.join().unwrap();
}
