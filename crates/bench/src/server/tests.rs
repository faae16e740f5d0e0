//! Runs against servers on the loopback.

use super::*;
use embral_testkit::server::{Reply, Request, Server, model};
use serde_json::Value;
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

const DIMS: usize = 8;

/// A run that ends with its requests, not with its time.
fn options(server: &Server, dialect: Dialect, requests: u64) -> Options {
    Options {
        url: server.url.clone(),
        dialect,
        model: Some("tiny".to_owned()),
        clients: 4,
        requests,
        seconds: 60.0,
        warm_up: 0.0,
        timeout: Duration::from_secs(20),
        ..Options::default()
    }
}

/// Ten texts.
fn ten() -> Vec<String> {
    texts(Shape::Query, 10, 1)
}

/// A good server of every dialect, with a status of its own for some requests.
fn broken(status: impl Fn(&Request, usize) -> Option<Reply> + Send + Sync + 'static) -> Server {
    let good = model("openai", DIMS);
    Server::keep_alive(move |request, number| status(request, number).unwrap_or_else(|| good(request, number)))
}

#[test]
fn every_dialect_is_measured_on_connections_that_stay_open_and_on_others() {
    for (dialect, kind) in Dialect::ALL.into_iter().zip(["embral", "openai", "openai", "tei", "ollama", "cohere"]) {
        for (keep, per) in [(true, 1), (true, 4), (false, 1)] {
            let server = if keep { Server::keep_alive(model(kind, DIMS)) } else { Server::start(model(kind, DIMS)) };
            let options = Options { texts_per_request: per, ..options(&server, dialect, 100) };
            let report = run(&options, &ten()).unwrap();
            assert_eq!((report.requests, report.good, report.texts), (100, 100, 100 * per as u64), "{dialect}");
            assert_eq!((report.fault(), report.wrong, report.differing), (None, 0, 0), "{dialect}: {report}");
            assert_eq!((report.dimensions, report.latency.count), (Some(DIMS), 100), "{dialect}");
            assert_eq!((report.statuses.get(&200), report.broken.len()), (Some(&100), 0), "{dialect}: {report}");
            assert!(report.latency.p50 > 0 && report.latency.p50 <= report.latency.max, "{report}");
            // TEI speaks of tokens in a header, which this server does not send.
            assert_eq!(report.tokens > 0, dialect != Dialect::Tei, "{dialect}");
            // The probe comes first.
            assert_eq!(server.requests().len(), 101, "{dialect}");
            let texts = server.requests()[1].json();
            let texts = ["input", "inputs", "texts"].map(|name| texts[name].clone()).into_iter().find(|t| !t.is_null());
            assert_eq!(texts.unwrap().is_string(), per == 1 && dialect != Dialect::Cohere, "{dialect}");
        }
    }
}

#[test]
fn the_warm_up_is_not_counted() {
    let server = Server::keep_alive(model("openai", DIMS));
    let options = Options { warm_up: 0.2, ..options(&server, Dialect::OpenAi, 20) };
    let report = run(&options, &ten()).unwrap();
    assert_eq!((report.requests, report.latency.count), (20, 20));
    assert!(server.requests().len() > 21, "{}", server.requests().len());
}

#[test]
fn requests_carry_the_key_the_model_and_the_priority() {
    let server = Server::keep_alive(model("openai", DIMS));
    let options = Options {
        url: format!("{}/v1/", server.url),
        api_key: Some("k".to_owned()),
        priority: Some("high".to_owned()),
        ..options(&server, Dialect::OpenAiBase64, 3)
    };
    run(&options, &ten()).unwrap();
    let requests = server.requests();
    let last = requests.last().unwrap();
    assert_eq!((last.method.as_str(), last.path.as_str()), ("POST", "/v1/embeddings"));
    assert_eq!((last.header("authorization"), last.header("x-embral-priority")), (Some("Bearer k"), Some("high")));
    assert_eq!(last.header("host"), server.url.strip_prefix("http://"));
    assert_eq!(
        (last.json()["model"].as_str(), last.json()["encoding_format"].as_str()),
        (Some("tiny"), Some("base64"))
    );
}

