//! How large a batch may be: the cost model, set right by what was measured.

use crate::{CostModel, Shape};
use embral_types::Result;

/// What a batch must stay within.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Bytes that it takes while it is computed.
    pub bytes: f64,
    /// Seconds that it takes.
    pub seconds: f64,
    /// Tokens that are computed, padding among them.
    pub tokens: u64,
    /// Sequences.
    pub sequences: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: f64::INFINITY, seconds: f64::INFINITY, tokens: u64::MAX, sequences: u64::MAX }
    }
}

/// The largest batch that fits a budget of memory and a target of latency.
///
/// With `x` the seconds of a batch's operations by the cost model, and `t₀` its seconds a batch, what a batch takes is
///
/// ```text
/// seconds = α + β · x          at first α = t₀, β = 1
/// bytes   = μ · bytes by the cost model      at first μ = 1
/// ```
///
/// `α` and `β` are the weighted least squares of the batches measured. A batch weighs `1 / seconds²`, so that small and large ones count by
/// their relative error, and 0.97 of that with each batch that follows. A measurement is taken as at most four times what was
/// expected, and at least a quarter: one stop of the machine does not move the fit by much, a lasting change does within some
/// batches. `μ` follows a measurement above it at once, and one below it by a hundredth, as memory is never to be promised twice.
#[derive(Clone, Debug)]
pub struct BatchSizeOptimizer {
    cost: CostModel,
    alpha: f64,
    beta: f64,
    mu: f64,
    sums: Sums,
}

/// Weighted sums of a regression of `y` on `x`.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    one: f64,
    x: f64,
    xx: f64,
    y: f64,
    xy: f64,
}

impl Sums {
    fn add(&mut self, x: f64, y: f64, keep: f64) {
        let weight = 1.0 / (y * y);
        for (sum, term) in
            [(&mut self.one, 1.0), (&mut self.x, x), (&mut self.xx, x * x), (&mut self.y, y), (&mut self.xy, x * y)]
        {
            *sum = keep * *sum + weight * term;
        }
    }
}

/// What a batch weighs once another follows.
const KEPT: f64 = 0.97;
/// How far a measurement may lie from what was expected.
const SURPRISE: f64 = 4.0;
/// Seconds below which nothing is measured.
const TICK: f64 = 1e-7;
/// The relative variance of sizes below which a slope would be noise.
const SPREAD: f64 = 0.02;
/// How far `μ` goes towards a measurement below it.
const RELEASED: f64 = 0.01;

impl BatchSizeOptimizer {
    /// Begins with the cost model alone.
    ///
    /// # Errors
    /// As [`CostModel::check`].
    pub fn new(cost: CostModel) -> Result<Self> {
        cost.check()?;
        let mut optimizer = Self { cost, alpha: cost.seconds_per_batch, beta: 1.0, mu: 1.0, sums: Sums::default() };
        // The guess counts as two batches, one with no work and one with as much again.
        let unit = cost.seconds_per_batch.max(1e-3);
        for x in [0.0, unit] {
            optimizer.sums.add(x, (optimizer.alpha + x).max(TICK), 1.0);
        }
        Ok(optimizer)
    }

    /// The model that it began with.
    pub fn cost(&self) -> &CostModel {
        &self.cost
    }

    /// Takes in what a batch took. Measurements that are no positive number say nothing.
    pub fn observe(&mut self, shape: &Shape, seconds: f64, bytes: Option<f64>) {
        if seconds.is_finite() && seconds > 0.0 && shape.sequences > 0 {
            let expected = self.seconds(shape).max(TICK);
            let seconds = seconds.clamp(expected / SURPRISE, expected * SURPRISE).max(TICK);
            self.sums.add(self.work(shape), seconds, KEPT);
            self.fit();
        }
        let modelled = self.cost.bytes(shape);
        if let Some(bytes) = bytes.filter(|bytes| bytes.is_finite() && *bytes > 0.0 && modelled > 0.0) {
            let ratio = (bytes / modelled).clamp(1.0 / 16.0, 16.0);
            self.mu = if ratio > self.mu { ratio } else { self.mu + RELEASED * (ratio - self.mu) };
        }
    }

