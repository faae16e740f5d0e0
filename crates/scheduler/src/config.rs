//! The numbers of a queue.

use crate::{CostModel, Grouping, MemoryPolicy, Preset, TunerConfig};
use embral_types::{Error, ErrorKind, Result};
use std::time::Duration;

/// How much may wait.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Capacity {
    /// Requests.
    pub requests: usize,
    /// Tokens.
    pub tokens: u64,
    /// The fraction of the room up to which each priority is accepted, the most urgent first: what bulk leaves free is there for those in
    /// a hurry.
    pub by_priority: [f64; 3],
    /// `α`: a tenant may hold `α` times the room that is free, so that one alone gets `α / (1 + α)` of the queue and the next one still
    /// comes in. Choudhury and Hahne, "Dynamic queue length thresholds", 1998. None: all of it.
    pub tenant: Option<f64>,
}

impl Default for Capacity {
    fn default() -> Self {
        Self { requests: 16_384, tokens: 4 << 20, by_priority: [1.0, 0.95, 0.9], tenant: Some(8.0) }
    }
}

impl Capacity {
    /// No bound but that of memory.
    pub fn unbounded() -> Self {
        Self { requests: usize::MAX, tokens: u64::MAX, by_priority: [1.0; 3], tenant: None }
    }
}

/// The numbers of a queue.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueConfig {
    /// What batches cost.
    pub cost: CostModel,
    /// How the budget of a batch is moved.
    pub tuner: TunerConfig,
    /// What is done as memory becomes short.
    pub memory: MemoryPolicy,
    /// Bytes that a batch may take while it is computed.
    pub batch_bytes: f64,
    /// Sequences that a batch may hold.
    pub batch_sequences: u64,
    /// How long the oldest waits for company at most, where it pays.
    pub wait: Duration,
    /// How much may wait.
    pub capacity: Capacity,
    /// The shares of the priorities while all of them wait, the most urgent first.
    pub weights: [f64; 3],
    /// How lengths are grouped where batches are padded; packed batches gain nothing by it.
    pub grouping: Grouping,
    /// Batches that run at once.
    pub slots: usize,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self::preset(Preset::Throughput, CostModel::default())
    }
}

impl QueueConfig {
    /// The numbers of a preset, for a model of this cost.
    pub fn preset(preset: Preset, cost: CostModel) -> Self {
        let (wait, batch_bytes) = match preset {
            Preset::Throughput => (5, 1e9),
            Preset::Latency => (0, 1e9),
            Preset::Memory => (2, 64e6),
        };
        Self {
            cost,
            tuner: TunerConfig::preset(preset),
            memory: MemoryPolicy::default(),
            batch_bytes,
            batch_sequences: 4096,
            wait: Duration::from_millis(wait),
            capacity: Capacity::default(),
            weights: [16.0, 4.0, 1.0],
            grouping: Grouping::default(),
            slots: 1,
        }
    }

    /// Whether a queue can be run by these numbers.
    ///
    /// # Errors
    /// As [`CostModel::check`] and [`TunerConfig::check`], and where a weight, a share or a limit is no positive number.
    pub fn check(&self) -> Result<()> {
        self.cost.check()?;
        self.tuner.check()?;
        let positive = |value: f64| value.is_finite() && value > 0.0;
        let Capacity { requests, tokens, by_priority, tenant } = self.capacity;
        let faults = [
            (
                !self.memory.is_valid(),
                "memory must have shrink_above < stop_above, 0 < resume_below <= stop_above, and least from 0 to 1",
            ),
            (self.batch_bytes.is_nan() || self.batch_bytes <= 0.0, "batch_bytes must be more than 0"),
            (self.batch_sequences == 0, "batch_sequences must be 1 or more"),
            (!self.weights.iter().all(|w| positive(*w)), "weights must be more than 0"),
            (self.slots == 0, "slots must be 1 or more"),
            (requests == 0 || tokens == 0, "the capacity must be 1 request and 1 token or more"),
            (
                !by_priority.iter().all(|p| positive(*p) && *p <= 1.0),
                "the capacity by priority must be above 0, and 1 at most",
            ),
            (
                tenant.is_some_and(|alpha| !(positive(alpha) && alpha >= 1.0)),
                "the capacity of a tenant must be 1 or more",
            ),
        ];
        match faults.iter().find(|(bad, _)| *bad) {
            None => Ok(()),
            Some((_, expected)) => {
                Err(Error::new(ErrorKind::InvalidInput, format!("a queue's {expected}; found {self:?}")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_valid_and_what_is_not_is_named() {
        for preset in [Preset::Throughput, Preset::Latency, Preset::Memory] {
            QueueConfig::preset(preset, CostModel::default()).check().unwrap();
        }
        let base = QueueConfig::default();
        let capacity = Capacity { tenant: Some(0.5), ..Capacity::default() };
        for (bad, name) in [
            (QueueConfig { slots: 0, ..base.clone() }, "slots"),
            (QueueConfig { weights: [1.0, 0.0, 1.0], ..base.clone() }, "weights"),
            (QueueConfig { batch_bytes: f64::NAN, ..base.clone() }, "batch_bytes"),
            (QueueConfig { capacity, ..base.clone() }, "tenant"),
            (QueueConfig { batch_sequences: 0, ..base }, "batch_sequences"),
        ] {
            let error = bad.check().unwrap_err().to_string();
            assert!(error.starts_with(&format!("a queue's {name}")) || error.contains("of a tenant"), "{error}");
        }
        QueueConfig { capacity: Capacity::unbounded(), ..QueueConfig::default() }.check().unwrap();
    }
}