#[test]
fn a_mix_has_all_kinds_and_bad_requests_are_good_where_they_are_refused() {
    let server = Server::keep_alive(model("embral", DIMS));
    let mix = "single=3,batch=2,rerank=1,tokenize=1,bad=1".parse().ok();
    let report = run(&Options { mix, ..options(&server, Dialect::Embral, 400) }, &ten()).unwrap();
    assert_eq!((report.requests, report.good, report.kinds.len(), report.fault()), (400, 400, 5, None), "{report}");
    assert_eq!(report.kinds.iter().map(|kind| kind.requests).sum::<u64>(), 400);
    assert_eq!(report.texts, report.kinds[0].requests + 16 * report.kinds[1].requests);
    assert!(report.statuses[&422] > 0 && report.statuses[&404] > 0, "{report}");
    assert!(report.to_string().contains("\n  rerank "), "{report}");
}

#[test]
fn a_bad_request_that_is_answered_is_wrong() {
    let server = Server::keep_alive(|request, number| match request.body.is_empty() {
        true => Reply::status(500, "panicked"),
        false => model("openai", DIMS)(request, number),
    });
    let mix = "single=1,bad=1".parse().ok();
    let report = run(&Options { mix, ..options(&server, Dialect::OpenAi, 60) }, &ten()).unwrap();
    assert!(report.fault().unwrap().contains("status 500 to a request that must be refused"), "{report}");
}

/// Each of the ten texts is asked for 200 times, and the 65th, 129th and 193rd answer is read in full.
#[test]
fn vectors_that_change_are_wrong() {
    let asked = AtomicUsize::new(0);
    let server = Server::keep_alive(move |request, number| {
        let mut request = request.clone();
        if asked.fetch_add(1, Ordering::Relaxed) > 20 {
            request.body = br#"{"input":"something else","encoding_format":"float"}"#.to_vec();
        }
        model("openai", DIMS)(&request, number)
    });
    let report = run(&options(&server, Dialect::OpenAi, 2000), &ten()).unwrap();
    assert!(report.wrong > 0 && report.good < report.requests, "{report}");
    assert!(report.fault().unwrap().contains("is another than the first one"), "{report}");
    let json: Value = serde_json::from_str(&report.to_json()).unwrap();
    assert_eq!(json["answers"]["wrong"].as_u64(), Some(report.wrong));
}

#[test]
fn refusals_are_counted_and_no_fault() {
    let server = broken(|_, number| (number > 0 && number.is_multiple_of(10)).then(|| Reply::status(429, "full")));
    let report = run(&options(&server, Dialect::OpenAi, 50), &ten()).unwrap();
    assert_eq!((report.statuses[&429], report.good, report.fault()), (5, 45, None), "{report}");
    let server = broken(|_, number| (number == 7).then(|| Reply::status(500, "on fire")));
    let report = run(&options(&server, Dialect::OpenAi, 50), &ten()).unwrap();
    assert!(report.fault().unwrap().contains("1 requests failed with status 500; the first: on fire"), "{report}");
    assert!(report.to_string().contains("\n  status 500, 1 times: on fire"), "{report}");
}

#[test]
fn requests_without_an_answer_are_counted_by_how_they_ended() {
    for (reply, how) in [
        (Reply::Close, Broken::Closed),
        (Reply::Half("{\"data\": []}".to_owned()), Broken::Cut),
        (Reply::Endless, Broken::Cut),
        (Reply::Silence, Broken::Timeout),
    ] {
        let server = broken(move |_, number| (number == 7).then(|| reply.clone()));
        let timeout = if how == Broken::Timeout { Duration::from_secs(3) } else { Duration::from_secs(60) };
        let report = run(&Options { timeout, ..options(&server, Dialect::OpenAi, 50) }, &ten()).unwrap();
        assert_eq!(report.broken.get(&how), Some(&1), "{how:?}: {report}");
        assert_eq!((report.requests, report.good, report.fault()), (50, 49, None), "{how:?}: {report}");
    }
}

