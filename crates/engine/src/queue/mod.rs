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

mod dispatcher;
mod future;
mod worker;

pub use dispatcher::{BatchReport, Dispatcher, ModelId, Observer, Work};
pub use embral_scheduler::{
    Capacity, CostModel, MemoryReport, Preset, Priority, QueueConfig, Reason, Refusal, Refused, Request, Statistics,
    Tenant,
};
pub use future::{Answer, AnswerFuture, EmbedFuture};

use crate::{Embedder, ModelInfo, Prompt, prompt::KeptPrompt};
use embral_types::{Embeddings, Error, ErrorKind, Result};
use std::{sync::Arc, time::Duration};

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
    dispatcher: Dispatcher<Texts>,
    model: ModelId,
    dimensions: usize,
    max_tokens: usize,
}

/// What computes: texts in, one row each.
type Compute = dyn Fn(&[&str], Prompt<'_>) -> Result<Embeddings> + Send + Sync;

/// A model of texts.
pub(crate) struct Texts {
    compute: Box<Compute>,
    dimensions: usize,
}

/// A text with what is put before it.
pub(crate) struct Told {
    text: String,
    prompt: Arc<KeptPrompt>,
}

impl Work for Texts {
    type Item = Told;
    type Output = Vec<f32>;

    /// Computes the texts of one prompt at once. Where that gives an error, each is computed by itself, so that the error is of the one
    /// that has it.
    fn run(&self, items: &[&Told]) -> Vec<Result<Vec<f32>>> {
        let mut found: Vec<Option<Result<Vec<f32>>>> = items.iter().map(|_| None).collect();
        let mut rest: Vec<usize> = (0..items.len()).collect();
        while let Some(&first) = rest.first() {
            let (same, others): (Vec<usize>, Vec<usize>) =
                rest.into_iter().partition(|&i| items[i].prompt == items[first].prompt);
            rest = others;
            let prompt = items[first].prompt.as_prompt();
            let texts: Vec<&str> = same.iter().map(|&i| items[i].text.as_str()).collect();
            match self.rows(&texts, prompt) {
                Ok(rows) => same.iter().enumerate().for_each(|(at, &i)| found[i] = Some(Ok(rows.row(at).to_vec()))),
                Err(error) if same.len() == 1 => found[first] = Some(Err(error)),
                Err(_) => {
                    for i in same {
                        found[i] = Some(self.rows(&[&items[i].text], prompt).map(|rows| rows.row(0).to_vec()));
                    }
                }
            }
        }
        found.into_iter().flatten().collect()
    }
}

impl Texts {
    fn rows(&self, texts: &[&str], prompt: Prompt<'_>) -> Result<Embeddings> {
        let rows = (self.compute)(texts, prompt)?;
        if rows.len() != texts.len() || rows.dim() != self.dimensions {
            let message = "the model gave another number of vectors than it was given texts";
            return Err(Error::new(ErrorKind::Unsupported, message).hint("please report it with the text"));
        }
        Ok(rows)
    }
}

/// Bytes of text that are taken for one token, before it is tokenised: about what English has. What batches take is measured, and
/// sets it right.
const BYTES_A_TOKEN: usize = 4;

/// The tokens that a text is taken to have before it is tokenised, with two for those that a model puts at the ends.
pub(crate) fn estimated_tokens(text: &str) -> usize {
    text.len() / BYTES_A_TOKEN + 2
}

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
        let dispatcher = Dispatcher::new(1)?;
        let config = QueueConfig { capacity, ..QueueConfig::preset(options.preset, cost) };
        let model = dispatcher.add(Arc::new(Texts { compute, dimensions }), config, 1.0)?;
        Ok(Self { dispatcher, model, dimensions, max_tokens })
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
        let prompt = Arc::new(KeptPrompt::from(asked.prompt));
        let told = |text: T| Told { text: text.into(), prompt: Arc::clone(&prompt) };
        let texts: Vec<Told> = texts.into_iter().map(told).collect();
        let length = |told: &Told| u32::try_from(estimated_tokens(&told.text).min(self.max_tokens)).unwrap_or(u32::MAX);
        let request = Request {
            tenant: asked.tenant,
            priority: asked.priority,
            lengths: texts.iter().map(length).collect(),
            deadline: asked.within,
        };
        EmbedFuture { answer: self.dispatcher.submit(self.model, texts, request), dimensions: self.dimensions }
    }

    /// Sets the share of a tenant, from its next call on. A tenant never named has 1.
    ///
    /// # Errors
    /// Where it is no positive number.
    pub fn set_weight(&self, tenant: Tenant, weight: f64) -> Result<()> {
        self.dispatcher.set_weight(self.model, tenant, weight)
    }

    /// What the queue did and holds. Tokens in it are estimates: a quarter of the bytes.
    pub fn statistics(&self) -> Statistics {
        self.dispatcher.statistics(self.model).unwrap_or_default()
    }
}

impl std::fmt::Debug for BatchQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BatchQueue").field("statistics", &self.statistics()).finish()
    }
}

/// What batches of a model cost, by its layers `L` and width `d`: `2 · L · 12 d²` operations a token, with MLPs of four times the width, and
/// `4 · L · d` a pair. A static model adds up one row a token.
pub(crate) fn cost(info: &ModelInfo) -> CostModel {
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
