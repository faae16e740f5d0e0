//! Requests for several models on one machine, computed together.

use super::{
    future::{AnswerFuture, Slot},
    worker,
};
use embral_scheduler::{
    MemoryReader, MemoryReport, Queue, QueueConfig, Reason, Refusal, Refused, Request, RequestId, Scheduler,
    Statistics, Tenant,
};
use embral_types::{Error, ErrorKind, Result};
use std::{
    collections::HashMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// What computes the items of a model.
pub trait Work: Send + Sync + 'static {
    /// What goes in.
    type Item: Send + Sync + 'static;
    /// What comes out.
    type Output: Send + 'static;

    /// One answer an item, in their order; an error is of its item alone.
    fn run(&self, items: &[&Self::Item]) -> Vec<Result<Self::Output>>;
}

/// A model of a [`Dispatcher`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelId(u64);

/// A batch that was computed.
#[derive(Clone, Copy, Debug)]
pub struct BatchReport {
    /// Whose it was.
    pub model: ModelId,
    /// Items in it.
    pub items: u64,
    /// Tokens in it.
    pub tokens: u64,
    /// Why it went when it did.
    pub reason: Reason,
    /// How long it was computed.
    pub took: Duration,
}

/// Told of each batch.
pub type Observer = dyn Fn(&BatchReport) + Send + Sync;

/// Queues of several models before one machine, with threads of their own that compute.
///
/// When it is dropped, what was asked for is still answered; then its threads end.
pub struct Dispatcher<W: Work> {
    shared: Arc<Shared<W>>,
    threads: Vec<thread::JoinHandle<()>>,
}

/// What the dispatcher, its threads and its futures share.
pub(super) struct Shared<W: Work> {
    state: Mutex<State<W>>,
    /// Something has come, or the dispatcher was closed.
    pub(super) news: Condvar,
    pub(super) observer: Option<Box<Observer>>,
    begin: Instant,
}

pub(super) struct State<W: Work> {
    pub(super) scheduler: Scheduler<ModelId>,
    pub(super) models: HashMap<ModelId, Arc<W>>,
    pub(super) jobs: HashMap<(ModelId, RequestId), Job<W>>,
    pub(super) closed: bool,
    next: u64,
    memory: Memory,
}

/// How much memory is in use, as it was read last.
struct Memory {
    reader: MemoryReader,
    read: Option<Duration>,
    last: MemoryReport,
}

/// A request that is not answered yet.
pub(super) struct Job<W: Work> {
    pub(super) items: Arc<[W::Item]>,
    /// What was computed so far, each at its place.
    pub(super) outputs: Vec<Option<W::Output>>,
    pub(super) slot: Arc<Slot<W::Output>>,
    pub(super) came: Duration,
    /// When its first batch began.
    pub(super) began: Option<Duration>,
}

impl<W: Work> Shared<W> {
    pub(super) fn lock(&self) -> MutexGuard<'_, State<W>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> Duration {
        self.begin.elapsed()
    }
}

impl<W: Work> State<W> {
    /// Reads the memory in use where that was done more than a second ago: 50 to 100 µs.
    pub(super) fn look_at_memory(&mut self, now: Duration) {
        const EVERY: Duration = Duration::from_secs(1);
        if self.memory.read.is_none_or(|read| now.saturating_sub(read) >= EVERY) {
            self.memory.last = self.memory.reader.read();
            self.memory.read = Some(now);
            self.scheduler.set_memory_pressure(self.memory.last.pressure());
        }
    }

    /// Whether nothing waits or runs.
    pub(super) fn is_idle(&self) -> bool {
        self.scheduler.iter().all(|(_, queue)| queue.is_idle())
    }
}

impl<W: Work> Dispatcher<W> {
    /// No model yet; so many batches are computed at once, each by a thread. One for models that share the cores of this machine.
    ///
    /// # Errors
    /// Where no batch may run, or the operating system gives no thread.
    pub fn new(slots: usize) -> Result<Self> {
        Self::observed(slots, None)
    }

    /// As [`Dispatcher::new`]; `observer` is told of each batch, by the thread that computed it.
    ///
    /// # Errors
    /// As [`Dispatcher::new`].
    pub fn observed(slots: usize, observer: Option<Box<Observer>>) -> Result<Self> {
        let state = State {
            scheduler: Scheduler::new(slots)?,
            models: HashMap::new(),
            jobs: HashMap::new(),
            closed: false,
            next: 0,
            memory: Memory { reader: MemoryReader::default(), read: None, last: MemoryReport::default() },
        };
        let shared = Arc::new(Shared { state: state.into(), news: Condvar::new(), observer, begin: Instant::now() });
        let mut dispatcher = Self { shared, threads: Vec::with_capacity(slots) };
        for _ in 0..slots {
            let work = Arc::clone(&dispatcher.shared);
            let thread =
                thread::Builder::new().name("embral-queue".to_owned()).spawn(move || worker::run(&work)).map_err(
                    |e| Error::new(ErrorKind::Io, format!("cannot start the thread of a queue: {e}")).because(e),
                )?;
            dispatcher.threads.push(thread);
        }
        Ok(dispatcher)
    }

