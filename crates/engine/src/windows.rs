//! The texts of a call in windows: the next one is tokenised while the vectors of the one before are computed.
//!
//! A window is a list of chunks that any thread may claim. While the caller computes, a thread of its own claims them; what is
//! left when the caller comes back is shared by all threads, so that a model whose vectors cost less than their tokens loses
//! nothing.

use embral_kernels::Pool;
use embral_tokenize::Encoded;
use embral_types::Result;
use std::{
    ops::Range,
    panic::resume_unwind,
    sync::{
        OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Texts of the largest window. The ids of two are held: a call of a million texts does not hold the ids of all.
const LARGEST: usize = 2048;
/// How many times the texts of a window the next one has. Where their tokens cost less than a quarter of vectors, they are there
/// in time; where they cost more, the caller helps.
const GROWTH: usize = 4;
/// Texts tokenised by one task.
const CHUNK: usize = 16;
/// Bytes of a token of prose, special tokens aside.
const BYTES_A_TOKEN: usize = 4;

/// Tokenises the text of an index.
pub(crate) type Encode<'a> = dyn Fn(usize) -> Result<Encoded> + Sync + 'a;

/// The windows of a call, in order. The first holds about the texts that fill `batch_tokens`, so that computing begins early.
pub(crate) fn ranges(
    all: usize,
    bytes: &dyn Fn(usize) -> usize,
    batch_tokens: usize,
) -> impl Iterator<Item = Range<usize>> + use<> {
    let mut tokens = 0usize;
    let fills = |text: usize| {
        tokens = tokens.saturating_add(2 + bytes(text) / BYTES_A_TOKEN);
        tokens >= batch_tokens
    };
    let first = (0..all.min(LARGEST)).position(fills).map_or(LARGEST, |at| at + 1);
    // A few texts more are no window of their own.
    let window = move |from: usize, size: usize| if all - from < size + CHUNK { from..all } else { from..from + size };
    let next = move |before: &Range<usize>| Some(window(before.end, (before.len() * GROWTH).clamp(CHUNK, LARGEST)));
    std::iter::successors(Some(window(0, first)), next).take_while(|range| !range.is_empty())
}

/// A window on its way to ids.
pub(crate) struct Window<'a> {
    texts: Range<usize>,
    encode: &'a Encode<'a>,
    next: AtomicUsize,
    done: Vec<OnceLock<Result<Vec<Encoded>>>>,
    nanoseconds: AtomicU64,
}

impl<'a> Window<'a> {
    pub(crate) fn new(texts: Range<usize>, encode: &'a Encode<'a>) -> Self {
        let done = (0..texts.len().div_ceil(CHUNK)).map(|_| OnceLock::new()).collect();
        Self { texts, encode, next: AtomicUsize::new(0), done, nanoseconds: AtomicU64::new(0) }
    }

    /// Tokenises what nobody has claimed yet, with all threads. Another thread that is inside [`Window::work`] may end later.
    pub(crate) fn run(&self, pool: &Pool) {
        let left = self.done.len().saturating_sub(self.next.load(Ordering::Relaxed));
        pool.run(left.min(pool.threads()), &|_| self.work());
    }

    /// Tokenises on a thread of its own while `compute` runs on this one, then with all threads. What is waited for after
    /// `compute` is the answer. Where the pool has one thread, or another call of it has such a thread, there is none.
    ///
    /// # Panics
    /// Where the tokenizer does, on whichever thread, once both threads have ended.
    pub(crate) fn run_during(&self, pool: &Pool, compute: impl FnOnce() -> Result<()>) -> Result<Duration> {
        thread::scope(|scope| {
            let ahead = || {
                // A system that refuses the thread leaves its work to this one.
                thread::Builder::new().name("embral-tokenize".to_owned()).spawn_scoped(scope, || self.work()).ok()
            };
            let ahead = pool.beside().and_then(|right| Some((right, ahead()?)));
            let computed = compute();
            let start = Instant::now();
            match &computed {
                Ok(()) => self.run(pool),
                Err(_) => self.next.store(self.done.len(), Ordering::Relaxed),
            }
            if let Some(Err(payload)) = ahead.map(|(_right, thread)| thread.join()) {
                resume_unwind(payload);
            }
            computed.map(|()| start.elapsed())
        })
    }

    /// The ids, in the order of the texts, and the time that tokenising took, summed over the threads. Where texts fail, the
    /// error is that of the first of them.
    pub(crate) fn finish(self) -> Result<(Vec<Encoded>, Duration)> {
        let mut all = Vec::with_capacity(self.texts.len());
        for chunk in self.done {
            all.append(&mut chunk.into_inner().expect("a window is finished after it has run")?);
        }
        Ok((all, Duration::from_nanos(self.nanoseconds.into_inner())))
    }

    /// Claims chunks until there is none.
    fn work(&self) {
        let start = Instant::now();
        // Chunks are claimed in order, each once.
        loop {
            let chunk = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(done) = self.done.get(chunk) else { break };
            let from = self.texts.start + chunk * CHUNK;
            let encoded = (from..self.texts.end.min(from + CHUNK)).map(self.encode).collect();
            assert!(done.set(encoded).is_ok(), "a chunk is claimed once");
        }
        self.nanoseconds.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use embral_types::{Error, ErrorKind};
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        sync::mpsc::channel,
    };

    fn id(index: usize) -> Encoded {
        Encoded { ids: vec![index as u32], ..Encoded::default() }
    }

    fn ids(window: Window<'_>) -> Vec<u32> {
        window.finish().unwrap().0.iter().map(|e| e.ids[0]).collect()
    }

    #[test]
    fn windows_grow_and_cover_all_texts() {
        for (texts, length, batch_tokens) in [(10_000, 40, 100), (10_000, 0, 2048), (5000, 4000, 1), (9, 8, 20)] {
            let all: Vec<_> = ranges(texts, &|_| length, batch_tokens).collect();
            assert_eq!((all[0].start, all[all.len() - 1].end), (0, texts));
            for (a, b) in all.iter().zip(&all[1..]) {
                assert!(
                    a.end == b.start && b.len() >= CHUNK && b.len() < (GROWTH * a.len()).clamp(CHUNK, LARGEST) + CHUNK
                );
            }
        }
        assert_eq!(ranges(0, &|_| 1, 100).count(), 0);
        assert_eq!(ranges(1000, &|_| 1, 100).next(), Some(0..50));
        assert_eq!(ranges(60, &|_| 1, 100).next(), Some(0..60));
    }

    #[test]
    fn ids_come_in_the_order_of_the_texts() {
        for threads in 1..=3 {
            let pool = Pool::new(threads);
            let window = Window::new(7..1000, &|index| Ok(id(index)));
            window.run(&pool);
            assert_eq!(ids(window), (7..1000).collect::<Vec<_>>());
            let window = Window::new(0..33, &|index| Ok(id(index)));
            window.run_during(&pool, || Ok(())).unwrap();
            assert_eq!(ids(window), (0..33).collect::<Vec<_>>());
        }
    }

    #[test]
    fn another_thread_tokenises_while_this_one_computes() {
        let (begun, told) = channel();
        let here = thread::current().id();
        let encode = |index| {
            if index == 0 {
                assert_ne!(thread::current().id(), here);
                begun.send(()).unwrap();
            }
            Ok(id(index))
        };
        let window = Window::new(0..100, &encode);
        window
            .run_during(&Pool::new(2), || {
                told.recv().unwrap();
                Ok(())
            })
            .unwrap();
        assert_eq!(ids(window).len(), 100);
    }

    #[test]
    fn one_thread_is_the_callers() {
        let here = thread::current().id();
        let encode = |index| {
            assert_eq!(thread::current().id(), here);
            Ok(id(index))
        };
        let window = Window::new(0..100, &encode);
        window
            .run_during(&Pool::new(1), || {
                assert_eq!(thread::current().id(), here);
                Ok(())
            })
            .unwrap();
        assert_eq!(ids(window).len(), 100);
    }

    #[test]
    fn the_first_text_that_fails_decides() {
        let encode = |index| match index {
            20 | 90 | 400 => Err(Error::new(ErrorKind::TooLong, format!("text {index}"))),
            _ => Ok(id(index)),
        };
        let window = Window::new(0..500, &encode);
        window.run_during(&Pool::new(3), || Ok(())).unwrap();
        assert_eq!(window.finish().unwrap_err().message(), "text 20");
        let window = Window::new(0..500, &encode);
        let computing = || Err(Error::new(ErrorKind::Malformed, "no vector"));
        assert_eq!(window.run_during(&Pool::new(3), computing).unwrap_err().message(), "no vector");
    }

    #[test]
    fn a_panic_of_the_tokenizer_reaches_the_caller() {
        for compute_fails in [false, true] {
            let (begun, told) = channel();
            let encode = |index| {
                if index == 0 {
                    begun.send(()).unwrap();
                }
                assert_ne!(index, 3, "the tokenizer breaks");
                Ok(id(index))
            };
            let window = Window::new(0..2000, &encode);
            let compute = || {
                told.recv().unwrap();
                if compute_fails { Err(Error::new(ErrorKind::Malformed, "no vector")) } else { Ok(()) }
            };
            let outcome = catch_unwind(AssertUnwindSafe(|| window.run_during(&Pool::new(2), compute)));
            let payload = outcome.unwrap_err();
            let message = payload.downcast_ref::<String>().unwrap();
            assert!(message.contains("the tokenizer breaks"), "{message}");
        }
    }
}
