//! What a pool answers where its workers fail, block or panic: scripts in the place of models.

use super::*;
use std::sync::{atomic::AtomicBool, mpsc};

/// A worker whose every answer is that of a closure, which is given the texts and the number of the call, from 0.
struct Script<F> {
    answer: F,
    calls: AtomicUsize,
    /// Whether it can be opened.
    there: AtomicBool,
}

const WIDTH: usize = 2;

fn row(text: &str) -> [f32; WIDTH] {
    [1.0, text.len() as f32 / 1000.0]
}

fn rows(texts: &[&str]) -> Result<Vec<f32>> {
    Ok(texts.iter().flat_map(|text| row(text)).collect())
}

fn network(what: &str) -> Error {
    Error::new(ErrorKind::Network, what)
}

impl<F: Fn(&[&str], usize) -> Result<Vec<f32>> + Send + Sync> Back for Script<F> {
    fn open(&self) -> Result<Found> {
        if !self.there.load(Ordering::SeqCst) {
            return Err(network("nobody there"));
        }
        Ok(Found { row: vec![1.0, 0.0], told: None, info: Some(info()), batch: 4 })
    }

    fn embed(&self, texts: &[&str], _: Prompt<'_>, _: Duration) -> Result<Vec<f32>> {
        (self.answer)(texts, self.calls.fetch_add(1, Ordering::SeqCst))
    }

    fn prompt(&self, prompt: Prompt<'_>) -> Result<Option<String>> {
        Ok(Some(if prompt == Prompt::Query { "query: " } else { "" }.to_owned()))
    }
}

fn info() -> ModelInfo {
    ModelInfo {
        name: "m".to_owned(),
        fingerprint: String::new(),
        path: None,
        architecture: "script".to_owned(),
        dimensions: WIDTH,
        width: WIDTH,
        max_tokens: 8,
        parameters: 0,
        layers: 0,
        hidden: WIDTH,
        pooling: embral_types::Pooling::Mean,
        normalize: false,
        prompts: std::collections::BTreeMap::new(),
        default_prompt: None,
        matryoshka: Vec::new(),
        precision: embral_types::Precision::F32,
        weight_bytes: 0,
        device: String::new(),
        graph: None,
        remarks: Vec::new(),
    }
}

fn script<F>(answer: F) -> Arc<Script<F>> {
    Arc::new(Script { answer, calls: AtomicUsize::new(0), there: AtomicBool::new(true) })
}

fn worker(name: &str, slots: usize, back: Arc<dyn Back>) -> Worker {
    Worker { name: name.to_owned(), slots, bytes: usize::MAX, watched: false, back }
}

/// Nothing waits long.
fn quick() -> PoolOptions {
    PoolOptions {
        strategy: Strategy::RoundRobin,
        eject_for: Duration::from_millis(1),
        patience: Duration::from_secs(60),
        ..PoolOptions::default()
    }
}

fn texts(count: usize) -> Vec<String> {
    (0..count).map(|n| "x".repeat(n)).collect()
}

fn check(vectors: &Embeddings, texts: &[impl AsRef<str>]) {
    let expected: Vec<f32> = texts.iter().flat_map(|text| row(text.as_ref())).collect();
    assert_eq!(vectors.as_slice(), expected);
}

#[test]
fn no_more_is_under_way_than_there_are_slots_and_all_of_them_are_used() {
    let most = Arc::new(Mutex::new((0_usize, 0_usize)));
    let barrier = Arc::new(std::sync::Barrier::new(3));
    let (seen, together) = (Arc::clone(&most), Arc::clone(&barrier));
    let three = script(move |texts: &[&str], _| {
        let under_way = |change: isize| {
            let mut seen = seen.lock().unwrap();
            seen.0 = seen.0.saturating_add_signed(change);
            seen.1 = seen.1.max(seen.0);
        };
        under_way(1);
        // It goes on when three are under way.
        together.wait();
        under_way(-1);
        rows(texts)
    });
    let options = PoolOptions { batch_texts: Some(5), ..quick() };
    let pool = Pool::of(vec![worker("a", 3, three)], options).unwrap();
    let texts = texts(60);
    check(&pool.embed_batch_distributed(&texts, Prompt::Default).unwrap(), &texts);
    assert_eq!(*most.lock().unwrap(), (0, 3));
    let status = pool.status();
    assert_eq!((status.workers[0].answered, status.workers[0].texts, status.workers[0].in_flight), (12, 60, 0));
}