    /// Adds a model with a queue of its own and a share of the machine.
    ///
    /// # Errors
    /// Where the configuration or the weight is none that a queue can be run by.
    pub fn add(&self, work: Arc<W>, config: QueueConfig, weight: f64) -> Result<ModelId> {
        let queue = Queue::new(config)?;
        let mut state = self.shared.lock();
        state.next += 1;
        let id = ModelId(state.next);
        state.scheduler.insert(id, queue, weight)?;
        state.models.insert(id, work);
        // A new queue knows nothing of the memory in use.
        state.memory.read = None;
        Ok(id)
    }

    /// Takes a model out. What waits of it is answered with [`ErrorKind::Overloaded`].
    pub fn remove(&self, model: ModelId) {
        let mut state = self.shared.lock();
        state.scheduler.remove(&model);
        let work = state.models.remove(&model);
        let mut ended = Vec::new();
        let ids: Vec<(ModelId, RequestId)> = state.jobs.keys().filter(|(of, _)| *of == model).copied().collect();
        ids.iter().for_each(|id| ended.extend(state.jobs.remove(id)));
        drop(state);
        drop(work);
        for job in ended {
            job.slot.answer(Err(Error::new(ErrorKind::Overloaded, "the model was unloaded")));
        }
    }

    /// The outputs for the items of a request, in their order. They are in the queue from this call on; a future that is dropped takes
    /// them out again. `request.lengths` has the tokens of each, and its deadline is a time from now.
    pub fn submit(&self, model: ModelId, items: Vec<W::Item>, mut request: Request) -> AnswerFuture<W> {
        let shared = &self.shared;
        if items.is_empty() {
            return AnswerFuture::ready(Ok(Vec::new()));
        }
        let now = shared.now();
        request.deadline = request.deadline.map(|within| now.saturating_add(within));
        let outputs = items.iter().map(|_| None).collect();
        let job = Job { items: items.into(), outputs, slot: Arc::default(), came: now, began: None };
        let slot = Arc::clone(&job.slot);
        let mut state = shared.lock();
        state.look_at_memory(now);
        let Some(queue) = state.scheduler.get_mut(&model) else {
            return AnswerFuture::ready(Err(Error::new(ErrorKind::Overloaded, "the model was unloaded")));
        };
        match queue.submit(now, request) {
            Ok(id) => {
                state.jobs.insert((model, id), job);
                drop(state);
                shared.news.notify_one();
                AnswerFuture::waiting(slot, (model, id), Arc::clone(shared))
            }
            Err(refused) => AnswerFuture::ready(Err(refusal(refused))),
        }
    }

    /// Sets the share of a tenant in the queue of a model, from its next request on. A tenant never named has 1.
    ///
    /// # Errors
    /// Where it is no positive number.
    pub fn set_weight(&self, model: ModelId, tenant: Tenant, weight: f64) -> Result<()> {
        match self.shared.lock().scheduler.get_mut(&model) {
            Some(queue) => queue.set_weight(tenant, weight),
            None => Ok(()),
        }
    }

    /// What the queue of a model did and holds; none where the model was removed.
    pub fn statistics(&self, model: ModelId) -> Option<Statistics> {
        let now = self.shared.now();
        self.shared.lock().scheduler.get(&model).map(|queue| queue.statistics(now))
    }

    /// How much memory is in use, read at most a second ago.
    pub fn memory(&self) -> MemoryReport {
        let now = self.shared.now();
        let mut state = self.shared.lock();
        state.look_at_memory(now);
        state.memory.last
    }

    /// From now on nothing is accepted; what is in the queues is still answered.
    pub fn close(&self) {
        let mut state = self.shared.lock();
        state.closed = true;
        let ids: Vec<ModelId> = state.models.keys().copied().collect();
        for id in ids {
            if let Some(queue) = state.scheduler.get_mut(&id) {
                queue.close();
            }
        }
        drop(state);
        self.shared.news.notify_all();
    }

    /// Whether nothing waits or runs.
    pub fn is_idle(&self) -> bool {
        self.shared.lock().is_idle()
    }
}

impl<W: Work> Drop for Dispatcher<W> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<W: Work> std::fmt::Debug for Dispatcher<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dispatcher").field("slots", &self.threads.len()).finish_non_exhaustive()
    }
}

/// A refusal of the policy as an error of the library; its source is the [`Refused`].
pub(super) fn refusal(refused: Refused) -> Error {
    let kind = match refused.cause {
        Refusal::TooLarge | Refusal::Empty => ErrorKind::InvalidInput,
        _ => ErrorKind::Overloaded,
    };
    Error::new(kind, refused.to_string()).because(refused)
}
