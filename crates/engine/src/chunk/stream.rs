//! The vectors of chunks as a stream: texts in, vectors out as they are ready, computed in a thread of its own.

use super::{ChunkVector, Chunking, Part, Plan, assemble::Assembler};
use crate::{Embedder, Prompt};
use embral_types::{Error, ErrorKind, Result};
use futures_core::Stream;
use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    thread,
};

/// Parts and bytes of them that wait for the thread; more is not taken from the input.
const PARTS: usize = 64;
const BYTES: usize = 1 << 20;

/// How a stream of chunks is made.
#[derive(Clone, Copy, Debug)]
pub struct StreamOptions<'a> {
    /// How texts are cut.
    pub chunking: Chunking,
    /// What is put before each chunk.
    pub prompt: Prompt<'a>,
    /// Vectors that wait to be taken: where there are as many, nothing is computed.
    pub buffer: usize,
}

impl Default for StreamOptions<'_> {
    fn default() -> Self {
        Self { chunking: Chunking::default(), prompt: Prompt::Default, buffer: 64 }
    }
}

/// The vectors of the chunks of texts, in order, as they are ready.
///
/// A thread of its own cuts and computes. It rests while [`StreamOptions::buffer`] vectors wait to be taken, and while it rests no
/// more than a few parts are taken from `input`; so neither side runs away from the other. What has come of the input is embedded as soon as
/// nothing more is to be had at once. Dropping the stream at any point drops the input, and ends the thread when the batches under
/// way are done; nothing waits for it. A stream that is polled needs no particular runtime.
///
/// An error comes behind the vectors of everything before it, and is the last item.
///
/// # Errors
/// Where the chunking asks for what the model cannot do, or the system refuses the thread.
pub fn stream<S>(embedder: Arc<Embedder>, input: S, options: StreamOptions<'_>) -> Result<ChunkStream<S>>
where
    S: Stream<Item: Into<Part>>,
{
    let plan = Plan::new(&embedder, &options.chunking, options.prompt)?;
    let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
    let worker = Worker { embedder, shared: Arc::clone(&shared), buffer: options.buffer.max(1) };
    thread::Builder::new()
        .name("embral-chunks".to_owned())
        .spawn(move || worker.run(plan))
        .map_err(|e| Error::new(ErrorKind::Io, format!("the system refused a thread: {e}")).because(e))?;
    Ok(ChunkStream { input: Some(Box::pin(input)), shared })
}

/// See [`stream()`].
pub struct ChunkStream<S> {
    /// Nothing where it has ended.
    input: Option<Pin<Box<S>>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct State {
    parts: VecDeque<Part>,
    bytes: usize,
    /// No part follows.
    ended: bool,
    rows: VecDeque<Result<ChunkVector>>,
    /// No row follows.
    done: bool,
    dropped: bool,
    waker: Option<Waker>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `ready` says so, or the stream is gone.
    fn wait_until(&self, ready: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let wait = self.changed.wait_while(self.lock(), |state| !state.dropped && !ready(state));
        wait.unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, row: Result<ChunkVector>) {
        let mut state = self.lock();
        state.rows.push_back(row);
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }
}

fn bytes(part: &Part) -> usize {
    match part {
        Part::Document(text) | Part::More(text) => text.len(),
        Part::End => 0,
    }
}

impl<S: Stream<Item: Into<Part>>> Stream for ChunkStream<S> {
    type Item = Result<ChunkVector>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            let mut state = this.shared.lock();
            if state.done {
                this.input = None;
                return Poll::Ready(state.rows.pop_front());
            }
            let room = state.parts.len() < PARTS && state.bytes < BYTES;
            drop(state);
            let polled = match &mut this.input {
                Some(input) if room => input.as_mut().poll_next(context),
                _ => Poll::Pending,
            };
            let mut state = this.shared.lock();
            match polled {
                Poll::Ready(Some(part)) => {
                    let part = part.into();
                    state.bytes += bytes(&part);
                    state.parts.push_back(part);
                    this.shared.changed.notify_one();
                    continue;
                }
                Poll::Ready(None) => {
                    this.input = None;
                    state.ended = true;
                    this.shared.changed.notify_one();
                }
                Poll::Pending => {}
            }
            if let Some(row) = state.rows.pop_front() {
                this.shared.changed.notify_one();
                return Poll::Ready(Some(row));
            }
            if state.done {
                return Poll::Ready(None);
            }
            // Where there was no room, the thread wakes this task when it has taken parts.
            state.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
    }
}

impl<S> Drop for ChunkStream<S> {
    fn drop(&mut self) {
        self.shared.lock().dropped = true;
        self.shared.changed.notify_one();
    }
}

impl<S> std::fmt::Debug for ChunkStream<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChunkStream").finish_non_exhaustive()
    }
}

struct Worker {
    embedder: Arc<Embedder>,
    shared: Arc<Shared>,
    buffer: usize,
}

/// However the thread ends, the stream ends with it.
impl Drop for Worker {
    fn drop(&mut self) {
        if thread::panicking() {
            let message = "the thread of a chunk stream panicked: this is a bug";
            self.shared.put(Err(Error::new(ErrorKind::Malformed, message)));
        }
        let mut state = self.shared.lock();
        state.done = true;
        state.parts.clear();
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }
}

impl Worker {
    fn run(self, plan: Plan) {
        let mut assembler = Assembler::new(plan);
        let mut error = None;
        loop {
            let ended = match self.gather(&mut assembler) {
                Ok(ended) => ended,
                Err(e) => {
                    error = Some(e);
                    true
                }
            };
            while !assembler.is_empty() {
                if self.shared.wait_until(|state| state.rows.len() < self.buffer).dropped {
                    return;
                }
                if let Err(e) = assembler.embed(&self.embedder, &mut |row| self.shared.put(Ok(row))) {
                    self.shared.put(Err(e));
                    return;
                }
                if !ended {
                    break;
                }
            }
            if ended {
                error.into_iter().for_each(|e| self.shared.put(Err(e)));
                return;
            }
            if self.shared.lock().dropped {
                return;
            }
        }
    }

    /// Cuts texts until there are chunks enough or nothing more is to be had at once; waits where there are no chunks at all. Says
    /// whether the input has ended and all of it is cut.
    fn gather(&self, assembler: &mut Assembler) -> Result<bool> {
        while !assembler.enough(&self.embedder) {
            if assembler.step(&self.embedder)? {
                if self.shared.lock().dropped {
                    return Ok(true);
                }
                continue;
            }
            let mut state = if assembler.is_empty() {
                self.shared.wait_until(|state| state.ended || !state.parts.is_empty())
            } else {
                self.shared.lock()
            };
            if state.dropped {
                return Ok(true);
            }
            match state.parts.pop_front() {
                Some(part) => {
                    state.bytes -= bytes(&part);
                    let waker = state.waker.take();
                    drop(state);
                    waker.into_iter().for_each(Waker::wake);
                    assembler.feed(part);
                }
                None if !state.ended => return Ok(false),
                None if assembler.growing() => assembler.finish(),
                None => return Ok(true),
            }
        }
        Ok(false)
    }
}
