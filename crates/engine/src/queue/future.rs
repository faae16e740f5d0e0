//! The future of a call.

use super::{Shared, jobs::Slot};
use embral_scheduler::RequestId;
use embral_types::{Embeddings, Error, ErrorKind, Result};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

/// The vectors of a call, when they are there. Dropped before, it takes its texts out of the queue.
#[must_use = "a future that is dropped takes its texts out of the queue"]
pub struct EmbedFuture(Stage);

enum Stage {
    Ready(Result<Embeddings>),
    Waiting { slot: Arc<Slot>, id: RequestId, shared: Arc<Shared> },
    Answered,
}

impl EmbedFuture {
    pub(super) fn ready(answer: Result<Embeddings>) -> Self {
        Self(Stage::Ready(answer))
    }

    pub(super) fn waiting(slot: Arc<Slot>, id: RequestId, shared: Arc<Shared>) -> Self {
        Self(Stage::Waiting { slot, id, shared })
    }
}

impl Future for EmbedFuture {
    type Output = Result<Embeddings>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Stage::Waiting { slot, .. } = &self.0 {
            let answer = std::task::ready!(slot.poll(context));
            self.0 = Stage::Answered;
            return Poll::Ready(answer);
        }
        Poll::Ready(match std::mem::replace(&mut self.0, Stage::Answered) {
            Stage::Ready(answer) => answer,
            _ => Err(Error::new(ErrorKind::InvalidInput, "a future was polled after it had given its answer")),
        })
    }
}

impl Drop for EmbedFuture {
    fn drop(&mut self) {
        if let Stage::Waiting { id, shared, .. } = &self.0 {
            let mut state = shared.lock();
            state.queue.cancel(*id);
            let job = state.jobs.remove(id);
            drop(state);
            // With a waker in it, whose end is somebody else's code.
            drop(job);
        }
    }
}

impl std::fmt::Debug for EmbedFuture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Stage::Ready(_) => "EmbedFuture(ready)",
            Stage::Waiting { .. } => "EmbedFuture(waiting)",
            Stage::Answered => "EmbedFuture(answered)",
        })
    }
}
