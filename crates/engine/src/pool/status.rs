//! What the workers of a pool are doing, for metrics.

use super::Strategy;
use std::fmt;

/// Whether a worker is given batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WorkerState {
    /// It is in rotation.
    Serving,
    /// It is in rotation, and left alone for as long as it asked.
    Resting,
    /// It is out of rotation until a probe succeeds.
    Ejected,
}

impl WorkerState {
    /// The name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Resting => "resting",
            Self::Ejected => "ejected",
        }
    }
}

impl fmt::Display for WorkerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One worker of a [`PoolStatus`]. Counts are since the pool was opened; probes are none of them.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerStatus {
    /// Its name.
    pub name: String,
    /// Whether it is given batches.
    pub state: WorkerState,
    /// Batches under way.
    pub in_flight: usize,
    /// Batches that may be under way at once.
    pub slots: usize,
    /// Batches that it answered.
    pub answered: u64,
    /// Batches that it failed or was too busy for; they went to other workers. A text that it refused is no failure.
    pub failed: u64,
    /// Texts of the batches that it answered.
    pub texts: u64,
    /// How often it was ejected.
    pub ejections: u64,
    /// Tokens a second that it answers while something is under way, reckoned as a quarter of the bytes; none before its first answer.
    pub tokens_per_second: Option<f64>,
    /// The last of its failures, in one line.
    pub last_error: Option<String>,
}

/// What the workers of a pool are doing.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolStatus {
    /// Which worker is next.
    pub strategy: Strategy,
    /// The workers, in the order in which they were given.
    pub workers: Vec<WorkerStatus>,
}

impl PoolStatus {
    /// How many workers are in rotation.
    pub fn in_rotation(&self) -> usize {
        self.workers.iter().filter(|worker| worker.state != WorkerState::Ejected).count()
    }
}