#[test]
fn a_batch_is_with_one_worker_at_a_time() {
    let under_way: Arc<Mutex<Vec<String>>> = Arc::default();
    let shared = Arc::clone(&under_way);
    let one = |fails: bool| {
        let shared = Arc::clone(&shared);
        script(move |texts: &[&str], number: usize| {
            let name = texts.concat();
            {
                let mut shared = shared.lock().unwrap();
                assert!(!shared.contains(&name), "two workers have one batch");
                shared.push(name.clone());
            }
            thread::yield_now();
            shared.lock().unwrap().retain(|other| *other != name);
            if fails && number.is_multiple_of(2) { Err(network("as it was told to")) } else { rows(texts) }
        })
    };
    let workers = vec![worker("a", 2, one(true)), worker("b", 3, one(true)), worker("c", 1, one(false))];
    let pool = Pool::of(workers, PoolOptions { batch_texts: Some(3), eject_after: 1000, ..quick() }).unwrap();
    let texts = texts(200);
    check(&pool.embed_batch_distributed(&texts, Prompt::Default).unwrap(), &texts);
    let status = pool.status();
    assert_eq!(status.workers.iter().map(|worker| worker.texts).sum::<u64>(), 200);
    assert!(status.workers[0].failed > 0 && status.workers[2].failed == 0, "{status:?}");
    assert_eq!(status.workers[0].last_error.as_deref(), Some("as it was told to"));
}

#[test]
fn a_worker_that_panics_or_gives_too_few_rows_is_as_one_that_fails() {
    let panics = script(|_: &[&str], _| panic!("as it was told to"));
    let short = script(|texts: &[&str], _| rows(&texts[1..]));
    let well = script(|texts: &[&str], _| rows(texts));
    let workers = vec![worker("a", 1, panics), worker("b", 1, short), worker("c", 1, well)];
    let pool = Pool::of(workers, PoolOptions { eject_after: 1, ..quick() }).unwrap();
    let answered = pool.embed_on_one(&["a", "bb"], Prompt::Default).unwrap();
    check(&answered.vectors, &["a", "bb"]);
    assert_eq!((answered.worker, answered.tries), (2, 3));
    let errors: Vec<_> = pool.status().workers.into_iter().map(|worker| worker.last_error).collect();
    assert_eq!(errors[0].as_deref(), Some("its computation panicked"));
    assert_eq!(errors[1].as_deref(), Some("expected 4 numbers, found 2"));
}

#[test]
fn what_is_ejected_returns_by_a_probe_while_a_call_waits_for_it() {
    let there = Arc::new(AtomicBool::new(true));
    let (asked, probing) = mpsc::channel();
    struct Comes {
        there: Arc<AtomicBool>,
        asked: Mutex<mpsc::Sender<()>>,
    }
    impl Back for Comes {
        fn open(&self) -> Result<Found> {
            let _ = self.asked.lock().unwrap().send(());
            let found = Found { row: vec![1.0, 0.0], told: None, info: Some(info()), batch: 4 };
            if self.there.load(Ordering::SeqCst) { Ok(found) } else { Err(network("nobody there")) }
        }

        fn embed(&self, texts: &[&str], _: Prompt<'_>, _: Duration) -> Result<Vec<f32>> {
            if self.there.load(Ordering::SeqCst) { rows(texts) } else { Err(network("gone")) }
        }

        fn prompt(&self, _: Prompt<'_>) -> Result<Option<String>> {
            Ok(None)
        }
    }
    let back = Arc::new(Comes { there: Arc::clone(&there), asked: Mutex::new(asked) });
    let pool = Pool::of(vec![worker("a", 1, back)], PoolOptions { eject_after: 1, ..quick() }).unwrap();
    probing.recv().unwrap();
    there.store(false, Ordering::SeqCst);
    thread::scope(|scope| {
        let call = scope.spawn(|| pool.embed_on_one(&["abc"], Prompt::Default).unwrap());
        // Two probes found nobody.
        (0..2).for_each(|_| probing.recv().unwrap());
        assert_eq!(pool.status().in_rotation(), 0);
        there.store(true, Ordering::SeqCst);
        let answered = call.join().unwrap();
        check(&answered.vectors, &["abc"]);
        assert_eq!(answered.tries, 2);
    });
    assert_eq!(pool.status().workers[0].state, WorkerState::Serving);
}

