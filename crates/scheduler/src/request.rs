//! What is asked of a queue, and how a queue says no.

use std::{fmt, time::Duration};

/// How urgent a request is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Somebody waits for it.
    High,
    /// The ordinary.
    #[default]
    Normal,
    /// A job in bulk.
    Low,
}

impl Priority {
    /// All of them, the most urgent first.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    /// The place in [`Priority::ALL`], and in every array by priority.
    pub fn index(self) -> usize {
        self as usize
    }
}

/// Who asks: one of those between whom the machine is shared, such as the holder of an API key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tenant(pub u64);

/// Sequences that are answered together.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Who asks.
    pub tenant: Tenant,
    /// How urgent it is.
    pub priority: Priority,
    /// The tokens of each sequence.
    pub lengths: Vec<u32>,
    /// When an answer is of no more use.
    pub deadline: Option<Duration>,
}

/// The name of an accepted request; a queue never gives one twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(crate) u64);

/// The name of a batch; a queue never gives one twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(pub(crate) u64);

/// One sequence of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceRef {
    /// Whose it is.
    pub request: RequestId,
    /// Its place in [`Request::lengths`].
    pub index: usize,
    /// Its tokens.
    pub tokens: u32,
}

/// Why a request was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// The queue has no room for it now.
    Full,
    /// The queue has room, but this tenant holds its share of it.
    Share,
    /// The process is near its limit of memory.
    Memory,
    /// It would not fit into the empty queue: it has to come in parts.
    TooLarge,
    /// It has no sequence.
    Empty,
    /// Its deadline has passed.
    Expired,
    /// The queue is being shut down.
    Closed,
}

impl Refusal {
    /// All of them, in the order of every array by cause.
    pub const ALL: [Self; 7] =
        [Self::Full, Self::Share, Self::Memory, Self::TooLarge, Self::Empty, Self::Expired, Self::Closed];

    /// The place in [`Refusal::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// One word, as a label of metrics has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Share => "share",
            Self::Memory => "memory",
            Self::TooLarge => "too_large",
            Self::Empty => "empty",
            Self::Expired => "expired",
            Self::Closed => "closed",
        }
    }
}

/// A request that was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub cause: Refusal,
    /// After which time there will be room at the rate measured, where waiting helps at all.
    pub retry_after: Option<Duration>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.cause {
            Refusal::Full => "the queue is full",
            Refusal::Share => "the queue holds too much of this caller",
            Refusal::Memory => "memory is near its limit",
            Refusal::TooLarge => "the request is larger than the whole queue; send it in parts",
            Refusal::Empty => "the request has no text",
            Refusal::Expired => "the deadline of the request has passed",
            Refusal::Closed => "the queue is being shut down",
        })?;
        match self.retry_after {
            Some(after) => write!(f, "; try again in {:.1} s", after.as_secs_f64()),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Refused {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_follow_the_lists() {
        assert!(Priority::ALL.iter().enumerate().all(|(i, priority)| priority.index() == i));
        assert!(Refusal::ALL.iter().enumerate().all(|(i, refusal)| refusal.index() == i));
        assert!(Priority::High < Priority::Normal && Priority::Normal < Priority::Low);
    }

    #[test]
    fn a_refusal_says_when_to_come_back() {
        let refused = Refused { cause: Refusal::Full, retry_after: Some(Duration::from_millis(1500)) };
        assert_eq!(refused.to_string(), "the queue is full; try again in 1.5 s");
        let never = Refused { cause: Refusal::Closed, retry_after: None };
        assert_eq!(never.to_string(), "the queue is being shut down");
    }
}