    /// Seconds that a batch is expected to take.
    pub fn seconds(&self, shape: &Shape) -> f64 {
        self.alpha + self.beta * self.work(shape)
    }

    /// Seconds that charges ([`CostModel::charge`]) are expected to take, as one batch.
    pub fn seconds_of_charge(&self, charge: f64) -> f64 {
        self.alpha + self.beta * charge * self.cost.flops_per_token / self.cost.flops_per_second
    }

    /// Bytes that a batch is expected to take.
    pub fn bytes(&self, shape: &Shape) -> f64 {
        self.mu * self.cost.bytes(shape)
    }

    /// Whether a batch is expected to stay within limits.
    pub fn fits(&self, shape: &Shape, limits: &Limits) -> bool {
        shape.sequences <= limits.sequences
            && self.cost.computed_tokens(shape) <= limits.tokens
            && self.bytes(shape) <= limits.bytes
            && self.seconds(shape) <= limits.seconds
    }

    /// How many sequences of `tokens` each fit within limits, in O(log sequences).
    pub fn largest(&self, tokens: u32, limits: &Limits) -> u64 {
        let fits = |sequences: u64| self.fits(&Shape::uniform(sequences, tokens), limits);
        let mut above = 1_u64;
        while above < limits.sequences && fits(above) {
            above = above.saturating_mul(2);
        }
        let (mut fit, mut above) = (above / 2, above.min(limits.sequences).saturating_add(1));
        while above - fit > 1 {
            let middle = fit + (above - fit) / 2;
            if fits(middle) { fit = middle } else { above = middle }
        }
        fit
    }

    /// The tokens of a batch whose fixed seconds are `1 - share` of the whole:
    /// `α / (α + β x) = 1 − share`, so `x = share / (1 − share) · α / β`.
    pub fn charge_at_share(&self, share: f64) -> f64 {
        let x = share / (1.0 - share) * self.alpha / self.beta;
        x * self.cost.flops_per_second / self.cost.flops_per_token
    }

    /// Seconds of the operations of a batch by the cost model, at the speed first guessed.
    fn work(&self, shape: &Shape) -> f64 {
        self.cost.flops(shape) / self.cost.flops_per_second
    }

