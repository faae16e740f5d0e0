//! Calls from many tasks and threads, computed together.
//!
//! A [`BatchQueue`] takes texts from anywhere in a program and gives a future for their vectors. What comes while a batch is computed is in the
//! next one; urgent texts before others, callers by their weight. The vectors are those of [`Embedder::embed_batch`], bit for bit,
//! whatever they were computed with. docs/scheduling.md has the policy.
//!
//! It needs no runtime: one thread of its own computes, and the futures are woken by it, in tokio or any other executor.
//!
//! ```
//! # use std::{pin::pin, sync::Arc, task::{Context, Poll, Wake, Waker}};
//! use embral::{Embedder, queue::{Asked, BatchQueue, Priority}};
//!
//! async fn ask(queue: &BatchQueue) -> embral::Result<()> {
//!     let urgent = Asked { priority: Priority::High, ..Asked::default() };
//!     let rows = queue.embed_async_as(["how do plants eat"], &urgent).await?;
//!     let more = queue.embed_async(["a cat sat on the mat", "interest rates rose"]).await?;
//!     assert_eq!((rows.len(), more.len()), (1, 2));
//!     Ok(())
//! }
//!
//! let embedder = Arc::new(Embedder::open_default()?);
//! let queue = BatchQueue::bounded(embedder, 1000)?;
//! # struct Unpark(std::thread::Thread);
//! # impl Wake for Unpark { fn wake(self: Arc<Self>) { self.0.unpark() } }
//! # let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
//! # let mut future = pin!(ask(&queue));
//! # loop {
//! #     match future.as_mut().poll(&mut Context::from_waker(&waker)) {
//! #         Poll::Ready(answer) => break answer?,
//! #         Poll::Pending => std::thread::park(),
//! #     }
//! # }
//! # Ok::<(), embral::Error>(())
//! ```

mod future;
mod jobs;
mod worker;

pub use embral_scheduler::{Preset, Priority, Statistics, Tenant};
pub use future::EmbedFuture;

use crate::{Embedder, ModelInfo, Prompt};
use embral_scheduler::{Capacity, CostModel, Queue, QueueConfig, Request};
use embral_types::{Embeddings, Error, ErrorKind, Result};
use jobs::{Job, KeptPrompt, State};
use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// How a queue works.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct QueueOptions {
    /// What it is tuned for.
    pub preset: Preset,
    /// How many calls may wait; none: as many as come.
    pub calls: Option<usize>,
    /// How many bytes of text may wait; none: as many as come.
    pub bytes: Option<u64>,
}

/// How one call is to be treated.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// How urgent it is.
    pub priority: Priority,
    /// Who asks. The machine is shared between those who ask at the same time.
    pub tenant: Tenant,
    /// The time after which an answer is of no more use.
    pub within: Option<Duration>,
    /// What is put before each text.
    pub prompt: Prompt<'a>,
}

/// A queue of texts before one [`Embedder`]; the module says more.
///
/// When it is dropped, what was asked for is still answered; then its thread ends.
pub struct BatchQueue {
    shared: Arc<Shared>,
}

/// What computes: texts in, one row each.
type Compute = dyn Fn(&[&str], Prompt<'_>) -> Result<Embeddings> + Send + Sync;

/// What the queue, its thread and its futures share.
struct Shared {
    state: Mutex<State>,
    /// Something has come, or the queue was closed.
    news: Condvar,
    compute: Box<Compute>,
    begin: Instant,
    dimensions: usize,
    max_tokens: usize,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.begin.elapsed()
    }
}

/// Bytes of text that are taken for one token, before it is tokenised: about what English has. What batches take is measured, and
/// sets it right.
const BYTES_A_TOKEN: usize = 4;

impl BatchQueue {
    /// A queue in which as much may wait as comes.
    ///
    /// # Errors
    /// Where the operating system gives no thread.
    pub fn unbounded(embedder: Arc<Embedder>) -> Result<Self> {
        Self::with_options(embedder, QueueOptions::default())
    }

    /// A queue in which so many calls may wait. Of more, the future ends at once with [`ErrorKind::Overloaded`].
    ///
    /// # Errors
    /// As [`BatchQueue::unbounded`], and where none may wait.
    pub fn bounded(embedder: Arc<Embedder>, calls: usize) -> Result<Self> {
        Self::with_options(embedder, QueueOptions { calls: Some(calls), ..QueueOptions::default() })
    }

    /// A queue by these options.
    ///
    /// # Errors
    /// As [`BatchQueue::bounded`].
    pub fn with_options(embedder: Arc<Embedder>, options: QueueOptions) -> Result<Self> {
        let (cost, dimensions, max_tokens) = (cost(embedder.info()), embedder.dimensions(), embedder.max_tokens());
        let compute = move |texts: &[&str], prompt: Prompt<'_>| embedder.embed_batch_as(texts, prompt);
        Self::begin(Box::new(compute), options, cost, (dimensions, max_tokens))
    }

