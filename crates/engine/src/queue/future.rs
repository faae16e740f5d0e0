//! The futures of requests, and where their answers are put.

use super::dispatcher::{ModelId, Shared, Work};
use embral_scheduler::RequestId;
use embral_types::{Embeddings, Error, ErrorKind, Result};
use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

/// The outputs of a request, one an item, and where its time went.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer<O> {
    /// In the order of the items.
    pub outputs: Vec<O>,
    /// Until the first of them began to be computed.
    pub queued: Duration,
    /// From then on until the last of them was there.
    pub computed: Duration,
}

/// Where the answer of a request is put for its future.
pub(super) struct Slot<O>(Mutex<Waiting<O>>);

struct Waiting<O> {
    answer: Option<Result<Answer<O>>>,
    waker: Option<Waker>,
}

impl<O> Default for Slot<O> {
    fn default() -> Self {
        Self(Mutex::new(Waiting { answer: None, waker: None }))
    }
}

impl<O> Slot<O> {
    /// Gives the answer and wakes who waits for it. Never to be called with the state locked: a waker may drop futures on the spot, and
    /// these lock it.
    pub(super) fn answer(&self, answer: Result<Answer<O>>) {
        let waker = {
            let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.answer = Some(answer);
            waiting.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<Result<Answer<O>>> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = waiting.answer.take() {
            return Poll::Ready(answer);
        }
        match &mut waiting.waker {
            Some(waker) => waker.clone_from(context.waker()),
            None => waiting.waker = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

/// The answer of a request, when it is there. Dropped before, it takes the request out of the queue.
#[must_use = "a future that is dropped takes its request out of the queue"]
pub struct AnswerFuture<W: Work>(Stage<W>);

enum Stage<W: Work> {
    Ready(Result<Answer<W::Output>>),
    Waiting { slot: Arc<Slot<W::Output>>, id: (ModelId, RequestId), shared: Arc<Shared<W>> },
    Answered,
}

// Nothing in it is pinned: an answer may move.
impl<W: Work> Unpin for AnswerFuture<W> {}

impl<W: Work> AnswerFuture<W> {
    pub(super) fn ready(outputs: Result<Vec<W::Output>>) -> Self {
        let answer = |outputs| Answer { outputs, queued: Duration::ZERO, computed: Duration::ZERO };
        Self(Stage::Ready(outputs.map(answer)))
    }

    pub(super) fn waiting(slot: Arc<Slot<W::Output>>, id: (ModelId, RequestId), shared: Arc<Shared<W>>) -> Self {
        Self(Stage::Waiting { slot, id, shared })
    }
}

impl<W: Work> Future for AnswerFuture<W> {
    type Output = Result<Answer<W::Output>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Stage::Waiting { slot, .. } = &self.0 {
            let answer = ready!(slot.poll(context));
            self.0 = Stage::Answered;
            return Poll::Ready(answer);
        }
        Poll::Ready(match std::mem::replace(&mut self.0, Stage::Answered) {
            Stage::Ready(answer) => answer,
            _ => Err(Error::new(ErrorKind::InvalidInput, "a future was polled after it had given its answer")),
        })
    }
}

impl<W: Work> Drop for AnswerFuture<W> {
    fn drop(&mut self) {
        if let Stage::Waiting { id: (model, request), shared, .. } = &self.0 {
            let mut state = shared.lock();
            if let Some(queue) = state.scheduler.get_mut(model) {
                queue.cancel(*request);
            }
            let job = state.jobs.remove(&(*model, *request));
            drop(state);
            // With a waker in it, whose end is somebody else's code.
            drop(job);
        }
    }
}

impl<W: Work> std::fmt::Debug for AnswerFuture<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Stage::Ready(_) => "AnswerFuture(ready)",
            Stage::Waiting { .. } => "AnswerFuture(waiting)",
            Stage::Answered => "AnswerFuture(answered)",
        })
    }
}

/// The vectors of a call, when they are there. Dropped before, it takes its texts out of the queue.
#[must_use = "a future that is dropped takes its texts out of the queue"]
#[derive(Debug)]
pub struct EmbedFuture {
    pub(super) answer: AnswerFuture<super::Texts>,
    pub(super) dimensions: usize,
}

impl Future for EmbedFuture {
    type Output = Result<Embeddings>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.answer).poll(context));
        Poll::Ready(answer.map(|answer| Embeddings::new(answer.outputs.concat(), self.dimensions)))
    }
}