#[test]
fn what_is_wrong_from_the_start_is_an_error() {
    let fails = |server: &Server, dialect| run(&options(server, dialect, 10), &ten()).unwrap_err().to_string();
    let server = Server::start(model("tei", DIMS));
    assert!(
        fails(&server, Dialect::OpenAi)
            .contains("POST /v1/embeddings: status 404: {\"error\":\"no such route\"} (--dialect")
    );
    let server = broken(|_, _| Some(Reply::status(401, "no key")));
    assert!(fails(&server, Dialect::OpenAi).contains("--api-key"), "{}", fails(&server, Dialect::OpenAi));
    let server = broken(|_, _| Some(Reply::status(200, "[]")));
    assert!(fails(&server, Dialect::OpenAi).contains("not of the form"), "{}", fails(&server, Dialect::OpenAi));
    let server = broken(|_, _| Some(Reply::Close));
    assert!(fails(&server, Dialect::OpenAi).contains("did not answer: closed"), "{}", fails(&server, Dialect::OpenAi));
    let gone = Options { url: "http://127.0.0.1:1".to_owned(), ..Options::default() };
    assert!(run(&gone, &ten()).unwrap_err().to_string().contains("did not answer: connect"));
    let good = Server::start(model("openai", DIMS));
    let good = options(&good, Dialect::OpenAi, 1);
    for wrong in [
        Options { clients: 0, ..good.clone() },
        Options { seconds: f64::NAN, ..good.clone() },
        Options { warm_up: -1.0, ..good.clone() },
        Options { rate: Some(0.0), ..good.clone() },
        Options { requests: 0, ..good.clone() },
        Options { texts_per_request: 0, ..good.clone() },
        Options { url: "http://192.0.2.1".to_owned(), ..good.clone() },
        Options { pid: Some(u32::MAX), ..good.clone() },
    ] {
        assert!(run(&wrong, &ten()).is_err(), "{wrong:?}");
    }
    assert!(run(&good, &[]).is_err());
}

/// One answer takes half a second and the others nothing: with one connection every request that was due meanwhile has waited, though each was
/// answered at once when it was sent. All are due within 0.1 s, so that each waited for 0.4 s at least.
#[test]
fn the_time_of_the_open_loop_runs_from_when_a_request_was_due() {
    const STALL: Duration = Duration::from_millis(500);
    let server = broken(|_, number| {
        if number == 1 {
            thread::sleep(STALL);
        }
        None
    });
    let options = Options { rate: Some(500.0), clients: 1, seconds: 0.1, ..options(&server, Dialect::OpenAi, 40) };
    let report = run(&options, &ten()).unwrap();
    assert!(report.requests > 20 && report.requests <= 40, "{report}");
    assert_eq!((report.good, report.unsent), (report.requests, 0), "{report}");
    assert!(report.latency.p50 >= 400_000 && report.late.p50 >= 400_000, "{report}");
    assert!(report.to_string().contains("open loop at 500 requests/s, seed 1, 1 connections"), "{report}");
}

#[test]
fn requests_that_could_not_be_sent_in_time_are_counted() {
    // One answer is not there within the run and the timeout; what was due behind it is never sent.
    let server = broken(|_, number| (number >= 1).then_some(Reply::Silence));
    let options = Options {
        rate: Some(1000.0),
        clients: 1,
        seconds: 0.1,
        timeout: Duration::from_millis(100),
        ..options(&server, Dialect::OpenAi, 50)
    };
    let report = run(&options, &ten()).unwrap();
    assert!(report.unsent > 0, "{report}");
    assert_eq!(report.requests + report.unsent, 50, "{report}");
    assert_eq!(report.fault().as_deref(), Some("no request was answered"));
    assert!(report.to_string().contains("does not keep up with the rate"), "{report}");
}

#[cfg(target_os = "linux")]
#[test]
fn the_memory_of_the_server_is_looked_at() {
    let server = Server::keep_alive(model("openai", DIMS));
    let options = Options { pid: Some(std::process::id()), ..options(&server, Dialect::OpenAi, 50) };
    let report = run(&options, &ten()).unwrap();
    let memory = report.memory.as_ref().unwrap();
    let (first, last) = (memory.samples[0], memory.samples[memory.samples.len() - 1]);
    assert_eq!((first.requests, last.requests, memory.gone), (0, 50, false));
    assert!(first.rss_bytes > 1 << 20 && report.cpu_seconds.unwrap() > 0.0, "{report}");
    assert!(report.to_string().contains("\nmemory MB   "), "{report}");
    let json: Value = serde_json::from_str(&report.to_json()).unwrap();
    assert_eq!(json["memory"]["samples"][0][1].as_u64(), Some(0));
}