#[test]
fn nobody_is_said_with_every_worker_and_its_last_error() {
    let gone = |what: &'static str| script(move |_: &[&str], _| Err(network(what)));
    let absent = script(|texts: &[&str], _| rows(texts));
    absent.there.store(false, Ordering::SeqCst);
    let workers = vec![worker("a", 1, gone("burnt")), worker("b", 1, gone("drowned")), worker("c", 1, absent)];
    let options = PoolOptions {
        eject_after: 1,
        eject_for: Duration::from_secs(600),
        eject_at_most: Duration::from_secs(600),
        patience: Duration::ZERO,
        ..quick()
    };
    let pool = Pool::of(workers, options).unwrap();
    let error = pool.embed_batch_distributed(&["x"; 3], Prompt::Default).unwrap_err();
    let line = error.to_string();
    assert!(line.starts_with("texts 0 to 2: no worker answered, all are ejected (2 tries in "), "{line}");
    assert!(line.contains(": a: burnt; b: drowned; c: nobody there (are the servers running"), "{line}");
    assert_eq!(error.kind(), ErrorKind::Network);
    let again = pool.embed_on_one(&["x"], Prompt::Default).unwrap_err().to_string();
    assert!(again.starts_with("text 0: no worker answered, all are ejected (0 tries in "), "{again}");
}

#[test]
fn tries_are_bounded_by_their_number_and_by_the_deadline() {
    let fails = script(|_: &[&str], _| Err(network("as it was told to")));
    let calls = Arc::clone(&fails);
    let options = PoolOptions { eject_after: 1000, retries: 1, ..quick() };
    let workers = |back: &Arc<_>| vec![worker("a", 1, Arc::clone(back) as Arc<dyn Back>)];
    let pool = Pool::of(workers(&fails), options).unwrap();
    let error = pool.embed_on_one(&["x"], Prompt::Default).unwrap_err().to_string();
    assert!(error.starts_with("text 0: no worker answered (2 tries in "), "{error}");
    assert_eq!(calls.calls.load(Ordering::SeqCst), 2);
    let options = PoolOptions { retries: u32::MAX, deadline: Duration::from_millis(20), ..options };
    let pool = Pool::of(workers(&fails), options).unwrap();
    let error = pool.embed_on_one(&["x"], Prompt::Default).unwrap_err().to_string();
    assert!(error.starts_with("text 0: no worker answered before the deadline ("), "{error}");
}

#[test]
fn who_waits_for_a_slot_longer_than_the_deadline_is_told_that_all_are_busy() {
    let (go, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let (began, begun) = mpsc::channel();
    let began = Mutex::new(began);
    let slow = script(move |texts: &[&str], _| {
        began.lock().unwrap().send(()).unwrap();
        let _ = gate.lock().unwrap().recv();
        rows(texts)
    });
    let options = PoolOptions { deadline: Duration::from_millis(300), ..quick() };
    let pool = Pool::of(vec![worker("a", 1, slow)], options).unwrap();
    thread::scope(|scope| {
        let first = scope.spawn(|| pool.embed_on_one(&["x"], Prompt::Default).unwrap());
        begun.recv().unwrap();
        let error = pool.embed_on_one(&["yy"], Prompt::Default).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Overloaded);
        assert!(error.to_string().contains("before the deadline (0 tries in "), "{error}");
        drop(go);
        check(&first.join().unwrap().vectors, &["x"]);
    });
}

#[test]
fn a_text_that_a_model_refuses_is_named_by_its_place_and_nobody_is_blamed() {
    let refuses = || {
        script(|texts: &[&str], _| match texts.iter().position(|text| text.len() == 13) {
            Some(bad) => Err(Error::new(ErrorKind::TooLong, format!("text {bad}: it has 13 bytes"))),
            None => rows(texts),
        })
    };
    let workers = vec![worker("a", 1, refuses()), worker("b", 1, refuses())];
    let pool = Pool::of(workers, PoolOptions { eject_after: 1, batch_texts: Some(5), ..quick() }).unwrap();
    let error = pool.embed_batch_distributed(&texts(40), Prompt::Default).unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::TooLong, "text 13: it has 13 bytes"));
    let status = pool.status();
    assert_eq!((status.in_rotation(), status.workers[0].failed + status.workers[1].failed), (2, 0));
}

