//! Memory: what a queue does as the limit comes near, and where the limit is.

mod limits;

pub use limits::{MemoryReader, MemoryReport, MemoryUse};

/// What a queue does by the fraction of memory in use, `p`:
///
/// ```text
/// budget' = budget                                                   p ≤ shrink_above
///         = budget · (1 − (1 − least) · (p − shrink) / (stop − shrink))      in between
///         = budget · least                                           p ≥ stop_above
/// ```
///
/// and no request is accepted from `p > stop_above` on until `p < resume_below`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MemoryPolicy {
    /// Above it, batches are smaller.
    pub shrink_above: f64,
    /// Above it, nothing is accepted.
    pub stop_above: f64,
    /// Below it, requests are accepted again.
    pub resume_below: f64,
    /// What is left of the budget at `stop_above`, as a fraction.
    pub least: f64,
}

impl Default for MemoryPolicy {
    fn default() -> Self {
        Self { shrink_above: 0.8, stop_above: 0.9, resume_below: 0.85, least: 0.25 }
    }
}

impl MemoryPolicy {
    /// Whether the numbers are in their order.
    pub(crate) fn is_valid(&self) -> bool {
        let Self { shrink_above, stop_above, resume_below, least } = *self;
        shrink_above >= 0.0
            && shrink_above < stop_above
            && stop_above.is_finite()
            && resume_below > 0.0
            && resume_below <= stop_above
            && (0.0..=1.0).contains(&least)
    }

    /// What is left of the budget, as a fraction.
    pub fn factor(&self, pressure: f64) -> f64 {
        let over = (pressure - self.shrink_above) / (self.stop_above - self.shrink_above);
        // Of a pressure that is no number, nothing is known.
        if over.is_nan() { 1.0 } else { 1.0 - (1.0 - self.least) * over.clamp(0.0, 1.0) }
    }

    /// Whether requests are accepted, by whether they were.
    pub fn admits(&self, pressure: f64, admitted: bool) -> bool {
        pressure.is_nan() || if admitted { pressure <= self.stop_above } else { pressure < self.resume_below }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_shrink_from_80_percent_on_and_admission_stops_above_90() {
        let policy = MemoryPolicy::default();
        for (pressure, factor) in [(0.0, 1.0), (0.8, 1.0), (0.85, 0.625), (0.9, 0.25), (2.0, 0.25), (f64::NAN, 1.0)] {
            assert!((policy.factor(pressure) - factor).abs() < 1e-12, "{pressure}");
        }
        for (pressure, admitted, admits) in
            [(0.9, true, true), (0.91, true, false), (0.87, false, false), (0.84, false, true), (f64::NAN, false, true)]
        {
            assert_eq!(policy.admits(pressure, admitted), admits, "{pressure}");
        }
    }

    #[test]
    fn numbers_out_of_order_are_invalid() {
        assert!(MemoryPolicy::default().is_valid());
        for bad in [
            MemoryPolicy { shrink_above: 0.9, ..MemoryPolicy::default() },
            MemoryPolicy { resume_below: 0.95, ..MemoryPolicy::default() },
            MemoryPolicy { least: 1.5, ..MemoryPolicy::default() },
            MemoryPolicy { stop_above: f64::NAN, ..MemoryPolicy::default() },
        ] {
            assert!(!bad.is_valid(), "{bad:?}");
        }
    }
}
