//! Embral behind HTTP: one pipeline, and the APIs that people already call.
//!
//! [`Server::start`] opens the models that [`Settings`] name, listens, and answers in the dialects of `dialect/`, a file each: OpenAI, TEI,
//! Ollama, Cohere and Jina, and Embral's own. A request goes the same way in all of them: who asks and whether they may (`auth`,
//! `limit`), which model (`models`), tokens, the queue of the model, one batch with whatever else waits (`embral::queue`), and
//! out again in the dialect's form. docs/server.md is the manual.

mod app;
mod auth;
mod body;
mod caller;
mod dialect;
mod failure;
mod front;
#[cfg(feature = "grpc")]
mod grpc;
mod health;
mod limit;
mod listen;
mod log;
mod metrics;
mod models;
mod number;
mod offline;
mod page;
mod pipeline;
mod server;
mod settings;
mod stream;
mod tls;

pub use log::{Logging, start as log};
#[doc(hidden)]
pub use offline::Offline;
pub use server::{Server, Stop};
pub use settings::{ModelEntry, Settings};
