//! How many tokens a second a worker answers.

use std::time::Duration;

/// The share of what was measured before that an answer leaves: the mean is about that of the last eight answers.
const KEPT: f64 = 0.875;
/// How long a measurement counts: a worker that was slow once gets another chance.
const COUNTS: Duration = Duration::from_secs(60);

/// An exponentially weighted mean of tokens, divided by one of the time that they took.
///
/// The times are those between answers while something is under way, so that several requests at once add up to what the worker does, and
/// answers that come together are no infinite speed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Speed {
    tokens: f64,
    seconds: f64,
    /// The last answer.
    at: Duration,
}

impl Speed {
    /// An answer that cost so many tokens came `took` after the one before, or after the start where nothing was under way.
    pub(super) fn add(&mut self, now: Duration, tokens: u64, took: Duration) {
        self.tokens = self.tokens * KEPT + tokens as f64;
        self.seconds = self.seconds * KEPT + took.as_secs_f64();
        self.at = now;
    }

    /// Tokens a second; nothing where nothing was measured.
    pub(super) fn measured(&self) -> Option<f64> {
        (self.tokens > 0.0 && self.seconds > 0.0).then(|| self.tokens / self.seconds)
    }

    /// The same, unless it is too old to choose by.
    pub(super) fn recent(&self, now: Duration) -> Option<f64> {
        self.measured().filter(|_| now.saturating_sub(self.at) < COUNTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_steady_worker_has_its_speed_and_any_other_one_between_its_extremes(
            answers in proptest::collection::vec((1_u64..1000, 1_u64..1000), 1..40), steady in 1_u64..1000,
        ) {
            let (mut any, mut even) = (Speed::default(), Speed::default());
            let (mut least, mut most) = (f64::MAX, 0.0_f64);
            for (tokens, ms) in answers {
                let rate = tokens as f64 / ms as f64 * 1e3;
                (least, most) = (least.min(rate), most.max(rate));
                any.add(Duration::ZERO, tokens, Duration::from_millis(ms));
                even.add(Duration::ZERO, tokens, Duration::from_millis(steady) * u32::try_from(tokens).unwrap());
            }
            let close = |a: f64, b: f64| (a - b).abs() < b * 1e-9;
            prop_assert!(close(even.measured().unwrap(), 1e3 / steady as f64));
            let found = any.measured().unwrap();
            prop_assert!(found > least * (1.0 - 1e-9) && found < most * (1.0 + 1e-9));
        }
    }

    #[test]
    fn a_measurement_ages_and_a_change_is_noticed() {
        let mut speed = Speed::default();
        assert_eq!(speed.measured(), None);
        speed.add(Duration::ZERO, 100, Duration::ZERO);
        assert_eq!(speed.measured(), None, "answers that come together are no infinite speed");
        let second = Duration::from_secs(1);
        (0..20).for_each(|_| speed.add(second, 100, second));
        assert!(speed.recent(second).is_some_and(|s| s > 90.0));
        (0..30).for_each(|_| speed.add(second, 10, second));
        assert!(speed.recent(second * 60).is_some_and(|s| s < 14.0));
        assert_eq!(speed.recent(second * 61), None);
        assert!(speed.measured().is_some());
    }
}
