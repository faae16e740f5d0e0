//! The stream of chunk vectors: what comes out, that neither side runs away, and that it may be dropped at any point.

use embral::{
    Config, Embedder, Prompt, Truncation,
    chunk::{ChunkBy, ChunkVector, Chunking, Part, StreamOptions, stream},
};
use futures_core::Stream;
use std::{
    collections::VecDeque,
    path::Path,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

fn bert(truncation: Truncation) -> Arc<Embedder> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tiny_bert");
    let config = Config { batch_tokens: 64, truncation, ..Config::model(folder.to_str().unwrap()) };
    Arc::new(Embedder::with_config(config).unwrap())
}

fn document(seed: usize, words: usize) -> String {
    const WORDS: [&str; 7] = ["cat", "dog.", "the", "mat", "ran", "house,", "street.\n\n"];
    (0..words).map(|i| format!("{} ", WORDS[(i * i + seed) % 7])).collect()
}

const CHUNKING: Chunking = Chunking { by: ChunkBy::Sentences, size: Some(10), overlap: 2, late: false };

fn options() -> StreamOptions<'static> {
    StreamOptions { chunking: CHUNKING, ..StreamOptions::default() }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The next item, on this thread and with no runtime.
fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        match Pin::new(&mut *stream).poll_next(&mut Context::from_waker(&waker)) {
            Poll::Ready(item) => return item,
            Poll::Pending => thread::park(),
        }
    }
}

/// Parts that are there, then what `tap` says: parts that come later.
#[derive(Default)]
struct Tap {
    parts: Mutex<VecDeque<Part>>,
    closed: AtomicBool,
    waker: Mutex<Option<Waker>>,
    taken: AtomicUsize,
    dropped: AtomicBool,
}

struct Input(Arc<Tap>);

impl Tap {
    fn put(&self, part: Part) {
        self.parts.lock().unwrap().push_back(part);
        self.waker.lock().unwrap().take().into_iter().for_each(Waker::wake);
    }

    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.waker.lock().unwrap().take().into_iter().for_each(Waker::wake);
    }
}

