//! What stands behind a worker: a server, or a model of this machine.

use crate::{
    Config, Embedder, ModelInfo, Prompt,
    remote::{Failure, PROBE, Remote, Server, retry::Fault},
};
use embral_types::{Error, ErrorKind, Result};
use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use super::rotation::Outcome;

/// Texts that a model of this machine is given at once.
const LOCAL_TEXTS: usize = 64;

/// What was found out by opening.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// The vector of [`PROBE`].
    pub(super) row: Vec<f32>,
    /// The model by the server's own word.
    pub(super) told: Option<String>,
    /// What it is, where it is one.
    pub(super) info: Option<ModelInfo>,
    /// Texts of a request.
    pub(super) batch: usize,
}

/// What computes the batches of a worker. It may panic: the caller is guarded.
pub(super) trait Back: Send + Sync {
    /// Finds out what it is; again after each ejection, since it may have become another.
    fn open(&self) -> Result<Found>;

    /// One row a text, one after the other. What has not come `within` is an error, where that can be.
    fn embed(&self, texts: &[&str], prompt: Prompt<'_>, within: Duration) -> Result<Vec<f32>>;

    /// What it puts before a text for a prompt, or tells its server; nothing where it is not open.
    ///
    /// # Errors
    /// Where it has no prompt of that name.
    fn prompt(&self, prompt: Prompt<'_>) -> Result<Option<String>>;
}

/// A server, whether or not it is there.
pub(super) struct ServerBack {
    pub(super) server: Server,
    pub(super) config: Config,
    opened: RwLock<Option<Arc<Remote>>>,
}

impl ServerBack {
    pub(super) fn new(server: Server, config: Config) -> Self {
        Self { server, config, opened: RwLock::new(None) }
    }

    fn opened(&self) -> Option<Arc<Remote>> {
        self.opened.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Back for ServerBack {
    fn open(&self) -> Result<Found> {
        let mut remote = Remote::of(self.server.clone(), &self.config)?;
        let row = remote.embed_within(&[PROBE], remote.prompt(Prompt::Default)?, Duration::MAX)?;
        remote.measure(&row)?;
        let found = Found { row, told: remote.told.clone(), info: Some(remote.info.clone()), batch: remote.batch };
        *self.opened.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(remote));
        Ok(found)
    }

    fn embed(&self, texts: &[&str], prompt: Prompt<'_>, within: Duration) -> Result<Vec<f32>> {
        let remote = self.opened().ok_or_else(|| Error::new(ErrorKind::Network, "the server was never there"))?;
        let told = remote.prompt(prompt)?;
        remote.embed_within(texts, told, within)
    }

    fn prompt(&self, prompt: Prompt<'_>) -> Result<Option<String>> {
        let Some(remote) = self.opened() else { return Ok(None) };
        let told = remote.prompt(prompt)?;
        Ok(Some(told.name.unwrap_or(told.text).to_owned()))
    }
}

/// A model of this machine.
pub(super) struct LocalBack(pub(super) Arc<Embedder>);

impl Back for LocalBack {
    fn open(&self) -> Result<Found> {
        let (row, info) = (self.0.embed(PROBE)?, self.0.info().clone());
        Ok(Found { row, told: None, info: Some(info), batch: LOCAL_TEXTS.max(self.0.texts_at_once()) })
    }

    fn embed(&self, texts: &[&str], prompt: Prompt<'_>, _: Duration) -> Result<Vec<f32>> {
        Ok(self.0.embed_batch_as(texts, prompt)?.into_vec())
    }

    fn prompt(&self, prompt: Prompt<'_>) -> Result<Option<String>> {
        self.0.prompt_text(prompt).map(|text| Some(text.to_owned()))
    }
}

/// What an error is to the health of a worker.
pub(super) fn outcome(error: &Error) -> Outcome {
    if let Some(failure) = failure(error) {
        return match failure.fault {
            // 429 of an account that is spent is none of these: its fault is final.
            Fault::Status(429) => Outcome::Busy(failure.retry_after),
            Fault::Status(503) if failure.retry_after.is_some() => Outcome::Busy(failure.retry_after),
            Fault::Status(400 | 413 | 422) => Outcome::Refused,
            // An answer that is none may be for the texts: vectors that are not finite.
            fault if fault.passes() || failure.kind == ErrorKind::Malformed => Outcome::Failed,
            _ => Outcome::Broken,
        };
    }
    match error.kind() {
        ErrorKind::Overloaded => Outcome::Busy(None),
        ErrorKind::Io | ErrorKind::Network => Outcome::Failed,
        // Such as a text that is too long, or a prompt that the model does not have.
        _ => Outcome::Refused,
    }
}

/// Whether a worker answered, and so is there, whatever the answer is worth.
pub(super) fn is_answer(error: &Error) -> bool {
    failure(error).is_some_and(|failure| matches!(failure.fault, Fault::Status(_) | Fault::Final))
}

/// What a server's failure was, where an error is one.
pub(super) fn failure(error: &Error) -> Option<&Failure> {
    std::error::Error::source(error)?.downcast_ref()
}

/// An error as one says it of a worker that is named already.
pub(super) fn words(error: &Error) -> &str {
    failure(error).map_or(error.message(), |failure| &failure.what)
}
