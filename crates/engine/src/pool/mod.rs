//! Several workers behind one face: servers and models of this machine that all have one model.
//!
//! A [`Pool`] gives each batch to one of its workers. Where a worker fails, the batch goes to another; where it fails repeatedly, it is
//! ejected until a probe finds it well again. docs/pool.md tells how. A batch is with one worker at a time, so that there are never two answers
//! for it, and the rows of a call are where its texts are.
//!
//! That a text's vector is the same, bit for bit, alone and in company, on whichever worker, is promised for workers of this machine of one
//! configuration only.
//!
//! ```
//! use embral::{Embedder, Prompt, pool::{Pool, PoolOptions, Strategy, Worker}};
//! use std::sync::Arc;
//!
//! # fn main() -> embral::Result<()> {
//! let embedder = Arc::new(Embedder::open_default()?);
//! let workers = vec![Worker::local("first", Arc::clone(&embedder)), Worker::local("second", embedder)];
//! let pool = Pool::of(workers, PoolOptions { strategy: Strategy::Fastest, ..PoolOptions::default() })?;
//! let rows = pool.embed_batch_distributed(&["a cat sat on the mat", "interest rates rose"], Prompt::Default)?;
//! assert_eq!((rows.len(), rows.dim(), pool.slots()), (2, 256, 2));
//! # Ok(())
//! # }
//! ```

mod agreement;
mod back;
mod batch;
mod health;
mod options;
mod rotation;
mod speed;
mod status;
#[cfg(test)]
mod tests;
mod worker;

pub use options::{PoolOptions, Strategy};
pub use status::{PoolStatus, WorkerState, WorkerStatus};
pub use worker::Worker;

use crate::{Config, ModelInfo, Prompt, remote::batches};
use agreement::Agreement;
use back::{Back, Found, outcome, words};
use batch::{Batch, Rows};
use embral_types::{Embeddings, Error, ErrorKind, Result};
use rotation::{Outcome, Rotation};
use std::{
    hash::{BuildHasher, RandomState},
    ops::Range,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::sync_channel,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Several workers behind one face; the module says more. Shared between threads by reference.
///
/// When it is dropped its thread ends. A probe that is under way then ends by itself, within the time that its server has for one try.
pub struct Pool {
    shared: Arc<Shared>,
    health: Option<JoinHandle<()>>,
}

/// The vectors of a batch that one worker answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// One row a text.
    pub vectors: Embeddings,
    /// Who answered: its place in [`PoolStatus::workers`]. Where a text made the batch go in parts, who answered the last.
    pub worker: usize,
    /// How often workers were asked; more than 1 where some failed.
    pub tries: u32,
}

/// What callers, probes and the thread share.
struct Shared {
    members: Vec<Member>,
    state: Mutex<State>,
    /// A slot is free, a worker came or went, or the pool was closed.
    news: Condvar,
    agreement: Agreement,
    options: PoolOptions,
    info: ModelInfo,
    /// Texts and bytes of a batch at most.
    batch: (usize, usize),
    begin: Instant,
    random: RandomState,
    drawn: AtomicU64,
}

struct State {
    rotation: Rotation,
    closed: bool,
}

/// A worker of a pool.
struct Member {
    name: String,
    back: Arc<dyn Back>,
    last_error: Mutex<Option<String>>,
}

