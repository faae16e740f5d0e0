//! The queue before a real model: the same vectors as without it, from threads, from tokio, and with calls that are dropped.

use embral::{
    Config, Embedder, ErrorKind, Truncation,
    queue::{Asked, BatchQueue, EmbedFuture, Priority, QueueOptions, Tenant},
};
use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
};

fn open(truncation: Truncation) -> Arc<Embedder> {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/tiny_bert");
    Arc::new(Embedder::with_config(Config { threads: Some(2), truncation, ..Config::model(model) }).unwrap())
}

fn text(n: usize) -> String {
    format!("a cat sat on mat {n}{}", " and on another one".repeat(n % 4))
}

fn bits(row: &[f32]) -> Vec<u32> {
    row.iter().map(|x| x.to_bits()).collect()
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The answer of a future, on this thread and with no runtime.
fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(answer) => return answer,
            Poll::Pending => thread::park(),
        }
    }
}

/// Polls once, with nobody to wake.
fn poll_once(future: &mut EmbedFuture) -> bool {
    pin!(future).poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

#[test]
fn vectors_from_many_threads_are_those_of_embed() {
    let embedder = open(Truncation::default());
    let alone: Vec<Vec<u32>> = (0..40).map(|n| bits(&embedder.embed(&text(n)).unwrap())).collect();
    let queue = BatchQueue::unbounded(embedder).unwrap();
    thread::scope(|scope| {
        for worker in 0..12_usize {
            let (queue, alone) = (&queue, &alone);
            scope.spawn(move || {
                for round in 0..15 {
                    let texts: Vec<usize> =
                        (0..1 + (worker + round) % 5).map(|i| (worker * 7 + round * 3 + i) % 40).collect();
                    let asked = Asked {
                        priority: Priority::ALL[worker % 3],
                        tenant: Tenant(worker as u64 % 4),
                        ..Asked::default()
                    };
                    let mut future = queue.embed_async_as(texts.iter().map(|n| text(*n)), &asked);
                    if round % 4 == 3 {
                        // One call in four is given up, before it is polled or after.
                        if worker % 2 == 0 {
                            let _ = poll_once(&mut future);
                        }
                        continue;
                    }
                    let rows = block_on(future).unwrap();
                    assert_eq!(rows.len(), texts.len());
                    for (row, n) in rows.rows().zip(&texts) {
                        assert_eq!(bits(row), alone[*n], "text {n}");
                    }
                }
            });
        }
    });
    let seen = queue.statistics();
    assert_eq!((seen.open_requests, seen.waiting_sequences), (0, 0));
    assert_eq!(seen.totals.accepted, 12 * 15);
    assert_eq!(seen.totals.done + seen.totals.cancelled, 12 * 15);
    assert!(seen.totals.done >= 12 * 12 && seen.totals.failed == 0);
}

#[test]
fn tokio_waits_for_it_like_for_anything_else() {
    let embedder = open(Truncation::default());
    let alone: Vec<Vec<u32>> = (0..64).map(|n| bits(&embedder.embed(&text(n)).unwrap())).collect();
    let queue = Arc::new(BatchQueue::bounded(embedder, 1000).unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let tasks: Vec<_> = (0..64)
        .map(|n| {
            let queue = Arc::clone(&queue);
            runtime.spawn(async move { queue.embed_async([text(n)]).await })
        })
        .collect();
    for (n, task) in tasks.into_iter().enumerate() {
        // A task that is aborted drops its future within tokio.
        if n % 8 == 7 {
            task.abort();
            continue;
        }
        let rows = runtime.block_on(task).unwrap().unwrap();
        assert_eq!(bits(rows.row(0)), alone[n]);
    }
    drop(runtime);
    assert_eq!(queue.statistics().open_requests, 0);
}

#[test]
fn a_text_that_is_too_long_is_an_error_of_its_call_alone() {
    let embedder = open(Truncation::Error);
    let alone = bits(&embedder.embed(&text(1)).unwrap());
    let queue = BatchQueue::with_options(embedder, QueueOptions::default()).unwrap();
    let long = "cat ".repeat(5000);
    let good: Vec<EmbedFuture> = (0..20).map(|_| queue.embed_async([text(1)])).collect();
    let bad = queue.embed_async([text(2), long]);
    let more: Vec<EmbedFuture> = (0..20).map(|_| queue.embed_async([text(1)])).collect();
    let error = block_on(bad).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLong);
    assert!(error.message().starts_with("text 1"), "{error}");
    for future in good.into_iter().chain(more) {
        assert_eq!(bits(block_on(future).unwrap().row(0)), alone);
    }
}
