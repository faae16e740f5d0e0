//! The library inside programs that have threads of their own: the same vectors, and no more threads than were asked for.
//!
//! Threads are counted in /proc, over the whole process: so this is one test, and alone in its binary.
#![cfg(target_os = "linux")]

use embral::{Config, Embedder};
use std::{
    fs,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// Calls at once.
const CALLERS: usize = 4;

/// Opens a model of two blocks. Batches are small, so that a call has several windows and tokenises ahead.
fn open(threads: usize) -> Embedder {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/tiny_bert");
    Embedder::with_config(Config { threads: Some(threads), batch_tokens: 64, ..Config::model(model) }).unwrap()
}

fn texts() -> Vec<String> {
    (0..300).map(|i| format!("a cat sat on mat {i}{}", " and on another one".repeat(i % 5))).collect()
}

fn bits(embedder: &Embedder) -> Vec<u32> {
    embedder.embed_batch(&texts()).unwrap().as_slice().iter().map(|x| x.to_bits()).collect()
}

/// Set by the kernel in a thread that ends, before anybody who joins it is told so.
const PF_EXITING: u32 = 4;

/// The threads of this process. One that has been joined may be listed for a while; it is none.
fn alive() -> usize {
    let lives = |stat: String| {
        let (_, behind_name) = stat.rsplit_once(')')?;
        let flags: u32 = behind_name.split_whitespace().nth(6)?.parse().ok()?;
        (flags & PF_EXITING == 0).then_some(())
    };
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    // A thread may end between the listing and the reading.
    tasks.filter_map(|task| lives(fs::read_to_string(task.ok()?.path().join("stat")).ok()?)).count()
}

/// What `run` gives, and the most threads there were meanwhile beyond those before.
fn watched<T>(run: impl FnOnce() -> T) -> (T, usize) {
    let (ended, begun) = (AtomicBool::new(false), Barrier::new(2));
    thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            // This one is among them.
            let before = alive();
            let mut most = before;
            begun.wait();
            while !ended.load(Ordering::Acquire) {
                most = most.max(alive());
            }
            most - before
        });
        begun.wait();
        let result = run();
        ended.store(true, Ordering::Release);
        (result, watcher.join().unwrap())
    })
}

#[test]
fn a_process_has_the_threads_that_were_asked_for() {
    let wanted = one_thread_is_the_callers();
    embedders_share_their_threads();
    inside_rayon(&wanted);
    inside_tokio(&wanted);
}

fn one_thread_is_the_callers() -> Vec<u32> {
    let before = alive();
    let (wanted, most) = watched(|| bits(&open(1)));
    assert_eq!(most, 0);
    assert_eq!(alive(), before);
    wanted
}

fn embedders_share_their_threads() {
    let before = alive();
    let first = open(3);
    assert_eq!(alive(), before + 2);
    let second = open(3);
    assert_eq!(alive(), before + 2);
    let other = open(2);
    assert_eq!(alive(), before + 3);
    drop((first, other));
    assert_eq!(alive(), before + 2);
    drop(second);
    assert_eq!(alive(), before);
}

/// The most threads beside those that call: those of the pool beside a caller, and one that tokenises ahead.
fn allowed(threads: usize) -> usize {
    if threads == 1 { 0 } else { threads }
}

fn inside_rayon(wanted: &[u32]) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(CALLERS).build().unwrap();
    for threads in 1..=3 {
        let barrier = Barrier::new(CALLERS);
        let (all, most) = watched(|| {
            let embedder = open(threads);
            pool.broadcast(|_| {
                barrier.wait();
                bits(&embedder)
            })
        });
        assert_eq!(all.len(), CALLERS);
        assert!(all.iter().all(|vectors| vectors == wanted), "{threads} threads");
        assert!(most <= allowed(threads), "{most} beside the callers, with {threads} threads");
    }
}

fn inside_tokio(wanted: &[u32]) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(CALLERS)
        .thread_keep_alive(Duration::from_secs(3600))
        .build()
        .unwrap();
    let barrier = Arc::new(Barrier::new(CALLERS));
    /// Calls at once, each on a thread for what blocks.
    fn all<T: Send + 'static>(
        runtime: &tokio::runtime::Runtime,
        barrier: &Arc<Barrier>,
        call: impl Fn() -> T + Clone + Send + 'static,
    ) -> Vec<T> {
        let start = |_| {
            let (barrier, call) = (Arc::clone(barrier), call.clone());
            runtime.spawn_blocking(move || {
                barrier.wait();
                call()
            })
        };
        let calls: Vec<_> = (0..CALLERS).map(start).collect();
        calls.into_iter().map(|call| runtime.block_on(call).unwrap()).collect()
    }
    // The runtime starts these threads when they are first needed, and keeps them.
    all(&runtime, &barrier, || ());
    for threads in 1..=3 {
        let (vectors, most) = watched(|| {
            let embedder = Arc::new(open(threads));
            all(&runtime, &barrier, move || bits(&embedder))
        });
        assert!(vectors.iter().all(|vectors| vectors == wanted), "{threads} threads");
        assert!(most <= allowed(threads), "{most} beside the callers, with {threads} threads");
    }
}