    fn fit(&mut self) {
        let Sums { one, x, xx, y, xy } = self.sums;
        let determinant = one * xx - x * x;
        let beta = (one * xy - x * y) / determinant;
        if determinant > SPREAD * one * xx && beta > 0.0 {
            self.beta = beta;
            self.alpha = (y - beta * x) / one;
            if self.alpha < 0.0 {
                (self.alpha, self.beta) = (0.0, xy / xx);
            }
        } else {
            // All of one size: both are scaled so that they meet at it.
            let ratio = y / (self.alpha * one + self.beta * x).max(f64::MIN_POSITIVE);
            if ratio.is_finite() && ratio > 0.0 {
                self.alpha *= ratio;
                self.beta *= ratio;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const COST: CostModel = CostModel {
        flops_per_token: 1e6,
        flops_per_pair: 1e3,
        bytes_fixed: 1e6,
        bytes_per_token: 1e4,
        bytes_per_pair: 4.0,
        bytes_per_sequence: 1e3,
        seconds_per_batch: 1e-3,
        flops_per_second: 1e10,
        padded: false,
    };

    fn optimizer() -> BatchSizeOptimizer {
        BatchSizeOptimizer::new(COST).unwrap()
    }

    proptest! {
        #[test]
        fn the_largest_fits_and_one_more_does_not(
            tokens in 0_u32..2000, bytes in 0.0_f64..1e10, seconds in 0.0_f64..10.0, most in 1_u64..100_000, sequences in 0_u64..5000,
            padded: bool,
        ) {
            let optimizer = BatchSizeOptimizer::new(CostModel { padded, ..COST }).unwrap();
            let limits = Limits { bytes, seconds, tokens: most, sequences };
            let largest = optimizer.largest(tokens, &limits);
            prop_assert!(largest == 0 || optimizer.fits(&Shape::uniform(largest, tokens), &limits));
            prop_assert!(!optimizer.fits(&Shape::uniform(largest + 1, tokens), &limits));
        }

        #[test]
        fn a_machine_of_any_speed_is_learnt(
            overhead in 1e-5_f64..1e-2, slower in 0.05_f64..20.0, sizes in proptest::collection::vec(1_u64..200, 150), noise in proptest::collection::vec(0.95_f64..1.05, 150),
        ) {
            let mut optimizer = optimizer();
            for (size, noise) in sizes.iter().zip(&noise) {
                let shape = Shape::uniform(*size, 100);
                optimizer.observe(&shape, (overhead + slower * COST.flops(&shape) / COST.flops_per_second) * noise, None);
            }
            for size in [20, 100, 190] {
                let shape = Shape::uniform(size, 100);
                let truth = overhead + slower * COST.flops(&shape) / COST.flops_per_second;
                let error = optimizer.seconds(&shape) / truth - 1.0;
                prop_assert!(error.abs() < 0.15, "{size}: {error}");
            }
        }

        #[test]
        fn no_measurement_breaks_it(
            observed in proptest::collection::vec((0_u64..1000, 0_u32..9000, proptest::num::f64::ANY, proptest::option::of(proptest::num::f64::ANY)), 0..60),
        ) {
            let mut optimizer = optimizer();
            for (sequences, tokens, seconds, bytes) in observed {
                optimizer.observe(&Shape::uniform(sequences, tokens), seconds, bytes);
                let (some, more) = (Shape::uniform(1, 10), Shape::uniform(64, 500));
                prop_assert!(optimizer.seconds(&some) >= 0.0 && optimizer.seconds(&more).is_finite());
                prop_assert!(optimizer.seconds(&some) <= optimizer.seconds(&more));
                prop_assert!((1.0 / 16.0..=16.0).contains(&(optimizer.bytes(&more) / COST.bytes(&more))));
            }
        }
    }

    #[test]
    fn one_size_alone_sets_the_scale() {
        let mut optimizer = optimizer();
        let shape = Shape::uniform(32, 100);
        for _ in 0..60 {
            optimizer.observe(&shape, 2.0 * COST.seconds(&shape), None);
        }
        for size in [1, 320] {
            let shape = Shape::uniform(size, 100);
            let ratio = optimizer.seconds(&shape) / COST.seconds(&shape);
            assert!((1.5..2.2).contains(&ratio), "{size}: {ratio}");
        }
    }

    #[test]
    fn one_stop_of_the_machine_moves_little() {
        let mut optimizer = optimizer();
        for size in (0..100).map(|i| 1 + i % 50) {
            let shape = Shape::uniform(size, 100);
            optimizer.observe(&shape, COST.seconds(&shape), None);
        }
        let shape = Shape::uniform(32, 100);
        optimizer.observe(&shape, 60.0, None);
        let ratio = optimizer.seconds(&shape) / COST.seconds(&shape);
        assert!((0.9..1.15).contains(&ratio), "{ratio}");
    }

    #[test]
    fn memory_is_believed_at_once_where_it_is_more() {
        let mut optimizer = optimizer();
        let shape = Shape::uniform(10, 100);
        optimizer.observe(&shape, f64::NAN, Some(3.0 * COST.bytes(&shape)));
        assert_eq!(optimizer.bytes(&shape), 3.0 * COST.bytes(&shape));
        optimizer.observe(&shape, f64::NAN, Some(COST.bytes(&shape)));
        assert!((2.97..3.0).contains(&(optimizer.bytes(&shape) / COST.bytes(&shape))));
        let limits = Limits { bytes: 2.0 * optimizer.bytes(&shape), ..Limits::default() };
        assert!((19..=20).contains(&optimizer.largest(100, &limits)));
    }

    #[test]
    fn the_share_of_the_fixed_seconds_says_how_much_is_enough() {
        let optimizer = optimizer();
        let charge = optimizer.charge_at_share(0.9);
        let seconds = optimizer.seconds_of_charge(charge);
        assert!((COST.seconds_per_batch / seconds - 0.1).abs() < 1e-9);
    }
}
