//! Throughput by the size of a batch, as measured.

/// Sizes are steps of half an octave: step `i` is `2^(i/2)` tokens.
pub(crate) const STEPS: usize = 64;

/// The size of a step in tokens.
pub(crate) fn size(step: usize) -> f64 {
    (step as f64 / 2.0).exp2()
}

/// The step next to a size.
pub(crate) fn step(tokens: f64) -> usize {
    // A size below one token is one.
    ((2.0 * tokens.max(1.0).log2()).round() as usize).min(STEPS - 1)
}

/// What batches of about one size gave.
#[derive(Clone, Copy, Debug, Default)]
struct Point {
    /// Batches that count, at most [`MEMORY`].
    count: f64,
    mean: f64,
    /// The variance of a single batch.
    variance: f64,
}

/// Tokens a second at each size: the mean of about the last [`MEMORY`] batches of the size, and how sure it is.
#[derive(Clone, Debug)]
pub(crate) struct ThroughputCurve {
    points: [Point; STEPS],
}

/// Batches of a size that are remembered, about.
const MEMORY: f64 = 32.0;

/// Throughput at a size, and the standard error of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    pub(crate) rate: f64,
    pub(crate) error: f64,
    pub(crate) count: f64,
}

impl ThroughputCurve {
    pub(crate) fn new() -> Self {
        Self { points: [Point::default(); STEPS] }
    }

    /// Takes in a batch of `tokens` that gave `rate` tokens a second.
    pub(crate) fn observe(&mut self, tokens: f64, rate: f64) {
        let point = &mut self.points[step(tokens)];
        point.count = (point.count + 1.0).min(MEMORY);
        let off = rate - point.mean;
        let part = 1.0 / point.count;
        point.mean += part * off;
        point.variance = (1.0 - part) * (point.variance + part * off * off);
    }

    /// The throughput at a step, from two batches on.
    pub(crate) fn at(&self, step: usize) -> Option<Measured> {
        let point = self.points.get(step).filter(|point| point.count >= 2.0)?;
        let error = (point.variance / (point.count - 1.0)).sqrt();
        Some(Measured { rate: point.mean, error, count: point.count })
    }

    /// Forgets what was measured at a step, so that it is measured anew.
    pub(crate) fn forget(&mut self, step: usize) {
        if let Some(point) = self.points.get_mut(step) {
            *point = Point::default();
        }
    }

    /// The points measured: tokens of a batch, tokens a second, batches that count.
    pub(crate) fn points(&self) -> Vec<(f64, f64, f64)> {
        (0..STEPS).filter_map(|step| self.at(step).map(|m| (size(step), m.rate, m.count))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_steps_agree() {
        assert!((0..STEPS).all(|i| step(size(i)) == i));
        assert_eq!((step(0.0), step(f64::INFINITY), step(1024.0)), (0, STEPS - 1, 20));
    }

    #[test]
    fn the_mean_follows_and_the_error_shrinks() {
        let mut curve = ThroughputCurve::new();
        assert!(curve.at(20).is_none());
        for i in 0..200 {
            curve.observe(1024.0, if i % 2 == 0 { 900.0 } else { 1100.0 });
        }
        let measured = curve.at(20).unwrap();
        assert!((measured.rate - 1000.0).abs() < 10.0 && (10.0..30.0).contains(&measured.error), "{measured:?}");
        for _ in 0..200 {
            curve.observe(1000.0, 500.0);
        }
        assert!((curve.at(20).unwrap().rate - 500.0).abs() < 5.0);
        assert_eq!(curve.points().len(), 1);
        curve.forget(20);
        assert!(curve.points().is_empty());
    }
}
