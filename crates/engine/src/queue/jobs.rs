//! What a queue keeps of each call until it is answered.

use crate::Prompt;
use embral_scheduler::{Queue, Refusal, Refused, RequestId};
use embral_types::{Embeddings, Error, ErrorKind, Result};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
};

/// The policy, and the calls that it knows by their numbers.
pub(super) struct State {
    pub(super) queue: Queue,
    pub(super) jobs: HashMap<RequestId, Job>,
}

impl State {
    pub(super) fn new(queue: Queue) -> Self {
        Self { queue, jobs: HashMap::new() }
    }
}

/// A call that is not answered yet.
pub(super) struct Job {
    pub(super) texts: Arc<[String]>,
    pub(super) prompt: Arc<KeptPrompt>,
    /// The rows computed so far, each at its place.
    pub(super) rows: Vec<f32>,
    pub(super) slot: Arc<Slot>,
}

impl Job {
    pub(super) fn new(texts: Vec<String>, prompt: KeptPrompt, dimensions: usize) -> Self {
        let rows = vec![0.0; texts.len() * dimensions];
        Self { texts: texts.into(), prompt: Arc::new(prompt), rows, slot: Arc::default() }
    }
}

/// A prompt that outlives its call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KeptPrompt {
    Default,
    None,
    Query,
    Document,
    Name(String),
    Text(String),
}

impl From<Prompt<'_>> for KeptPrompt {
    fn from(prompt: Prompt<'_>) -> Self {
        match prompt {
            Prompt::Default => Self::Default,
            Prompt::None => Self::None,
            Prompt::Query => Self::Query,
            Prompt::Document => Self::Document,
            Prompt::Name(name) => Self::Name(name.to_owned()),
            Prompt::Text(text) => Self::Text(text.to_owned()),
        }
    }
}

impl KeptPrompt {
    pub(super) fn as_prompt(&self) -> Prompt<'_> {
        match self {
            Self::Default => Prompt::Default,
            Self::None => Prompt::None,
            Self::Query => Prompt::Query,
            Self::Document => Prompt::Document,
            Self::Name(name) => Prompt::Name(name),
            Self::Text(text) => Prompt::Text(text),
        }
    }
}

/// Where the answer of a call is put for its future.
#[derive(Default)]
pub(super) struct Slot(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    answer: Option<Result<Embeddings>>,
    waker: Option<Waker>,
}

impl Slot {
    /// Gives the answer and wakes who waits for it. Never to be called with the state locked: a waker may drop futures on the spot, and
    /// these lock it.
    pub(super) fn answer(&self, answer: Result<Embeddings>) {
        let waker = {
            let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.answer = Some(answer);
            waiting.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(super) fn poll(&self, context: &mut Context<'_>) -> Poll<Result<Embeddings>> {
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

/// A refusal of the policy as an error of the library.
pub(super) fn refusal(refused: Refused) -> Error {
    let kind = match refused.cause {
        Refusal::TooLarge | Refusal::Empty => ErrorKind::InvalidInput,
        _ => ErrorKind::Overloaded,
    };
    Error::new(kind, refused.to_string()).because(refused)
}