impl Stream for Input {
    type Item = Part;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Part>> {
        *self.0.waker.lock().unwrap() = Some(context.waker().clone());
        match self.0.parts.lock().unwrap().pop_front() {
            Some(part) => {
                self.0.taken.fetch_add(1, Ordering::SeqCst);
                Poll::Ready(Some(part))
            }
            None if self.0.closed.load(Ordering::SeqCst) => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.0.dropped.store(true, Ordering::SeqCst);
    }
}

fn until(what: &str, there: impl Fn() -> bool) {
    let begin = Instant::now();
    while !there() {
        assert!(begin.elapsed() < Duration::from_secs(60), "never: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn collect<S: Stream<Item = embral::Result<ChunkVector>> + Unpin>(stream: &mut S) -> Vec<ChunkVector> {
    std::iter::from_fn(|| next(stream)).map(Result::unwrap).collect()
}

#[test]
fn a_stream_gives_what_the_iterator_gives() {
    let embedder = bert(Truncation::Right);
    let texts: Vec<String> = (0..20).map(|i| document(i, i * 9)).collect();
    for late in [false, true] {
        let chunking = Chunking { late, ..CHUNKING };
        let wanted: Vec<ChunkVector> =
            embedder.embed_chunks(&texts, &chunking, Prompt::Default).unwrap().map(Result::unwrap).collect();
        for buffer in [1, 64] {
            let tap = Arc::new(Tap::default());
            texts.iter().for_each(|text| tap.put(Part::from(text)));
            tap.close();
            let options = StreamOptions { chunking, buffer, ..StreamOptions::default() };
            let mut stream = stream(Arc::clone(&embedder), Input(tap), options).unwrap();
            assert_eq!(collect(&mut stream), wanted);
            assert!(next(&mut stream).is_none());
        }
    }
}

#[test]
fn a_growing_document_gives_vectors_before_its_end() {
    let embedder = bert(Truncation::Right);
    let text = document(3, 6000);
    let tap = Arc::new(Tap::default());
    let mut stream = stream(Arc::clone(&embedder), Input(Arc::clone(&tap)), options()).unwrap();
    let mut found = Vec::new();
    let (begin, rest) = text.split_at(text.len() / 2);
    tap.put(Part::More(begin.to_owned()));
    // The input has nothing more for now, and the vectors of what is there come.
    found.push(next(&mut stream).unwrap().unwrap());
    let feeder = thread::spawn({
        let (tap, rest) = (Arc::clone(&tap), rest.to_owned());
        move || {
            for part in rest.as_bytes().chunks(500) {
                tap.put(Part::More(str::from_utf8(part).unwrap().to_owned()));
                thread::yield_now();
            }
            tap.put(Part::End);
            tap.close();
        }
    });
    found.extend(collect(&mut stream));
    feeder.join().unwrap();
    let whole = embedder.embed_chunks([&text], &CHUNKING, Prompt::Default).unwrap();
    assert_eq!(found, whole.map(Result::unwrap).collect::<Vec<_>>());
}

#[test]
fn nothing_is_taken_or_computed_ahead_of_what_is_asked_for() {
    let embedder = bert(Truncation::Right);
    let tap = Arc::new(Tap::default());
    for i in 0..5000 {
        tap.put(Part::from(document(i, 60)));
    }
    let options = StreamOptions { buffer: 4, ..options() };
    let mut stream = stream(embedder, Input(Arc::clone(&tap)), options).unwrap();
    assert_eq!(tap.taken.load(Ordering::SeqCst), 0);
    next(&mut stream).unwrap().unwrap();
    // One vector is taken: a few vectors and parts wait, and a few batches are under way.
    thread::sleep(Duration::from_millis(50));
    let taken = tap.taken.load(Ordering::SeqCst);
    assert!(taken < 200, "{taken} of 5000 texts were taken for one vector");
    for _ in 0..100 {
        next(&mut stream).unwrap().unwrap();
    }
    let taken = tap.taken.load(Ordering::SeqCst);
    assert!(taken < 400, "{taken} of 5000 texts were taken for 101 vectors");
}

#[test]
fn dropping_a_stream_at_any_point_ends_its_thread_and_its_input() {
    let embedder = bert(Truncation::Right);
    for asked in [0, 1, 2, 17] {
        for buffer in [1, 1000] {
            let tap = Arc::new(Tap::default());
            for i in 0..300 {
                tap.put(Part::from(document(i, 80)));
            }
            let options = StreamOptions { buffer, ..options() };
            let mut stream = stream(Arc::clone(&embedder), Input(Arc::clone(&tap)), options).unwrap();
            for _ in 0..asked {
                next(&mut stream).unwrap().unwrap();
            }
            if asked == 2 {
                // A poll that found nothing yet holds nothing back.
                let waker = Waker::noop();
                let _ = pin!(&mut stream).poll_next(&mut Context::from_waker(waker));
            }
            drop(stream);
            assert!(tap.dropped.load(Ordering::SeqCst));
            until("the thread ends", || Arc::strong_count(&embedder) == 1);
        }
    }
    // A stream that nobody feeds and nobody polls.
    let waiting = stream(Arc::clone(&embedder), Input(Arc::default()), options()).unwrap();
    thread::sleep(Duration::from_millis(10));
    drop(waiting);
    until("the thread ends", || Arc::strong_count(&embedder) == 1);
}

#[test]
fn an_error_comes_behind_the_vectors_before_it_and_is_the_last() {
    let embedder = bert(Truncation::Error);
    let tap = Arc::new(Tap::default());
    for text in [document(1, 5), document(2, 8), document(3, 300), document(4, 5)] {
        tap.put(Part::from(text));
    }
    tap.close();
    let options = StreamOptions { chunking: Chunking { late: true, ..CHUNKING }, ..options() };
    let mut stream = stream(embedder, Input(tap), options).unwrap();
    let mut documents = Vec::new();
    let error = loop {
        match next(&mut stream).expect("an error comes") {
            Ok(row) => documents.push(row.document),
            Err(error) => break error,
        }
    };
    documents.dedup();
    assert_eq!(documents, [0, 1]);
    assert!(error.to_string().contains("document 2"), "{error}");
    assert!(next(&mut stream).is_none());
    assert!(next(&mut stream).is_none());
}

#[test]
fn a_stream_runs_in_tokio_and_in_other_tasks() {
    let embedder = bert(Truncation::Right);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let tasks: Vec<_> = (0..4)
        .map(|seed| {
            let embedder = Arc::clone(&embedder);
            runtime.spawn(async move {
                let tap = Arc::new(Tap::default());
                let text = document(seed, 400);
                tap.put(Part::from(&text));
                tap.close();
                let mut stream = stream(Arc::clone(&embedder), Input(tap), options()).unwrap();
                let mut found = Vec::new();
                while let Some(row) = std::future::poll_fn(|context| Pin::new(&mut stream).poll_next(context)).await {
                    found.push(row.unwrap());
                }
                let wanted = embedder.embed_chunks([&text], &CHUNKING, Prompt::Default).unwrap();
                assert_eq!(found, wanted.map(Result::unwrap).collect::<Vec<_>>());
            })
        })
        .collect();
    runtime.block_on(async {
        for task in tasks {
            task.await.unwrap();
        }
    });
}
