//! What a pool gives batches to.

use super::back::{Back, LocalBack, ServerBack};
use crate::{Config, Embedder, remote};
use embral_types::{Error, ErrorKind, Result};
use std::{sync::Arc, time::Duration};

/// How long the connection to a server of a pool may take to come about, unless its address says.
const CONNECT: Duration = Duration::from_secs(2);

/// A worker before it is in a pool: a server or a model of this machine, and its name.
pub struct Worker {
    pub(super) name: String,
    pub(super) slots: usize,
    /// Bytes of text of a request at most.
    pub(super) bytes: usize,
    /// Whether it is probed while it is idle.
    pub(super) watched: bool,
    pub(super) back: Arc<dyn Back>,
}

impl Worker {
    /// A server by its address, in the forms of docs/remote.md, or a model of this machine as [`Embedder::open`] takes it. Its name is the
    /// address or the name as it is given; `config` says the rest.
    ///
    /// Nothing is asked of a server before it is in a pool. A request is tried once, and its connection has to come about within two
    /// seconds, unless `retries` and `connect` in the address say something else: a pool asks another worker instead. A server
    /// has as many slots as its `concurrency`.
    ///
    /// # Errors
    /// Where the address is none, its key is not set, or the configuration asks for what a server decides; of a model of this machine as
    /// [`Embedder::with_config`].
    pub fn open(name_or_address: &str, config: &Config) -> Result<Self> {
        let mut config = Config { model: Some(name_or_address.to_owned()), ..config.clone() };
        if !config.is_remote() {
            return Ok(Self::local(name_or_address, Arc::new(Embedder::with_config(config)?)));
        }
        if config.vector_cache.is_some() {
            let message = "vectors are to be kept, and a pool keeps none of those of servers";
            return Err(Error::new(ErrorKind::Unsupported, message).hint("leave the vector cache out"));
        }
        config.remote = remote::Options { retries: 0, connect: CONNECT, ..config.remote };
        let server = remote::Server::new(name_or_address, &config)?;
        Ok(Self {
            name: name_or_address.to_owned(),
            slots: server.concurrency(),
            bytes: server.batch_bytes(),
            watched: true,
            back: Arc::new(ServerBack::new(server, config)),
        })
    }

    /// A model that is open already, such as one of several devices of this machine, with one slot. It is not probed while it is idle.
    pub fn local(name: impl Into<String>, embedder: Arc<Embedder>) -> Self {
        Self { name: name.into(), slots: 1, bytes: usize::MAX, watched: false, back: Arc::new(LocalBack(embedder)) }
    }

    /// The same by another name.
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// Its name in errors and in the status of a pool.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("name", &self.name).field("slots", &self.slots).finish_non_exhaustive()
    }
}
