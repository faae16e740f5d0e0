//! What a queue answers where its model errs, panics or blocks: a model of this file in the place of one.

use super::*;
use std::{
    pin::pin,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
};

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

/// One component a text: its bytes, and 1000 more for a query. It errs and panics where it is told to.
fn model(texts: &[&str], prompt: Prompt<'_>) -> Result<Embeddings> {
    if let Some(bad) = texts.iter().position(|text| *text == "err") {
        return Err(Error::new(ErrorKind::TooLong, format!("text {bad}: too long")));
    }
    assert!(!texts.contains(&"panic"), "as it was told to");
    let more = if prompt == Prompt::Query { 1000.0 } else { 0.0 };
    Ok(Embeddings::new(texts.iter().map(|text| text.len() as f32 + more).collect(), 1))
}

fn queue(compute: Box<Compute>, options: QueueOptions) -> BatchQueue {
    BatchQueue::begin(compute, options, CostModel::default(), (1, 512)).unwrap()
}

/// A model that waits for a word before each of its batches.
fn gated(options: QueueOptions) -> (BatchQueue, mpsc::Sender<()>) {
    let (go, gate) = mpsc::channel();
    let gate = Mutex::new(gate);
    let compute = move |texts: &[&str], prompt: Prompt<'_>| {
        // After the sender has gone there is no more waiting.
        let _ = gate.lock().unwrap().recv();
        model(texts, prompt)
    };
    (queue(Box::new(compute), options), go)
}

/// Until the first batch runs and so nothing of it waits.
fn until_it_runs(queue: &BatchQueue) {
    while queue.statistics().running_batches == 0 {
        thread::yield_now();
    }
}

fn values(answer: Result<Embeddings>) -> Vec<f32> {
    answer.unwrap().into_vec()
}

#[test]
fn an_error_is_of_the_call_that_has_the_text() {
    let (queue, go) = gated(QueueOptions::default());
    let first = queue.embed_async(["a"]);
    until_it_runs(&queue);
    let (good, bad, query) = (
        queue.embed_async(["bb", "ccc"]),
        queue.embed_async(["good", "good", "err"]),
        queue.embed_async_as(["q"], &Asked { prompt: Prompt::Query, ..Asked::default() }),
    );
    drop(go);
    assert_eq!(values(block_on(first)), [1.0]);
    assert_eq!(values(block_on(good)), [2.0, 3.0]);
    assert_eq!(values(block_on(query)), [1001.0]);
    let error = block_on(bad).unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::TooLong, "text 2: too long"));
    assert_eq!((queue.statistics().totals.done, queue.statistics().totals.failed), (3, 1));
}

#[test]
fn a_panic_is_answered_and_the_queue_lives_on() {
    let (queue, go) = gated(QueueOptions::default());
    let first = queue.embed_async(["a"]);
    until_it_runs(&queue);
    let (beside, panics) = (queue.embed_async(["b"]), queue.embed_async(["panic"]));
    drop(go);
    assert_eq!(values(block_on(first)), [1.0]);
    for future in [beside, panics] {
        assert!(block_on(future).unwrap_err().to_string().contains("panicked"));
    }
    assert_eq!(values(block_on(queue.embed_async(["after"]))), [5.0]);
    assert_eq!(queue.statistics().open_requests, 0);
}

#[test]
fn a_full_queue_refuses_and_a_dropped_future_makes_room() {
    let (queue, go) = gated(QueueOptions { calls: Some(2), ..QueueOptions::default() });
    let running = queue.embed_async(["a"]);
    until_it_runs(&queue);
    let waiting = [queue.embed_async(["b"]), queue.embed_async(["c"])];
    let error = block_on(queue.embed_async(["d"])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    assert!(error.to_string().contains("try again in"), "{error}");
    drop(waiting);
    assert_eq!(queue.statistics().waiting_sequences, 0);
    let next = queue.embed_async(["ee"]);
    drop(running);
    drop(go);
    assert_eq!(values(block_on(next)), [2.0]);
    assert_eq!(queue.statistics().totals.cancelled, 3);
}

#[test]
fn bytes_are_bounded_too_and_what_never_fits_is_said_to() {
    let (queue, _go) = gated(QueueOptions { bytes: Some(400), ..QueueOptions::default() });
    let error = block_on(queue.embed_async(["x".repeat(500)])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("in parts"), "{error}");
}

#[test]
fn what_comes_too_late_is_not_computed() {
    let (queue, go) = gated(QueueOptions::default());
    let running = queue.embed_async(["a"]);
    until_it_runs(&queue);
    let soon = Asked { within: Some(Duration::from_millis(1)), ..Asked::default() };
    let late = queue.embed_async_as(["never"], &soon);
    thread::sleep(Duration::from_millis(2));
    drop(go);
    assert_eq!(block_on(late).unwrap_err().kind(), ErrorKind::Overloaded);
    assert_eq!(values(block_on(running)), [1.0]);
    assert_eq!(queue.statistics().totals.expired, 1);
}

#[test]
fn what_was_asked_for_is_answered_after_the_queue_has_gone() {
    let (queue, go) = gated(QueueOptions::default());
    let futures: Vec<EmbedFuture> = (1..50).map(|n| queue.embed_async(["x".repeat(n)])).collect();
    let dropped = queue.embed_async(["never asked for again"]);
    drop((queue, dropped));
    drop(go);
    for (n, future) in (1..50_u8).zip(futures) {
        assert_eq!(values(block_on(future)), [f32::from(n)]);
    }
}

#[test]
fn what_waits_is_computed_together_and_the_urgent_first() {
    let batches = Arc::new(Mutex::new(Vec::new()));
    let (seen, calls) = (Arc::clone(&batches), AtomicUsize::new(0));
    let (go, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let compute = move |texts: &[&str], prompt: Prompt<'_>| {
        if calls.fetch_add(1, Ordering::Relaxed) == 0 {
            let _ = gate.lock().unwrap().recv();
        }
        seen.lock().unwrap().push(texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        model(texts, prompt)
    };
    let queue = queue(Box::new(compute), QueueOptions::default());
    let first = queue.embed_async(["first"]);
    until_it_runs(&queue);
    let rest: Vec<EmbedFuture> = (0..5).map(|n| queue.embed_async([format!("bulk {n}")])).collect();
    let urgent = queue.embed_async_as(["urgent"], &Asked { priority: Priority::High, ..Asked::default() });
    drop(go);
    for future in [first, urgent].into_iter().chain(rest) {
        block_on(future).unwrap();
    }
    let batches = batches.lock().unwrap();
    assert_eq!((batches.len(), batches[1].len(), batches[1][0].as_str()), (2, 6, "urgent"));
}

#[test]
fn no_texts_are_answered_at_once() {
    let (queue, _go) = gated(QueueOptions::default());
    let mut future = queue.embed_async(Vec::<String>::new());
    assert_eq!(block_on(&mut future).unwrap().len(), 0);
    assert!(block_on(&mut future).unwrap_err().to_string().contains("polled after"));
}