impl Member {
    /// Keeps the words of a failure.
    fn keep(&self, error: &str) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_owned());
    }

    fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    fn dimensions(&self) -> usize {
        self.info.dimensions
    }

    /// Drawn evenly from [0, 1): the hash of a number that is new each time, under a key that is the pool's own.
    fn chance(&self) -> f64 {
        (self.random.hash_one(self.drawn.fetch_add(1, Ordering::Relaxed)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

impl Pool {
    /// Opens a pool of servers, by their addresses, and of models of this machine, by their names: [`Worker::open`] of each, and
    /// [`Pool::of`] all of them.
    ///
    /// # Errors
    /// As these two.
    pub fn open(workers: &[impl AsRef<str>], config: &Config, options: PoolOptions) -> Result<Self> {
        let workers: Result<_> = workers.iter().map(|worker| Worker::open(worker.as_ref(), config)).collect();
        Self::of(workers?, options)
    }

    /// Opens a pool of workers. Each is asked for the vector of a short text, all at the same time. Servers that are down are tried again
    /// until they are there.
    ///
    /// # Errors
    /// Where there is no worker, none answers, or one answers what trying again would not change, such as that it refuses the key; where two
    /// disagree about the model: the width of vectors, its name where servers tell it, or the vector of that text. The error names
    /// the workers.
    pub fn of(workers: Vec<Worker>, options: PoolOptions) -> Result<Self> {
        options.check()?;
        let workers = distinct(workers);
        if workers.is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput, "a pool has one worker at least, found none"));
        }
        let opened: Vec<Result<Found>> = thread::scope(|scope| {
            let opening: Vec<_> = workers.iter().map(|worker| scope.spawn(|| worker.back.open())).collect();
            let panicked = |_| Err(Error::new(ErrorKind::Io, "its computation panicked"));
            opening.into_iter().map(|thread| thread.join().unwrap_or_else(panicked)).collect()
        });
        let mut rotation = Rotation::new(options, workers.iter().map(|worker| (worker.slots, worker.watched)));
        let (agreement, mut info, mut texts) = (Agreement::default(), None, usize::MAX);
        let mut down = vec![None; workers.len()];
        for (i, (worker, opened)) in workers.iter().zip(opened).enumerate() {
            let outcome = match opened {
                Ok(found) => {
                    agreement.join(&worker.name, &found)?;
                    texts = texts.min(found.batch);
                    join_info(&mut info, found.info);
                    Outcome::Answered { texts: 0 }
                }
                Err(error) => match outcome(&error) {
                    outcome @ (Outcome::Failed | Outcome::Busy(_)) => {
                        down[i] = Some(words(&error).to_owned());
                        outcome
                    }
                    _ => {
                        let message = format!("worker {}: {}", worker.name, words(&error));
                        return Err(Error::new(error.kind(), message).because(error));
                    }
                },
            };
            rotation.probed(Duration::ZERO, i, outcome);
        }
        let Some(info) = info else {
            let each = workers
                .iter()
                .zip(&down)
                .map(|(worker, why)| format!("{}: {}", worker.name, why.as_deref().unwrap_or_default()));
            let message = format!("no worker answers: {}", each.collect::<Vec<_>>().join("; "));
            return Err(
                Error::new(ErrorKind::Network, message).hint("are the servers running, and are these their addresses?")
            );
        };
        let bytes = workers.iter().map(|worker| worker.bytes).min().unwrap_or(usize::MAX);
        let member = |(worker, down): (Worker, Option<String>)| Member {
            name: worker.name,
            back: worker.back,
            last_error: Mutex::new(down),
        };
        let shared = Arc::new(Shared {
            members: workers.into_iter().zip(down).map(member).collect(),
            state: Mutex::new(State { rotation, closed: false }),
            news: Condvar::new(),
            agreement,
            options,
            info,
            batch: (options.batch_texts.unwrap_or(texts).max(1), bytes),
            begin: Instant::now(),
            random: RandomState::new(),
            drawn: AtomicU64::new(0),
        });
        let probing = Arc::clone(&shared);
        let health = thread::Builder::new().name("embral-pool".to_owned()).spawn(move || health::run(&probing));
        let health = health
            .map_err(|e| Error::new(ErrorKind::Io, format!("cannot start the thread of a pool: {e}")).because(e))?;
        Ok(Self { shared, health: Some(health) })
    }

    /// Embeds texts, one row each, in their order: batches of them on all workers at the same time, on as many threads as workers have
    /// slots.
    ///
    /// # Errors
    /// Where a text is refused, as by [`Embedder::embed_batch`](crate::Embedder::embed_batch), with the index of the text; where the workers
    /// disagree about the prompt; and where nobody answered a batch within its tries and the deadline, with each worker and its last
    /// failure: [`ErrorKind::Overloaded`] where all were busy, else [`ErrorKind::Network`]. Of several errors it is that of the first text.
    pub fn embed_batch_distributed(&self, texts: &[impl AsRef<str> + Sync], prompt: Prompt<'_>) -> Result<Embeddings> {
        let shared = &*self.shared;
        let deadline = shared.now().saturating_add(shared.options.deadline);
        self.check_prompt(prompt)?;
        let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
        let ranges: Vec<Range<usize>> = batches::ranges(&texts, shared.batch.0, shared.batch.1);
        let dim = shared.dimensions();
        let mut out = vec![0.0; texts.len() * dim];
        let mut failed: Option<(usize, Error)> = None;
        let next = AtomicUsize::new(0);
        let threads = self.slots().min(ranges.len());
        thread::scope(|scope| {
            let (sender, answers) = sync_channel(threads);
            for _ in 0..threads {
                let (sender, next, ranges, texts) = (sender.clone(), &next, &ranges, &texts);
                scope.spawn(move || {
                    while let Some(range) = ranges.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let batch = Batch { texts: &texts[range.clone()], prompt, first: range.start, deadline };
                        let answer = shared.answer(batch);
                        if answer.is_err() {
                            next.store(ranges.len(), Ordering::Relaxed);
                        }
                        if sender.send((range.clone(), answer)).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(sender);
            for (range, answer) in answers {
                match answer {
                    Ok(Rows { rows, .. }) => out[range.start * dim..range.end * dim].copy_from_slice(&rows),
                    Err(e) if failed.as_ref().is_none_or(|(first, _)| range.start < *first) => {
                        failed = Some((range.start, e));
                    }
                    Err(_) => {}
                }
            }
        });
        failed.map_or(Ok(Embeddings::new(out, dim)), |(_, e)| Err(e))
    }

    /// Embeds texts as one batch on one worker, on this thread; on another worker where one fails. Calls from several threads go to
    /// several workers; of more than there are [slots](Pool::slots), some wait. No texts are no batch: nobody is asked.
    ///
    /// # Errors
    /// As [`Pool::embed_batch_distributed`].
    pub fn embed_on_one(&self, texts: &[impl AsRef<str> + Sync], prompt: Prompt<'_>) -> Result<Answered> {
        let shared = &*self.shared;
        let deadline = shared.now().saturating_add(shared.options.deadline);
        self.check_prompt(prompt)?;
        let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
        let dim = shared.dimensions();
        if texts.is_empty() {
            return Ok(Answered { vectors: Embeddings::new(Vec::new(), dim), worker: 0, tries: 0 });
        }
        let Rows { rows, worker, tries } = shared.answer(Batch { texts: &texts, prompt, first: 0, deadline })?;
        Ok(Answered { vectors: Embeddings::new(rows, dim), worker, tries })
    }

    /// What the model is, by the first worker that answered; the longest text is the shortest of those that the workers take.
    pub fn info(&self) -> &ModelInfo {
        &self.shared.info
    }

    /// Components of a vector.
    pub fn dimensions(&self) -> usize {
        self.shared.dimensions()
    }

    /// How many batches may be under way at once, of all workers together, whether or not they are in rotation.
    pub fn slots(&self) -> usize {
        self.shared.lock().rotation.seats().iter().map(|seat| seat.slots).fold(0, usize::saturating_add)
    }

    /// Texts that [`Pool::embed_batch_distributed`] gives to a worker at once, at most.
    pub fn batch_texts(&self) -> usize {
        self.shared.batch.0
    }

    /// What the workers are doing.
    pub fn status(&self) -> PoolStatus {
        let shared = &*self.shared;
        let state = shared.lock();
        let now = shared.now();
        let worker = |(member, seat): (&Member, &rotation::Seat)| WorkerStatus {
            name: member.name.clone(),
            state: match seat.serves(now) {
                (false, _) => WorkerState::Ejected,
                (true, true) => WorkerState::Resting,
                (true, false) => WorkerState::Serving,
            },
            in_flight: seat.under_way,
            slots: seat.slots,
            answered: seat.counts.answered,
            failed: seat.counts.failed,
            texts: seat.counts.texts,
            ejections: seat.counts.ejections,
            tokens_per_second: seat.speed.measured(),
            last_error: member.last_error(),
        };
        PoolStatus {
            strategy: shared.options.strategy,
            workers: shared.members.iter().zip(state.rotation.seats()).map(worker).collect(),
        }
    }

    /// Refuses a prompt that one worker has and another has not.
    pub(crate) fn check_prompt(&self, prompt: Prompt<'_>) -> Result<()> {
        if !matches!(prompt, Prompt::Name(_) | Prompt::Query | Prompt::Document) {
            return Ok(());
        }
        let (mut with, mut without) = (None, None);
        for member in &self.shared.members {
            match member.back.prompt(prompt)? {
                None => {}
                Some(text) if text.is_empty() => without = Some(&member.name),
                Some(_) => with = Some(&member.name),
            }
        }
        let (Some(with), Some(without)) = (with, without) else { return Ok(()) };
        let message = format!("{with} puts something before a text for {prompt:?}, and {without} does not");
        Err(Error::new(ErrorKind::InvalidInput, message)
            .hint("give the prompt as text, Prompt::Text, which is the same for all"))
    }
}

/// Gives the second and further workers of one name names of their own.
fn distinct(mut workers: Vec<Worker>) -> Vec<Worker> {
    for i in 1..workers.len() {
        let before = |name: &str| workers[..i].iter().any(|worker| worker.name == name);
        if before(&workers[i].name) {
            let names = (2..).map(|n| format!("{} ({n})", workers[i].name));
            workers[i].name =
                names.into_iter().find(|name| !before(name)).expect("there are more numbers than workers");
        }
    }
    workers
}

/// The first that is told, with the shortest of all longest texts.
fn join_info(all: &mut Option<ModelInfo>, one: Option<ModelInfo>) {
    match (all.as_mut(), one) {
        (Some(all), Some(one)) => all.max_tokens = all.max_tokens.min(one.max_tokens),
        (None, one) => *all = one,
        (Some(_), None) => {}
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.news.notify_all();
        if let Some(health) = self.health.take() {
            // It answers to nobody: how it ended is its own affair.
            let _ = health.join();
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("status", &self.status()).finish_non_exhaustive()
    }
}
