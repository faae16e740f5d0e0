//! How much load an embedding server takes, measured from outside on the same machine.
//!
//! The server has the same cores, so what measures must be light: one thread, connections that stay open, bodies made ahead. The first
//! answer to each request and one in 64 of the others are read in full and compared with what came before; of the rest the status
//! and the length are looked at.
//!
//! In the *closed loop* each client sends its next request when the last one was answered: it finds the throughput, and its
//! latencies are those of so many clients. In the *open loop* requests come at a rate, as those of independent users do, and the time of a
//! request runs from when it should have been sent: a server that stalls does not hide the requests that it kept from coming.

mod client;
mod dialect;
mod figures;
mod load;
mod memory;
mod plan;
mod report;
mod sentences;
mod tally;

pub use self::{
    client::Broken,
    dialect::Dialect,
    figures::Spread,
    load::run,
    memory::{Memory, Sample},
    plan::{Kind, Mix},
    report::{KindReport, Report},
    sentences::{Shape, texts},
};
use embral::{Error, ErrorKind, Result};
use std::time::Duration;

/// The most clients: each has a connection.
pub const MAX_CLIENTS: usize = 10_000;
/// The longest run, in seconds: a week.
pub const MAX_SECONDS: f64 = 7.0 * 86_400.0;

/// What is measured, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// `http://HOST:PORT`, with the beginning of the path where the server has one.
    pub url: String,
    /// The form of requests and answers.
    pub dialect: Dialect,
    /// The name of the model in requests; `None` leaves it out.
    pub model: Option<String>,
    /// The same of rerank requests; `None` is `model`.
    pub rerank_model: Option<String>,
    /// Sent as `Authorization: Bearer`.
    pub api_key: Option<String>,
    /// Sent as `x-embral-priority`.
    pub priority: Option<String>,
    /// Whether the server may be on another machine.
    pub allow_remote: bool,
    /// Connections: in the closed loop each is always busy, in the open loop they bound what is under way.
    pub clients: usize,
    /// Texts of a request; with a mix, of a batch.
    pub texts_per_request: usize,
    /// Requests a second, in the open loop; `None` is the closed loop.
    pub rate: Option<f64>,
    /// Several kinds of requests; `None` is embedding alone.
    pub mix: Option<Mix>,
    /// The most requests, those of the warm-up not counted.
    pub requests: u64,
    /// How long requests are sent, in seconds. Those under way at the end are waited for and counted.
    pub seconds: f64,
    /// How long requests are sent before it is measured, in seconds.
    pub warm_up: f64,
    /// The longest wait for one answer.
    pub timeout: Duration,
    /// Of the order of a mix and of the arrivals of the open loop.
    pub seed: u64,
    /// Whether a vector that differs in bits from the first one of its text is wrong.
    pub exact: bool,
    /// The process whose memory is looked at.
    pub pid: Option<u32>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            url: String::new(),
            dialect: Dialect::default(),
            model: None,
            rerank_model: None,
            api_key: None,
            priority: None,
            allow_remote: false,
            clients: 64,
            texts_per_request: 1,
            rate: None,
            mix: None,
            requests: 10_000_000,
            seconds: 10.0,
            warm_up: 2.0,
            timeout: Duration::from_secs(60),
            seed: 1,
            exact: false,
            pid: None,
        }
    }
}

impl Options {
    /// The mix, and the texts of its batches.
    fn mix(&self) -> (Mix, usize) {
        /// Texts of a batch in a mix, where nothing else is said.
        const BATCH: usize = 16;
        match (self.mix, self.texts_per_request) {
            (None, 1) => (Mix::only(Kind::Single), 1),
            (None, n) => (Mix::only(Kind::Batch), n),
            (Some(mix), 1) => (mix, BATCH),
            (Some(mix), n) => (mix, n),
        }
    }

    fn check(&self, texts: usize) -> Result<()> {
        let fault = match () {
            () if texts == 0 => "no text is no load: expected one at least".to_owned(),
            () if !(1..=MAX_CLIENTS).contains(&self.clients) => {
                format!("expected 1 to {MAX_CLIENTS} clients, found {}", self.clients)
            }
            () if !(1..=100_000).contains(&self.texts_per_request) => {
                format!("expected 1 to 100000 texts a request, found {}", self.texts_per_request)
            }
            () if !(self.seconds > 0.0 && self.seconds <= MAX_SECONDS) => {
                format!("expected seconds above 0, {MAX_SECONDS} at most, found {}", self.seconds)
            }
            () if !(0.0..=MAX_SECONDS).contains(&self.warm_up) => {
                format!("expected a warm-up of 0 to {MAX_SECONDS} seconds, found {}", self.warm_up)
            }
            () if self.rate.is_some_and(|rate| !(rate > 0.0 && rate <= 1e6)) => {
                format!("expected a rate above 0, a million a second at most, found {}", self.rate.unwrap_or_default())
            }
            () if self.requests == 0 || self.timeout.is_zero() => "expected requests and a timeout, found 0".to_owned(),
            () => return Ok(()),
        };
        Err(Error::new(ErrorKind::InvalidInput, fault))
    }
}

#[cfg(test)]
mod tests;
