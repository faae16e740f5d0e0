//! What a queue did and holds, as plain numbers that a metrics page can print.

use crate::{Refusal, Shape};
use std::time::Duration;

/// Why a batch went when it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// More waited than a batch holds.
    Full,
    /// Enough waited that more would gain little.
    Enough,
    /// Batches of what waited keep up with what arrives: to wait would only cost time.
    KeepsUp,
    /// The oldest had waited as long as it may.
    Age,
    /// Something urgent waited.
    Urgent,
    /// A deadline was near.
    Deadline,
    /// Memory was short, and what waits holds some.
    Memory,
    /// The queue is being shut down.
    Closing,
}

impl Reason {
    /// All of them, in the order of every array by reason.
    pub const ALL: [Self; 8] =
        [Self::Full, Self::Enough, Self::KeepsUp, Self::Age, Self::Urgent, Self::Deadline, Self::Memory, Self::Closing];

    /// The place in [`Reason::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// One word, as a label of metrics has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Enough => "enough",
            Self::KeepsUp => "keeps_up",
            Self::Age => "age",
            Self::Urgent => "urgent",
            Self::Deadline => "deadline",
            Self::Memory => "memory",
            Self::Closing => "closing",
        }
    }
}

/// Totals since the queue was made; each only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Requests accepted.
    pub accepted: u64,
    /// Requests refused, by [`Refusal::index`].
    pub refused: [u64; Refusal::ALL.len()],
    /// Requests answered.
    pub done: u64,
    /// Requests that ended with a batch that failed, or failed by themselves.
    pub failed: u64,
    /// Requests whose deadline passed.
    pub expired: u64,
    /// Requests taken back.
    pub cancelled: u64,
    /// Batches formed.
    pub batches: u64,
    /// Batches formed, by [`Reason::index`].
    pub batches_by: [u64; Reason::ALL.len()],
    /// Batches that were computed.
    pub computed: u64,
    /// Sequences in the batches formed.
    pub sequences: u64,
    /// Tokens in the batches formed.
    pub tokens: u64,
    /// Padding tokens in the batches formed; none where batches are packed.
    pub padding: u64,
    /// Padding tokens that the same batches would have had besides: with every sequence as long as the longest where they are packed, in
    /// the order due where they are padded.
    pub padding_saved: u64,
    /// Seconds that the batches computed took.
    pub busy_seconds: f64,
    /// Batches formed by their sequences: the first counts those of one, the next up to two, then four, and so on.
    pub by_sequences: [u64; 24],
    /// Batches formed by their tokens, likewise.
    pub by_tokens: [u64; 24],
}

impl Totals {
    pub(crate) fn batch(&mut self, reason: Reason, shape: &Shape) {
        self.batches += 1;
        self.batches_by[reason.index()] += 1;
        self.sequences += shape.sequences;
        self.tokens += shape.tokens;
        self.by_sequences[bucket(shape.sequences)] += 1;
        self.by_tokens[bucket(shape.tokens)] += 1;
    }
}

/// The bucket whose bound, a power of two, is the first not below `count`; the last takes all that is larger.
fn bucket(count: u64) -> usize {
    (count.max(1).next_power_of_two().trailing_zeros() as usize).min(23)
}

/// What waits of one priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassStatistics {
    /// Sequences.
    pub sequences: u64,
    /// Their tokens.
    pub tokens: u64,
}

/// A queue at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Statistics {
    /// Requests that are accepted and have not ended.
    pub open_requests: usize,
    /// Requests that wait, if only for one of their sequences.
    pub waiting_requests: usize,
    /// Sequences that wait.
    pub waiting_sequences: u64,
    /// Tokens that wait.
    pub waiting_tokens: u64,
    /// The same by [`crate::Priority::index`].
    pub waiting_by_priority: [ClassStatistics; 3],
    /// Tenants of whom something waits.
    pub waiting_tenants: usize,
    /// The age of the oldest request that waits.
    pub oldest: Option<Duration>,
    /// Batches that run.
    pub running_batches: usize,
    /// Sequences in them.
    pub running_sequences: u64,
    /// Tokens in them.
    pub running_tokens: u64,
    /// The budget of a batch in tokens, as it is now.
    pub budget_tokens: u64,
    /// How often the budget was moved.
    pub budget_moves: u64,
    /// The fraction of memory in use, as it was last said.
    pub memory_pressure: f64,
    /// Whether requests are accepted.
    pub admitting: bool,
    /// Tokens a second that arrive, by charge.
    pub arriving: f64,
    /// Tokens a second that a running batch gets done, by charge.
    pub throughput: Option<f64>,
    /// Seconds between arrival and answer, of the requests last answered: the median.
    pub latency_p50: Option<f64>,
    /// The 95th percentile.
    pub latency_p95: Option<f64>,
    /// The 99th percentile.
    pub latency_p99: Option<f64>,
    /// Totals since the queue was made.
    pub totals: Totals,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_powers_of_two() {
        let of = [0, 1, 2, 3, 4, 5, 1 << 22, u64::from(u32::MAX)].map(bucket);
        assert_eq!(of, [0, 0, 1, 2, 2, 3, 22, 23]);
        assert!(Reason::ALL.iter().enumerate().all(|(i, reason)| reason.index() == i));
    }
}
