//! More than it can do.

use crate::support::{golden, settings, start};
use embral_server::Settings;
use serde_json::json;
use std::{collections::BTreeMap, sync::Mutex, thread};

#[test]
fn a_full_queue_refuses_with_a_time_and_every_request_is_answered_once() {
    let models = vec![golden("tiny_bert")];
    let server = start(Settings { models, queue_requests: Some(2), queue_tokens: Some(3000), ..settings() });
    let statuses = Mutex::new(BTreeMap::<u16, usize>::new());
    thread::scope(|scope| {
        for _ in 0..24 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let reply =
                        server.post("/v1/embeddings", &json!({ "input": vec!["a cat sat on the mat and slept"; 64] }));
                    if reply.status == 429 {
                        let seconds: u64 = reply.header("retry-after").unwrap().parse().unwrap();
                        assert!(seconds >= 1);
                        assert_eq!(reply.json(429)["error"]["code"], "overloaded");
                    }
                    *statuses.lock().unwrap().entry(reply.status).or_default() += 1;
                }
            });
        }
    });
    let statuses = statuses.into_inner().unwrap();
    assert!(statuses.keys().all(|status| [200, 429].contains(status)), "{statuses:?}");
    assert_eq!(statuses.values().sum::<usize>(), 240);
    assert!(statuses[&200] > 0, "{statuses:?}");
    let totals = &server.get("/embral/v1/status").json(200)["models"][0]["totals"];
    // With the probe of the start.
    assert_eq!(totals["done"].as_u64().unwrap(), statuses[&200] as u64 + 1);
    assert_eq!(totals["refused"].as_u64().unwrap(), statuses.get(&429).copied().unwrap_or(0) as u64);
    // As fast as ever right after.
    assert_eq!(server.post("/v1/embeddings", &json!({ "input": "a" })).status, 200);
}

#[test]
fn a_request_that_would_never_fit_is_told_to_come_in_parts() {
    let server = start(Settings { models: vec![golden("tiny_bert")], queue_tokens: Some(50), ..settings() });
    let reply = server.post("/v1/embeddings", &json!({ "input": vec!["a cat sat on the mat"; 64] })).json(413);
    assert!(reply["error"]["message"].as_str().unwrap().contains("in parts"), "{reply}");
}

#[test]
fn clients_that_leave_take_their_texts_along() {
    let server = start(Settings { models: vec![golden("tiny_qwen3")], ..settings() });
    let body = json!({ "input": vec!["a cat sat on the mat and slept all day"; 2000] }).to_string();
    for _ in 0..4 {
        use std::io::Write;
        let mut stream = server.connect();
        write!(stream, "POST /v1/embeddings HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len())
            .unwrap();
    }
    // Those who left are noticed, and the queue empties without their texts being computed to the end.
    for _ in 0..1200 {
        let status = server.get("/embral/v1/status").json(200);
        let queue = &status["models"][0]["queue"];
        if queue["waiting_sequences"] == 0 && queue["running_sequences"] == 0 && status["requests"]["in_flight"] == 1 {
            return;
        }
        thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("the queue did not empty");
}
