//! Pools of servers on the loopback and of models of this machine: what comes back where workers fail, and what is said where none is
//! left.

#![cfg(feature = "remote")]

use embral::{
    Config, Error, ErrorKind, Precision, Prompt,
    pool::{Pool, PoolOptions, Strategy, Worker, WorkerState, WorkerStatus},
};
use embral_testkit::server::{Reply, Request, Server, model, vector};
use serde_json::json;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

const DIMS: usize = 8;
const LONG: Duration = Duration::from_secs(3600);

/// Probes come soon, batches are small, and nobody is probed who serves.
fn quick() -> PoolOptions {
    PoolOptions {
        strategy: Strategy::RoundRobin,
        health_every: Duration::MAX,
        eject_for: Duration::from_millis(5),
        eject_at_most: Duration::from_millis(20),
        batch_texts: Some(4),
        ..PoolOptions::default()
    }
}

/// Who is ejected stays so, and nobody waits for it.
fn final_ejections() -> PoolOptions {
    PoolOptions { eject_for: LONG, eject_at_most: LONG, patience: Duration::ZERO, ..quick() }
}

fn open(addresses: &[String], options: PoolOptions) -> Pool {
    Pool::open(addresses, &Config::default(), options).unwrap()
}

fn refused(addresses: &[String]) -> Error {
    Pool::open(addresses, &Config::default(), quick()).expect_err("there is no such pool")
}

fn texts(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("text number {i}")).collect()
}

fn expected(texts: &[impl AsRef<str>]) -> Vec<f32> {
    texts.iter().flat_map(|text| vector(text.as_ref(), DIMS)).collect()
}

fn good() -> Server {
    Server::start(model("openai", DIMS))
}

