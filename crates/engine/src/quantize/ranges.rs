//! The range of each component, which 8-bit vectors are fractions of.

use super::Quantization;
use embral_types::{Embeddings, Error, ErrorKind, Result};

/// The smallest and largest value of each component over a calibration set.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranges {
    min: Vec<f32>,
    max: Vec<f32>,
}

impl Ranges {
    /// The ranges of a calibration set; some hundred vectors at the least.
    ///
    /// # Errors
    /// Where there is no vector.
    pub fn of(calibration: &Embeddings) -> Result<Self> {
        if calibration.is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput, "ranges need at least one calibration vector"));
        }
        let dim = calibration.dim();
        let mut ranges = Self { min: vec![f32::INFINITY; dim], max: vec![f32::NEG_INFINITY; dim] };
        for row in calibration {
            ranges.take(row, row);
        }
        Ok(ranges)
    }

    /// Takes the smallest and the largest value of each component.
    ///
    /// # Errors
    /// Where the lengths differ, a value is not finite, or a smallest value is above its largest.
    pub fn new(min: Vec<f32>, max: Vec<f32>) -> Result<Self> {
        let fine =
            min.len() == max.len() && min.iter().zip(&max).all(|(a, b)| a.is_finite() && b.is_finite() && a <= b);
        if fine {
            Ok(Self { min, max })
        } else {
            Err(Error::new(
                ErrorKind::Malformed,
                format!("expected finite ranges with min <= max, found {} and {} values", min.len(), max.len()),
            ))
        }
    }

    /// The ranges over both calibration sets.
    ///
    /// # Panics
    /// Where the widths differ.
    pub fn merge(&mut self, other: &Self) {
        assert_eq!(self.min.len(), other.min.len(), "ranges of one width are merged");
        self.take(&other.min, &other.max);
    }

    fn take(&mut self, min: &[f32], max: &[f32]) {
        self.min.iter_mut().zip(min).for_each(|(a, b)| *a = a.min(*b));
        self.max.iter_mut().zip(max).for_each(|(a, b)| *a = a.max(*b));
    }

    /// The number of components.
    pub fn dim(&self) -> usize {
        self.min.len()
    }

    /// The smallest value of each component.
    pub fn min(&self) -> &[f32] {
        &self.min
    }

    /// The largest value of each component.
    pub fn max(&self) -> &[f32] {
        &self.max
    }

    /// The width of a step of each component: `(max - min) / 255`, or 1 where the component never varies.
    pub(super) fn steps(&self) -> Vec<f32> {
        let step = |(a, b): (&f32, &f32)| match (b - a) / 255.0 {
            0.0 => 1.0,
            step => step,
        };
        self.min.iter().zip(&self.max).map(step).collect()
    }
}

/// The ranges where `form` has vectors of `dim` components.
pub(super) fn fitting(form: Quantization, dim: usize, ranges: Option<&Ranges>) -> Result<&Ranges> {
    let ranges = ranges.ok_or_else(|| {
        Error::new(ErrorKind::InvalidInput, format!("{form} needs a range for each component"))
            .hint("calibrate them on some hundred vectors of the same model and keep them")
    })?;
    if ranges.dim() != dim {
        let message = format!("expected ranges for {dim} components, found {}", ranges.dim());
        return Err(Error::new(ErrorKind::InvalidInput, message));
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_span_the_calibration_set() {
        let mut ranges = Ranges::of(&Embeddings::new(vec![1.0, -2.0, 3.0, 4.0], 2)).unwrap();
        assert_eq!((ranges.min(), ranges.max()), (&[1.0, -2.0][..], &[3.0, 4.0][..]));
        ranges.merge(&Ranges::new(vec![0.0, 0.0], vec![2.0, 9.0]).unwrap());
        assert_eq!((ranges.min(), ranges.max()), (&[0.0, -2.0][..], &[3.0, 9.0][..]));
        assert!(Ranges::of(&Embeddings::default()).is_err());
        assert!(Ranges::new(vec![1.0], vec![0.0]).is_err());
        assert!(Ranges::new(vec![f32::NAN], vec![0.0]).is_err());
    }
}
