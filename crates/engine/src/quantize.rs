//! Vectors in fewer bits, by the formulas of sentence-transformers' `quantize_embeddings`.
//!
//! - `binary`: bit `i` is `x[i] > 0`, the first component in the highest bit of the first byte; the byte minus 128, as i8.
//! - `ubinary`: the same byte as u8.
//! - `uint8`: `clip(floor((x - min[i]) / step[i]), 0, 255)` with `step[i] = (max[i] - min[i]) / 255`, or 1 where
//!   the component never varies.
//! - `int8`: the uint8 value minus 128.
//!
//! The 8-bit forms need a range for each component. A range taken from a batch would make a vector depend on its company, so
//! ranges are an explicit input ([`Ranges`]).

use embral_types::{Embeddings, Error, ErrorKind, Result};
use std::{fmt, str::FromStr};

/// A form of fewer bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quantization {
    /// One signed byte a component.
    Int8,
    /// One byte a component.
    Uint8,
    /// One bit a component, in signed bytes.
    Binary,
    /// One bit a component.
    Ubinary,
}

impl Quantization {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Int8 => "int8",
            Self::Uint8 => "uint8",
            Self::Binary => "binary",
            Self::Ubinary => "ubinary",
        }
    }

    /// Whether the form needs [`Ranges`].
    pub fn needs_ranges(self) -> bool {
        matches!(self, Self::Int8 | Self::Uint8)
    }

    /// Bytes of a vector of `dim` components.
    pub fn width(self, dim: usize) -> usize {
        match self {
            Self::Int8 | Self::Uint8 => dim,
            Self::Binary | Self::Ubinary => dim.div_ceil(8),
        }
    }
}

impl fmt::Display for Quantization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Quantization {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        [Self::Int8, Self::Uint8, Self::Binary, Self::Ubinary].into_iter().find(|q| q.name() == name).ok_or_else(|| {
            let message = format!("unknown form {name:?}: expected int8, uint8, binary or ubinary");
            Error::new(ErrorKind::InvalidInput, message)
        })
    }
}

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
        let mut min = vec![f32::INFINITY; calibration.dim()];
        let mut max = vec![f32::NEG_INFINITY; calibration.dim()];
        for row in calibration {
            for (i, &x) in row.iter().enumerate() {
                min[i] = min[i].min(x);
                max[i] = max[i].max(x);
            }
        }
        Ok(Self { min, max })
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

    /// The smallest value of each component.
    pub fn min(&self) -> &[f32] {
        &self.min
    }

    /// The largest value of each component.
    pub fn max(&self) -> &[f32] {
        &self.max
    }
}

/// Quantised vectors, `[n, width]` row-major.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Quantized {
    /// Of [`Quantization::Int8`] and [`Quantization::Binary`].
    I8 {
        /// `[n, width]`.
        data: Vec<i8>,
        /// Bytes a vector.
        width: usize,
    },
    /// Of [`Quantization::Uint8`] and [`Quantization::Ubinary`].
    U8 {
        /// `[n, width]`.
        data: Vec<u8>,
        /// Bytes a vector.
        width: usize,
    },
}

/// Quantises every vector.
///
/// # Errors
/// Where an 8-bit form comes without ranges, or the ranges have another width than the vectors.
pub fn quantize(rows: &Embeddings, form: Quantization, ranges: Option<&Ranges>) -> Result<Quantized> {
    let width = form.width(rows.dim());
    let bytes = if form.needs_ranges() {
        let ranges = ranges.ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput, format!("{form} needs a range for each component"))
                .hint("calibrate them on some hundred vectors of the same model and keep them")
        })?;
        if ranges.min.len() != rows.dim() {
            let message = format!("expected ranges for {} components, found {}", rows.dim(), ranges.min.len());
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        eight_bits(rows, ranges)
    } else {
        one_bit(rows, width)
    };
    let signed = |bytes: Vec<u8>| bytes.into_iter().map(|b| (b ^ 0x80) as i8).collect();
    Ok(match form {
        Quantization::Int8 | Quantization::Binary => Quantized::I8 { data: signed(bytes), width },
        Quantization::Uint8 | Quantization::Ubinary => Quantized::U8 { data: bytes, width },
    })
}

fn eight_bits(rows: &Embeddings, ranges: &Ranges) -> Vec<u8> {
    let step = |(a, b): (&f32, &f32)| if a == b { 1.0 } else { (b - a) / 255.0 };
    let step: Vec<f32> = ranges.min.iter().zip(&ranges.max).map(step).collect();
    let one = |(i, &x): (usize, &f32)| ((x - ranges.min[i]) / step[i]).floor().clamp(0.0, 255.0) as u8;
    rows.rows().flat_map(|row| row.iter().enumerate().map(one)).collect()
}

fn one_bit(rows: &Embeddings, width: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(rows.len() * width);
    for row in rows {
        out.extend(
            row.chunks(8)
                .map(|eight| eight.iter().enumerate().fold(0u8, |byte, (i, &x)| byte | (u8::from(x > 0.0) << (7 - i)))),
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_packed_from_the_highest_down_and_shifted() {
        let e = Embeddings::new(vec![1.0, -1.0, 0.0, 2.0, -1.0, -1.0, -1.0, 0.5, 3.0, -3.0], 10);
        let Quantized::U8 { data, width } = quantize(&e, Quantization::Ubinary, None).unwrap() else { panic!() };
        assert_eq!((data, width), (vec![0b1001_0001, 0b1000_0000], 2));
        let Quantized::I8 { data, .. } = quantize(&e, Quantization::Binary, None).unwrap() else { panic!() };
        assert_eq!(data, [0b1001_0001_i16 as u8 as i16 - 128, 0].map(|v| v as i8));
    }

    #[test]
    fn eight_bits_are_those_of_sentence_transformers() {
        // `quantize_embeddings` of sentence-transformers 6.2.0; the top of a range is 254 where its step rounds up.
        let ranges = Ranges::new(vec![-1.0, 0.0], vec![1.0, 0.0]).unwrap();
        let e = Embeddings::new(vec![-1.0, 0.0, 0.0, 5.0, 1.0, -5.0, 9.0, 0.0], 2);
        let Quantized::U8 { data, .. } = quantize(&e, Quantization::Uint8, Some(&ranges)).unwrap() else { panic!() };
        assert_eq!(data, [0, 0, 127, 5, 254, 0, 255, 0]);
        let Quantized::I8 { data, .. } = quantize(&e, Quantization::Int8, Some(&ranges)).unwrap() else { panic!() };
        assert_eq!(data, [-128, -128, -1, -123, 126, -128, 127, -128]);
        assert!(quantize(&e, Quantization::Int8, None).unwrap_err().to_string().contains("range"));
    }

    #[test]
    fn ranges_span_the_calibration_set() {
        let ranges = Ranges::of(&Embeddings::new(vec![1.0, -2.0, 3.0, 4.0], 2)).unwrap();
        assert_eq!((ranges.min(), ranges.max()), (&[1.0, -2.0][..], &[3.0, 4.0][..]));
        assert!(Ranges::of(&Embeddings::default()).is_err());
        assert!(Ranges::new(vec![1.0], vec![0.0]).is_err());
    }
}
