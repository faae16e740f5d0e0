//! Rates: how much arrives, how much is done.

use std::time::Duration;

/// Arrivals a second, the recent ones the most: each counts `e^(−age / τ)`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ArrivalRate {
    sum: f64,
    first: Option<Duration>,
    last: Duration,
}

/// τ in seconds.
const HORIZON: f64 = 2.0;

impl ArrivalRate {
    pub(crate) fn add(&mut self, now: Duration, amount: f64) {
        self.sum = self.decayed(now) + amount;
        self.first.get_or_insert(now);
        self.last = self.last.max(now);
    }

    /// What arrives in a second. The sum counts over `τ · (1 − e^(−t / τ))` seconds, `t` since the first; a tenth of a second at least.
    pub(crate) fn per_second(&self, now: Duration) -> f64 {
        let Some(first) = self.first else { return 0.0 };
        let known = now.saturating_sub(first).as_secs_f64().max(0.1);
        self.decayed(now) / (HORIZON * (1.0 - (-known / HORIZON).exp()))
    }

    fn decayed(&self, now: Duration) -> f64 {
        self.sum * (-now.saturating_sub(self.last).as_secs_f64() / HORIZON).exp()
    }
}

/// What a running batch gets done in a second: the ratio of two sums, each of which keeps a part with every batch.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ServiceRate {
    done: f64,
    seconds: f64,
}

impl ServiceRate {
    const KEPT: f64 = 0.95;

    pub(crate) fn add(&mut self, done: f64, seconds: f64) {
        if done.is_finite() && seconds.is_finite() && seconds > 0.0 {
            self.done = Self::KEPT * self.done + done;
            self.seconds = Self::KEPT * self.seconds + seconds;
        }
    }

    pub(crate) fn per_second(&self) -> Option<f64> {
        (self.done > 0.0 && self.seconds > 0.0).then(|| self.done / self.seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_stream_is_measured_from_the_start() {
        let mut rate = ArrivalRate::default();
        assert_eq!(rate.per_second(Duration::from_secs(9)), 0.0);
        for i in 0..5000 {
            rate.add(Duration::from_millis(10 * i), 3.0);
            if i > 50 {
                let per_second = rate.per_second(Duration::from_millis(10 * i));
                assert!((per_second / 300.0 - 1.0).abs() < 0.1, "{i}: {per_second}");
            }
        }
        assert!(rate.per_second(Duration::from_secs(60)) < 3.0);
    }

    #[test]
    fn service_is_work_over_time_and_ignores_nonsense() {
        let mut rate = ServiceRate::default();
        assert_eq!(rate.per_second(), None);
        rate.add(f64::NAN, 1.0);
        rate.add(10.0, 0.0);
        assert_eq!(rate.per_second(), None);
        rate.add(10.0, 1.0);
        rate.add(30.0, 1.0);
        assert!((20.0..21.0).contains(&rate.per_second().unwrap()));
    }
}