#[test]
fn a_batch_that_every_worker_fails_ejects_nobody_by_itself() {
    // As a server fails a text that makes its model overflow: it answers, and the answer is none.
    let poisoned = || {
        script(|texts: &[&str], _| {
            if texts.contains(&"poison") {
                let failure = crate::remote::Failure {
                    fault: crate::remote::retry::Fault::Final,
                    retry_after: None,
                    what: "found NaN".to_owned(),
                    hint: None,
                    kind: ErrorKind::Malformed,
                };
                return Err(Error::new(ErrorKind::Malformed, "found NaN").because(failure));
            }
            rows(texts)
        })
    };
    let workers = vec![worker("a", 1, poisoned()), worker("b", 1, poisoned())];
    let pool = Pool::of(workers, PoolOptions { eject_after: 2, ..quick() }).unwrap();
    let error = pool.embed_on_one(&["poison"], Prompt::Default).unwrap_err().to_string();
    assert!(error.contains("(6 tries in ") && error.contains("a: found NaN; b: found NaN"), "{error}");
    assert_eq!(pool.status().workers.iter().map(|worker| worker.ejections).sum::<u64>(), 0);
    pool.embed_on_one(&["well"], Prompt::Default).unwrap();
}

#[test]
fn a_prompt_that_not_all_have_is_refused() {
    struct Bare;
    impl Back for Bare {
        fn open(&self) -> Result<Found> {
            Ok(Found { row: vec![1.0, 0.0], told: None, info: Some(info()), batch: 9 })
        }

        fn embed(&self, texts: &[&str], _: Prompt<'_>, _: Duration) -> Result<Vec<f32>> {
            rows(texts)
        }

        fn prompt(&self, _: Prompt<'_>) -> Result<Option<String>> {
            Ok(Some(String::new()))
        }
    }
    let asks = script(|texts: &[&str], _| rows(texts));
    let pool = Pool::of(vec![worker("a", 1, asks), worker("b", 1, Arc::new(Bare))], quick()).unwrap();
    assert_eq!(pool.batch_texts(), 4);
    pool.embed_on_one(&["x"], Prompt::Document).unwrap();
    let error = pool.embed_on_one(&["x"], Prompt::Query).unwrap_err();
    assert!(error.to_string().contains("a puts something before a text for Query, and b does not"), "{error}");
}

#[test]
fn names_are_distinct_and_a_pool_has_a_worker() {
    let one = || worker("a", 1, script(|texts: &[&str], _| rows(texts)));
    let pool = Pool::of(vec![one(), one(), one().named("b"), one()], quick()).unwrap();
    let names: Vec<String> = pool.status().workers.into_iter().map(|worker| worker.name).collect();
    assert_eq!(names, ["a", "a (2)", "b", "a (3)"]);
    assert!(pool.embed_batch_distributed(&[] as &[&str], Prompt::Default).unwrap().is_empty());
    assert_eq!(pool.embed_on_one(&[] as &[&str], Prompt::Default).unwrap().tries, 0);
    assert!(Pool::of(Vec::new(), quick()).unwrap_err().to_string().contains("found none"));
}

#[test]
fn a_pool_ends_while_a_probe_hangs() {
    let (hold, gate) = mpsc::channel::<()>();
    let (began, begun) = mpsc::channel();
    struct Hangs {
        gate: Mutex<mpsc::Receiver<()>>,
        began: Mutex<mpsc::Sender<()>>,
        opened: AtomicBool,
    }
    impl Back for Hangs {
        fn open(&self) -> Result<Found> {
            if !self.opened.swap(true, Ordering::SeqCst) {
                return Err(network("not yet"));
            }
            self.began.lock().unwrap().send(()).unwrap();
            let _ = self.gate.lock().unwrap().recv();
            Err(network("never"))
        }

        fn embed(&self, texts: &[&str], _: Prompt<'_>, _: Duration) -> Result<Vec<f32>> {
            rows(texts)
        }

        fn prompt(&self, _: Prompt<'_>) -> Result<Option<String>> {
            Ok(None)
        }
    }
    let hangs = Hangs { gate: Mutex::new(gate), began: Mutex::new(began), opened: AtomicBool::new(false) };
    let well = script(|texts: &[&str], _| rows(texts));
    let pool = Pool::of(vec![worker("a", 1, Arc::new(hangs)), worker("b", 1, well)], quick()).unwrap();
    begun.recv().unwrap();
    let answered = pool.embed_on_one(&["x"], Prompt::Default).unwrap();
    assert_eq!(answered.worker, 1);
    // The probe hangs on, and the pool does not.
    drop(pool);
    drop(hold);
}