    fn begin(
        compute: Box<Compute>,
        options: QueueOptions,
        cost: CostModel,
        (dimensions, max_tokens): (usize, usize),
    ) -> Result<Self> {
        let capacity = Capacity {
            requests: options.calls.unwrap_or(usize::MAX),
            tokens: options.bytes.map_or(u64::MAX, |bytes| (bytes / BYTES_A_TOKEN as u64).max(1)),
            ..Capacity::unbounded()
        };
        let queue = Queue::new(QueueConfig { capacity, ..QueueConfig::preset(options.preset, cost) })?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new(queue)),
            news: Condvar::new(),
            compute,
            begin: Instant::now(),
            dimensions,
            max_tokens,
        });
        let work = Arc::clone(&shared);
        thread::Builder::new()
            .name("embral-queue".to_owned())
            .spawn(move || worker::run(&work))
            .map_err(|e| Error::new(ErrorKind::Io, format!("cannot start the thread of a queue: {e}")).because(e))?;
        Ok(Self { shared })
    }

    /// The vectors of texts, one row each, in their order. The texts are in the queue from this call on; a future that is dropped takes
    /// them out again.
    ///
    /// The future ends with an error as [`Embedder::embed_batch`] does, for this call alone; with [`ErrorKind::Overloaded`] where the
    /// queue has no room.
    pub fn embed_async<T: Into<String>>(&self, texts: impl IntoIterator<Item = T>) -> EmbedFuture {
        self.embed_async_as(texts, &Asked::default())
    }

    /// The same with a priority, a tenant, a time or a prompt. Where the time has passed, the error is [`ErrorKind::Overloaded`].
    pub fn embed_async_as<T: Into<String>>(
        &self,
        texts: impl IntoIterator<Item = T>,
        asked: &Asked<'_>,
    ) -> EmbedFuture {
        let texts: Vec<String> = texts.into_iter().map(Into::into).collect();
        if texts.is_empty() {
            return EmbedFuture::ready(Ok(Embeddings::new(Vec::new(), self.shared.dimensions)));
        }
        let most = u32::try_from(self.shared.max_tokens).unwrap_or(u32::MAX);
        // Two tokens besides: those that a model puts at the ends.
        let length = |text: &String| u32::try_from(text.len() / BYTES_A_TOKEN + 2).unwrap_or(u32::MAX).min(most);
        let now = self.shared.now();
        let request = Request {
            tenant: asked.tenant,
            priority: asked.priority,
            lengths: texts.iter().map(length).collect(),
            deadline: asked.within.map(|within| now.saturating_add(within)),
        };
        let job = Job::new(texts, KeptPrompt::from(asked.prompt), self.shared.dimensions);
        let slot = Arc::clone(&job.slot);
        let mut state = self.shared.lock();
        match state.queue.submit(now, request) {
            Ok(id) => {
                state.jobs.insert(id, job);
                drop(state);
                self.shared.news.notify_one();
                EmbedFuture::waiting(slot, id, Arc::clone(&self.shared))
            }
            Err(refused) => EmbedFuture::ready(Err(jobs::refusal(refused))),
        }
    }

    /// Sets the share of a tenant, from its next call on. A tenant never named has 1.
    ///
    /// # Errors
    /// Where it is no positive number.
    pub fn set_weight(&self, tenant: Tenant, weight: f64) -> Result<()> {
        self.shared.lock().queue.set_weight(tenant, weight)
    }

    /// What the queue did and holds. Tokens in it are estimates: a quarter of the bytes.
    pub fn statistics(&self) -> Statistics {
        self.shared.lock().queue.statistics(self.shared.now())
    }
}

impl Drop for BatchQueue {
    fn drop(&mut self) {
        self.shared.lock().queue.close();
        self.shared.news.notify_one();
    }
}

impl std::fmt::Debug for BatchQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BatchQueue").field("statistics", &self.statistics()).finish()
    }
}

/// What batches of a model cost, by its layers `L` and width `d`: `2 · L · 12 d²` operations a token, with MLPs of four times the width, and
/// `4 · L · d` a pair. A static model adds up one row a token.
fn cost(info: &ModelInfo) -> CostModel {
    let (layers, width) = (info.layers as f64, info.hidden.max(1) as f64);
    CostModel {
        flops_per_token: (24.0 * layers * width * width).max(2.0 * width),
        flops_per_pair: 4.0 * layers * width,
        // Rows of the state, query, key, value and the MLP, in f32.
        bytes_per_token: 4.0 * 9.0 * width,
        bytes_per_sequence: 4.0 * info.dimensions as f64,
        ..CostModel::default()
    }
}

#[cfg(test)]
mod tests;
