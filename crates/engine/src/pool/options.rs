//! What may be chosen about a pool.

use embral_types::{Error, ErrorKind, Result};
use std::{fmt, str::FromStr, time::Duration};

/// Which worker is given the next batch, of those that are in rotation and have a free slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// One after the other.
    RoundRobin,
    /// The one with the least under way for its slots.
    #[default]
    LeastLoaded,
    /// The one that would be done first: its tokens under way and those of the batch, divided by the tokens a second that it was measured
    /// to answer. One that was not measured within a minute counts as the fastest that was.
    Fastest,
    /// Any, evenly.
    Random,
}

impl Strategy {
    /// Every strategy, in the order of the documentation.
    pub const ALL: [Self; 4] = [Self::RoundRobin, Self::LeastLoaded, Self::Fastest, Self::Random];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "round-robin",
            Self::LeastLoaded => "least-loaded",
            Self::Fastest => "fastest",
            Self::Random => "random",
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Strategy {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|strategy| strategy.name() == name).ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            Error::new(ErrorKind::InvalidInput, format!("unknown strategy {name:?}: expected one of {known}"))
        })
    }
}

/// How a pool works.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PoolOptions {
    /// Which worker is next.
    pub strategy: Strategy,
    /// How long a server may be idle before it is asked for the vector of a short text, to see whether it is there. It costs about three
    /// tokens; [`Duration::MAX`] asks none but those that are ejected.
    pub health_every: Duration,
    /// Failures in a row, from 1, after which a worker is ejected. What another try would only repeat (a refused key, an answer that is none)
    /// ejects at once.
    pub eject_after: u32,
    /// How long a worker is ejected for. Then a probe decides whether it returns; each that fails doubles the time.
    pub eject_for: Duration,
    /// At which length the time of an ejection ends to grow.
    pub eject_at_most: Duration,
    /// How often a batch that failed is tried again, on other workers first.
    pub retries: u32,
    /// How long a batch waits for a worker to return where all are ejected; then that is its error.
    pub patience: Duration,
    /// Texts that a call gives to a worker at once; `None` is the fewest that any worker takes in a request.
    pub batch_texts: Option<usize>,
    /// How long a call may take with all of its tries. A batch that is computed on this machine is not broken off.
    pub deadline: Duration,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self {
            strategy: Strategy::default(),
            health_every: Duration::from_secs(10),
            eject_after: 3,
            eject_for: Duration::from_secs(1),
            eject_at_most: Duration::from_secs(30),
            retries: 5,
            patience: Duration::from_secs(10),
            batch_texts: None,
            deadline: Duration::from_secs(300),
        }
    }
}

impl PoolOptions {
    /// Refuses numbers that nothing can be done with.
    pub(super) fn check(&self) -> Result<()> {
        let wrong = |what: &str| Err(Error::new(ErrorKind::InvalidInput, format!("options of a pool: {what}")));
        if self.eject_after == 0 || self.batch_texts == Some(0) {
            return wrong("eject_after and batch_texts are at least 1, found 0");
        }
        if self.health_every.is_zero() || self.eject_for.is_zero() || self.deadline.is_zero() {
            return wrong("health_every, eject_for and deadline are above 0, found 0");
        }
        if self.eject_at_most < self.eject_for {
            return wrong("eject_at_most is no shorter than eject_for");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strategies_have_names() {
        for strategy in Strategy::ALL {
            assert_eq!(strategy.to_string().parse::<Strategy>().unwrap(), strategy);
        }
        let error = "fast".parse::<Strategy>().unwrap_err().to_string();
        assert!(error.contains("expected one of round-robin, least-loaded, fastest, random"), "{error}");
    }

    #[test]
    fn numbers_that_are_none_are_refused() {
        let good = PoolOptions::default();
        good.check().unwrap();
        for bad in [
            PoolOptions { eject_after: 0, ..good },
            PoolOptions { batch_texts: Some(0), ..good },
            PoolOptions { health_every: Duration::ZERO, ..good },
            PoolOptions { eject_for: Duration::ZERO, ..good },
            PoolOptions { deadline: Duration::ZERO, ..good },
            PoolOptions { eject_at_most: Duration::from_millis(1), ..good },
        ] {
            assert_eq!(bad.check().unwrap_err().kind(), ErrorKind::InvalidInput);
        }
    }
}