/// A server that answers the probe, and all else by `answer`, which is given the number of its call, from 0.
fn spoilt(answer: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Server {
    let well = model("openai", DIMS);
    let calls = AtomicUsize::new(0);
    Server::start(move |request, number| {
        if request.json()["input"][0] == "warm up" || request.method == "GET" {
            well(request, number)
        } else {
            answer(request, calls.fetch_add(1, Ordering::SeqCst))
        }
    })
}

fn address(server: &Server) -> String {
    format!("{}/v1?model=tiny", server.url)
}

fn worker(pool: &Pool, index: usize) -> WorkerStatus {
    pool.status().workers.swap_remove(index)
}

/// Waits until a worker is as it is to be.
fn until(pool: &Pool, index: usize, is: impl Fn(&WorkerStatus) -> bool) -> WorkerStatus {
    loop {
        let worker = worker(pool, index);
        if is(&worker) {
            return worker;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn every_kind_of_server_is_a_worker_and_all_of_them_work() {
    let servers: Vec<Server> =
        ["openai", "tei", "ollama", "cohere"].map(|kind| Server::start(model(kind, DIMS))).into();
    let mut addresses: Vec<String> = servers.iter().map(|server| server.url.clone()).collect();
    addresses[3] = format!("{}/v2?model=tiny", servers[3].url);
    for strategy in Strategy::ALL {
        // With no size given, a batch is what the server of the smallest takes.
        let pool = open(&addresses, PoolOptions { strategy, batch_texts: None, ..quick() });
        assert_eq!((pool.dimensions(), pool.slots(), pool.batch_texts(), pool.info().max_tokens), (DIMS, 16, 4, 512));
        let texts = texts(300);
        let rows = pool.embed_batch_distributed(&texts, Prompt::Default).unwrap();
        assert_eq!(rows.as_slice(), expected(&texts), "{strategy}");
        let status = pool.status();
        assert_eq!((status.strategy, status.in_rotation()), (strategy, 4));
        let of_all = |of: fn(&WorkerStatus) -> u64| status.workers.iter().map(of).sum::<u64>();
        assert_eq!([of_all(|w| w.texts), of_all(|w| w.answered), of_all(|w| w.failed)], [300, 75, 0]);
        for (worker, address) in status.workers.iter().zip(&addresses) {
            assert_eq!((&worker.name, worker.in_flight, worker.slots), (address, 0, 4));
            assert!(worker.answered > 0 && worker.tokens_per_second.is_some(), "{strategy}: {worker:?}");
        }
    }
}

#[test]
fn whatever_a_worker_fails_by_another_answers() {
    type Fault = fn() -> Reply;
    let cases: [(&str, Fault, &str); 10] = [
        ("", || Reply::status(500, "oh"), "the server failed (status 500): oh"),
        ("", || Reply::status(503, ""), "the server failed (status 503)"),
        ("", || Reply::Whole(503, vec![("Retry-After", "0".to_owned())], String::new()), "status 503"),
        ("", || Reply::Whole(429, vec![("Retry-After", "3600".to_owned())], String::new()), "too many requests"),
        ("", || Reply::Close, "no answer"),
        ("", || Reply::Half("{\"data\":[]}".repeat(50)), "the answer broke off"),
        ("", || Reply::status(200, "{\"data\":[{\"embed"), "EOF"),
        ("&timeout=0.3", || Reply::Silence, "no whole answer in time"),
        ("", || Reply::status(401, ""), "the server refuses the API key"),
        ("", || Reply::json(&json!({ "data": [] })), "expected 4 vectors, one a text, found 0"),
    ];
    for (parameters, fault, message) in cases {
        let (bad, good) = (spoilt(move |_, _| fault()), good());
        let pool = open(&[format!("{}{parameters}", address(&bad)), address(&good)], final_ejections());
        let texts = texts(40);
        let rows = pool.embed_batch_distributed(&texts, Prompt::Default).unwrap();
        assert_eq!(rows.as_slice(), expected(&texts), "{message}");
        let [one, other] = [worker(&pool, 0), worker(&pool, 1)];
        assert!(one.last_error.as_ref().is_some_and(|error| error.contains(message)), "{one:?}");
        assert_eq!((one.answered, other.answered, other.texts, other.failed), (0, 10, 40, 0), "{message}");
        // A try is one request.
        assert_eq!(bad.count("/v1/embeddings") as u64, 1 + one.failed, "{message}");
        let state = match message {
            "too many requests" => WorkerState::Resting,
            "status 503" => one.state,
            _ => WorkerState::Ejected,
        };
        assert_eq!(one.state, state, "{message}");
    }
}

#[test]
fn what_does_not_pass_ejects_at_once_and_what_may_pass_after_some() {
    for (status, after) in [(401, 1), (404, 1), (500, 3)] {
        let (bad, good) = (spoilt(move |_, _| Reply::status(status, "")), good());
        let pool = open(&[address(&bad), address(&good)], final_ejections());
        for _ in 0..8 {
            pool.embed_on_one(&["x"], Prompt::Default).unwrap();
        }
        let bad = worker(&pool, 0);
        assert_eq!((bad.failed, bad.ejections, bad.state), (after, 1, WorkerState::Ejected), "{status}");
    }
}

#[test]
fn a_worker_that_is_killed_in_the_middle_loses_nothing() {
    let (dies, died) = mpsc::channel();
    let dies = Mutex::new(dies);
    let well = model("openai", DIMS);
    let mortal = spoilt(move |request, number| match number {
        0..5 => well(request, number),
        _ => {
            let _ = dies.lock().unwrap().send(());
            Reply::Half("{\"data\":[]}".repeat(50))
        }
    });
    let (one, other) = (good(), good());
    let pool = open(&[address(&mortal), address(&one), address(&other)], final_ejections());
    let texts = texts(400);
    thread::scope(|scope| {
        let call = scope.spawn(|| pool.embed_batch_distributed(&texts, Prompt::Default).unwrap());
        died.recv().unwrap();
        drop(mortal);
        assert_eq!(call.join().unwrap().as_slice(), expected(&texts));
    });
    let all: u64 = pool.status().workers.iter().map(|worker| worker.texts).sum();
    assert_eq!((all, worker(&pool, 0).answered), (400, 5));
    assert!(worker(&pool, 0).failed > 0);
    // And it is no more.
    let rows = pool.embed_batch_distributed(&texts, Prompt::Default).unwrap();
    assert_eq!(rows.as_slice(), expected(&texts));
}

#[test]
fn an_answer_that_comes_too_late_is_nobodys() {
    let (go, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let slow = spoilt(move |request, _| {
        // Until the call is over. Vectors of other texts: they would be seen.
        let _ = gate.lock().unwrap().recv();
        let row = |i| json!({ "index": i, "embedding": vector("late", DIMS) });
        let count = request.json()["input"].as_array().map_or(0, Vec::len);
        Reply::json(&json!({ "data": (0..count).map(row).collect::<Vec<_>>() }))
    });
    let good = good();
    let pool = open(&[format!("{}&timeout=0.3", address(&slow)), address(&good)], final_ejections());
    let texts = texts(40);
    let rows = pool.embed_batch_distributed(&texts, Prompt::Default).unwrap();
    drop(go);
    assert_eq!(rows.as_slice(), expected(&texts));
    assert_eq!((worker(&pool, 0).answered, worker(&pool, 1).texts), (0, 40));
    let again = pool.embed_on_one(&["x"], Prompt::Default).unwrap();
    assert_eq!((again.vectors.as_slice(), again.worker), (&vector("x", DIMS)[..], 1));
}

#[test]
fn a_busy_worker_gets_the_time_it_asks_for() {
    let well = model("openai", DIMS);
    let busy = spoilt(move |request, number| match number {
        0 => Reply::Whole(429, vec![("Retry-After", "1".to_owned())], String::new()),
        _ => well(request, number),
    });
    let pool = open(&[address(&busy)], PoolOptions { eject_after: 1, ..final_ejections() });
    let start = Instant::now();
    let answered = pool.embed_on_one(&["x"], Prompt::Default).unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));
    assert_eq!((answered.vectors.as_slice(), answered.tries), (&vector("x", DIMS)[..], 2));
    let status = worker(&pool, 0);
    assert_eq!((status.state, status.failed, status.ejections), (WorkerState::Serving, 1, 0));

    let busy = spoilt(|_, _| Reply::Whole(429, vec![("Retry-After", "3600".to_owned())], String::new()));
    let pool = open(&[address(&busy)], quick());
    let error = pool.embed_on_one(&["x"], Prompt::Default).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    assert!(error.to_string().contains("before the deadline (1 tries in "), "{error}");
    assert!(error.to_string().contains("too many requests (status 429)"), "{error}");
}

/// A server that is there while `up` is.
fn at_times(up: &Arc<AtomicBool>, dims: usize) -> Server {
    let (up, well) = (Arc::clone(up), model("openai", dims));
    Server::start(move |request, number| if up.load(Ordering::SeqCst) { well(request, number) } else { Reply::Close })
}

#[test]
fn a_worker_that_comes_back_is_used_again() {
    let up = Arc::new(AtomicBool::new(true));
    let (sometimes, always) = (at_times(&up, DIMS), good());
    let pool = open(&[address(&sometimes), address(&always)], PoolOptions { eject_after: 1, ..quick() });
    let texts = texts(40);
    for round in 1..4 {
        up.store(false, Ordering::SeqCst);
        let rows = pool.embed_batch_distributed(&texts, Prompt::Default).unwrap();
        assert_eq!(rows.as_slice(), expected(&texts));
        assert_eq!(worker(&pool, 0).state, WorkerState::Ejected);
        up.store(true, Ordering::SeqCst);
        until(&pool, 0, |worker| worker.state == WorkerState::Serving);
        let rows = pool.embed_batch_distributed(&texts, Prompt::Default).unwrap();
        assert_eq!(rows.as_slice(), expected(&texts));
        let back = worker(&pool, 0);
        assert_eq!(back.ejections, round);
        assert!(back.answered >= round, "{back:?}");
    }
}

#[test]
fn a_call_waits_for_the_only_worker_to_come_back() {
    let up = Arc::new(AtomicBool::new(true));
    let server = at_times(&up, DIMS);
    let pool = open(&[address(&server)], PoolOptions { eject_after: 1, ..quick() });
    up.store(false, Ordering::SeqCst);
    let texts = texts(40);
    thread::scope(|scope| {
        let call = scope.spawn(|| pool.embed_batch_distributed(&texts, Prompt::Default).unwrap());
        until(&pool, 0, |worker| worker.state == WorkerState::Ejected);
        up.store(true, Ordering::SeqCst);
        assert_eq!(call.join().unwrap().as_slice(), expected(&texts));
    });
}

#[test]
fn a_worker_that_is_down_at_the_start_is_used_when_it_comes() {
    let up = Arc::new(AtomicBool::new(false));
    let (later, always) = (at_times(&up, DIMS), good());
    // Its kind and its model are asked for when it is there.
    let pool = open(&[later.url.clone(), address(&always)], quick());
    let down = worker(&pool, 0);
    assert_eq!((down.state, down.ejections), (WorkerState::Ejected, 0));
    assert!(down.last_error.is_some_and(|error| error.contains("no answer")));
    assert_eq!(pool.embed_on_one(&["x"], Prompt::Default).unwrap().worker, 1);
    up.store(true, Ordering::SeqCst);
    until(&pool, 0, |worker| worker.state == WorkerState::Serving);
    let texts = texts(40);
    let rows = pool.embed_batch_distributed(&texts, Prompt::Default).unwrap();
    assert_eq!(rows.as_slice(), expected(&texts));
    assert!(worker(&pool, 0).texts > 0);
}

#[test]
fn an_idle_worker_that_goes_is_noticed() {
    let up = Arc::new(AtomicBool::new(true));
    let (sometimes, always) = (at_times(&up, DIMS), good());
    let every = Duration::from_millis(2);
    let pool = open(&[address(&sometimes), address(&always)], PoolOptions { health_every: every, ..quick() });
    up.store(false, Ordering::SeqCst);
    let gone = until(&pool, 0, |worker| worker.state == WorkerState::Ejected);
    assert_eq!((gone.failed, gone.answered, gone.ejections), (0, 0, 1));
    up.store(true, Ordering::SeqCst);
    until(&pool, 0, |worker| worker.state == WorkerState::Serving);
    assert_eq!(worker(&pool, 1).ejections, 0);
}

/// A TEI-type server of a model of this name, whose vectors are those of texts with something before them.
fn tei(name: &'static str, before: &'static str, dims: usize) -> Server {
    let well = model("tei", dims);
    Server::start(move |request, number| match request.path.as_str() {
        "/info" => Reply::json(&json!({ "model_id": name, "model_type": { "embedding": {} } })),
        "/embed" => {
            let texts = request.json()["inputs"].as_array().cloned().unwrap_or_default();
            let row =
                |text: &serde_json::Value| vector(&format!("{before}{}", text.as_str().unwrap_or_default()), dims);
            Reply::json(&json!(texts.iter().map(row).collect::<Vec<_>>()))
        }
        _ => well(request, number),
    })
}

#[test]
fn workers_of_two_models_are_no_pool() {
    let first = tei("BAAI/bge-m3", "", DIMS);
    let pool = open(&[first.url.clone(), tei("bge-m3", "", DIMS).url.clone()], quick());
    assert_eq!(pool.dimensions(), DIMS);
    for (other, message) in [
        (tei("e5", "", DIMS), "has BAAI/bge-m3, and {} e5"),
        (tei("bge-m3", "", DIMS + 1), "gives vectors of 8 components, and {} of 9"),
        (tei("bge-m3", "other: ", DIMS), "and {} give vectors whose cosine is "),
    ] {
        let error = refused(&[first.url.clone(), other.url.clone()]);
        let line = error.to_string();
        assert_eq!(error.kind(), ErrorKind::Mismatch);
        assert!(line.contains(&message.replace("{}", &other.url)) && line.contains(&first.url), "{line}");
    }
    // Two names of one model, by the word of the caller.
    let other = tei("e5", "", DIMS);
    open(&[first.url.clone(), format!("{}?model=tiny", other.url)], quick());
}

#[test]
fn a_worker_of_another_width_never_comes_into_rotation() {
    let up = Arc::new(AtomicBool::new(false));
    let (wide, always) = (at_times(&up, DIMS + 1), good());
    let pool = open(&[address(&wide), address(&always)], quick());
    up.store(true, Ordering::SeqCst);
    let disagrees = |worker: &WorkerStatus| {
        worker.last_error.as_ref().is_some_and(|e| e.contains("of 8 components, and") && e.ends_with(" of 9"))
    };
    until(&pool, 0, disagrees);
    let before = wide.count("/v1/embeddings");
    until(&pool, 0, |_| wide.count("/v1/embeddings") > before + 3);
    let texts = texts(40);
    let rows = pool.embed_batch_distributed(&texts, Prompt::Default).unwrap();
    assert_eq!(rows.as_slice(), expected(&texts));
    let never = worker(&pool, 0);
    assert_eq!((never.state, never.answered, never.failed), (WorkerState::Ejected, 0, 0));
}

#[test]
fn a_worker_that_becomes_another_model_is_taken_out() {
    let changed = Arc::new(AtomicBool::new(false));
    let is_changed = Arc::clone(&changed);
    let (well, wide) = (model("openai", DIMS), model("openai", DIMS + 1));
    let changes =
        Server::start(
            move |request, number| {
                if is_changed.load(Ordering::SeqCst) { wide(request, number) } else { well(request, number) }
            },
        );
    let always = good();
    let pool = open(&[address(&changes), address(&always)], PoolOptions { eject_after: 1, ..final_ejections() });
    changed.store(true, Ordering::SeqCst);
    let texts = texts(40);
    let rows = pool.embed_batch_distributed(&texts, Prompt::Default).unwrap();
    assert_eq!(rows.as_slice(), expected(&texts));
    let out = worker(&pool, 0);
    assert_eq!((out.state, out.answered), (WorkerState::Ejected, 0));
    assert!(out.last_error.unwrap().contains("expected vectors of 8 components, found 9"));
}

#[test]
fn nobody_there_is_said_with_every_worker() {
    let (closed, refuses) = (Server::start(|_, _| Reply::Close), Server::start(|_, _| Reply::status(503, "loading")));
    let gone = good().url.clone();
    let error = refused(&[closed.url.clone(), refuses.url.clone(), gone.clone()]);
    let line = error.to_string();
    assert_eq!(error.kind(), ErrorKind::Network);
    assert!(line.starts_with(&format!("no worker answers: {}: no answer", closed.url)), "{line}");
    assert!(line.contains(&format!("{}: the server failed (status 503): loading; {gone}: no answer", refuses.url)));

    // What trying again does not change is said at once, though another answers.
    let (good, wrong) = (good(), Server::start(|_, _| Reply::status(401, "")));
    let error = refused(&[address(&good), address(&wrong)]).to_string();
    assert!(error.starts_with(&format!("worker {}: the server refuses the API key", address(&wrong))), "{error}");

    // The same in the middle.
    let (one, other) = (spoilt(|_, _| Reply::status(500, "oh")), spoilt(|_, _| Reply::Close));
    let pool = open(&[address(&one), address(&other)], PoolOptions { eject_after: 1, ..final_ejections() });
    let error = pool.embed_batch_distributed(&texts(4), Prompt::Default).unwrap_err();
    let line = error.to_string();
    assert!(line.starts_with("texts 0 to 3: no worker answered, all are ejected (2 tries in "), "{line}");
    assert!(line.contains(&format!("{}: the server failed (status 500): oh; ", address(&one))), "{line}");
    assert!(line.contains(&format!("{}: no answer: ", address(&other))), "{line}");
}

#[test]
fn a_text_that_a_server_refuses_is_named_by_its_place() {
    let choosy = || {
        let well = model("openai", DIMS);
        spoilt(move |request, number| match request.json()["input"].as_array() {
            Some(texts) if texts.iter().any(|text| text == "text number 29") => {
                Reply::status(422, r#"{"error":"`inputs` must have less than 512 tokens. Given: 600"}"#)
            }
            _ => well(request, number),
        })
    };
    let (one, other) = (choosy(), choosy());
    let options = PoolOptions { batch_texts: Some(16), eject_after: 1, ..final_ejections() };
    let pool = open(&[address(&one), address(&other)], options);
    let error = pool.embed_batch_distributed(&texts(64), Prompt::Default).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLong);
    assert!(error.message().starts_with("text 29: http://127.0.0.1:"), "{error}");
    assert!(error.message().contains("as too long (status 422): `inputs` must have less than 512 tokens"), "{error}");
    let error = pool.embed_on_one(&texts(30), Prompt::Default).unwrap_err();
    assert!(error.message().starts_with("text 29: "), "{error}");
    assert_eq!(pool.status().in_rotation(), 2);

    // A server that refuses batches and not one of their texts is answered by halves.
    let well = model("openai", DIMS);
    let narrow = spoilt(move |request, number| match request.json()["input"].as_array().map(Vec::len) {
        Some(n) if n > 3 => Reply::status(400, "too many"),
        _ => well(request, number),
    });
    let pool = open(&[address(&narrow)], PoolOptions { batch_texts: Some(16), ..final_ejections() });
    let texts = texts(20);
    let rows = pool.embed_batch_distributed(&texts, Prompt::Default).unwrap();
    assert_eq!(rows.as_slice(), expected(&texts));
}

#[test]
fn calls_at_the_same_time_share_the_workers() {
    let well = model("openai", DIMS);
    let flaky = spoilt(move |request, number| if number % 3 == 1 { Reply::Close } else { well(request, number) });
    let (one, other) = (good(), good());
    let addresses = [address(&flaky), format!("{}&concurrency=1", address(&one)), address(&other)];
    let pool = open(&addresses, quick());
    assert_eq!(pool.slots(), 9);
    thread::scope(|scope| {
        for caller in 0..6 {
            let pool = &pool;
            scope.spawn(move || {
                for call in 0..10 {
                    let texts: Vec<String> = (0..7).map(|i| format!("{caller} {call} {i}")).collect();
                    let answered = pool.embed_on_one(&texts, Prompt::Default).unwrap();
                    assert_eq!(answered.vectors.as_slice(), expected(&texts));
                    assert!(answered.worker < 3 && answered.tries > 0);
                    let rows = pool.embed_batch_distributed(&texts, Prompt::Text("p: ")).unwrap();
                    let told: Vec<String> = texts.iter().map(|text| format!("p: {text}")).collect();
                    assert_eq!(rows.as_slice(), expected(&told));
                }
            });
        }
    });
    let status = pool.status();
    assert_eq!(status.workers.iter().map(|worker| worker.texts).sum::<u64>(), 6 * 10 * 14);
    assert!(status.workers.iter().all(|worker| worker.in_flight == 0 && worker.answered > 0), "{status:?}");
}

#[test]
fn an_address_says_more_than_the_options() {
    // Tries of one worker before another is asked.
    let (bad, good) = (spoilt(|_, _| Reply::Close), good());
    let pool = open(&[format!("{}&retries=1", address(&bad)), address(&good)], final_ejections());
    assert_eq!(pool.embed_on_one(&["x"], Prompt::Default).unwrap().tries, 2);
    assert_eq!(bad.count("/v1/embeddings"), 3);

    let config = Config { precision: Precision::Int8, ..Config::default() };
    let error = Pool::open(&[address(&good)], &config, quick()).unwrap_err().to_string();
    assert!(error.contains("a precision was asked for"), "{error}");
    let error = refused(&["http://h?modle=x".to_owned()]).to_string();
    assert!(error.contains("unknown or empty parameter"), "{error}");
    let worker = Worker::open(&address(&good), &Config::default()).unwrap().named("good");
    assert_eq!(worker.name(), "good");
    let cut = Config { dims: Some(4), ..Config::default() };
    let pool = Pool::open(&[address(&good)], &cut, quick()).unwrap();
    assert_eq!(pool.embed_on_one(&["x"], Prompt::Default).unwrap().vectors.as_slice(), vector("x", 4));
}

#[cfg(feature = "vector-cache")]
#[test]
fn vectors_of_servers_are_not_kept() {
    let vector_cache = Some(embral::cache::VectorCache::default());
    let config = Config { vector_cache, ..Config::default() };
    let error = Pool::open(&["http://127.0.0.1:9"], &config, quick()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

/// The model inside the library.
#[cfg(feature = "default-model")]
mod local {
    use super::*;
    use embral::Embedder;

    fn embedder() -> Arc<Embedder> {
        Arc::new(Embedder::open_default().unwrap())
    }

    #[test]
    fn vectors_are_those_of_the_library_bit_for_bit() {
        let one = embedder();
        let texts: Vec<String> = (0..500).map(|i| format!("sentence {i} about {}", i * i)).collect();
        let expected = one.embed_batch(&texts).unwrap();
        let workers = || vec![Worker::local("one", Arc::clone(&one)), Worker::local("other", embedder())];
        for (strategy, batch_texts) in Strategy::ALL.into_iter().zip([None, Some(1), Some(7), Some(1000)]) {
            let pool = Pool::of(workers(), PoolOptions { strategy, batch_texts, ..quick() }).unwrap();
            let rows = pool.embed_batch_distributed(&texts, Prompt::Default).unwrap();
            assert!(rows.as_slice().iter().map(|x| x.to_bits()).eq(expected.as_slice().iter().map(|x| x.to_bits())));
            let whole = pool.embed_on_one(&texts, Prompt::Default).unwrap();
            assert_eq!((whole.vectors == expected, whole.tries), (true, 1));
        }
    }

    /// A server of the default model, which dies after some answers.
    fn served(embedder: Arc<Embedder>, lives: usize) -> Server {
        let answers = AtomicUsize::new(0);
        Server::start(move |request, _| {
            let body = request.json();
            let texts: Vec<&str> =
                body["input"].as_array().into_iter().flatten().filter_map(|text| text.as_str()).collect();
            let whole = json!({ "data": embedder.embed_batch(&texts).unwrap().rows()
                .map(|row| json!({ "embedding": row })).collect::<Vec<_>>() });
            if answers.fetch_add(1, Ordering::SeqCst) < lives {
                Reply::json(&whole)
            } else {
                Reply::Half(whole.to_string())
            }
        })
    }

    #[test]
    fn a_server_that_dies_beside_a_model_of_this_machine_changes_no_bit() {
        let embedder = embedder();
        let server = served(Arc::clone(&embedder), 4);
        let workers = vec![
            Worker::open(&address(&server), &Config::default()).unwrap(),
            Worker::local("here", Arc::clone(&embedder)),
        ];
        let pool = Pool::of(workers, final_ejections()).unwrap();
        let texts: Vec<String> = (0..200).map(|i| format!("sentence {i}")).collect();
        let rows = pool.embed_batch_distributed(&texts, Prompt::Default).unwrap();
        assert_eq!(rows, embedder.embed_batch(&texts).unwrap());
        // The other may be so fast that hardly anything was left for the server.
        while worker(&pool, 0).state != WorkerState::Ejected {
            let one = pool.embed_on_one(&texts[..4], Prompt::Default).unwrap();
            assert_eq!(one.vectors.as_slice(), &rows.as_slice()[..4 * rows.dim()]);
        }
        assert_eq!((worker(&pool, 0).answered, worker(&pool, 0).failed >= 3), (3, true));
    }

    #[test]
    fn a_name_is_a_model_of_this_machine() {
        let texts = ["a cat", "a loan"];
        let pool = Pool::open(&["ultra-efficient"], &Config::default(), quick()).unwrap();
        let rows = pool.embed_batch_distributed(&texts, Prompt::Query).unwrap();
        assert_eq!(rows, embedder().embed_query(&texts).unwrap());
        let unknown = pool.embed_on_one(&texts, Prompt::Name("summary")).unwrap_err();
        assert!(unknown.to_string().contains("has no prompt \"summary\""), "{unknown}");
        assert_eq!(pool.slots(), 1);
    }
}
