//! Vectors in fewer bits.
//!
//! - `f16`: the nearest IEEE half-precision number, ties to even, little-endian.
//! - `binary`: bit `i` is `x[i] > 0`, the first component in the highest bit of the first byte; the byte minus 128, as i8.
//! - `ubinary`: the same byte as u8.
//! - `uint8`: `clip(floor((x - min[i]) / step[i]), 0, 255)` with `step[i] = (max[i] - min[i]) / 255`, or 1 where
//!   the component never varies.
//! - `int8`: the uint8 value minus 128.
//!
//! All but `f16` are bit for bit those of sentence-transformers' `quantize_embeddings`. The 8-bit forms need a range for each
//! component. A range taken from a batch would make a vector depend on its company, so ranges are an explicit input
//! ([`Ranges`]), taken once from a sample of texts and kept ([`Calibration`]).
//!
//! ```
//! # fn main() -> embral::Result<()> {
//! use embral::{Embedder, quantize::{Candidates, Quantization, quantize}};
//! let embedder = Embedder::open_default()?;
//! let rows = embedder.embed_batch(&["a cat sat on the mat", "a kitten rests on a rug", "interest rates rose"])?;
//! let bits = quantize(&rows, Quantization::Ubinary, None)?;
//! assert_eq!(bits.width(), rows.dim() / 8);
//! let best = bits.top_k(&embedder.embed("a kitten")?, None, Candidates { k: 1, rescored: 2 })?;
//! assert_eq!(best[0].0, 1);
//! # Ok(())
//! # }
//! ```

mod calibration;
mod ranges;
mod search;

pub use calibration::Calibration;
pub use ranges::Ranges;
pub use search::Candidates;

use embral_types::{Embeddings, Error, ErrorKind, Result};
use half::f16;
use std::{fmt, str::FromStr};

/// A form of fewer bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quantization {
    /// Two bytes a component: half-precision floats.
    F16,
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
    /// Every form, most exact first.
    pub const ALL: [Self; 5] = [Self::F16, Self::Int8, Self::Uint8, Self::Binary, Self::Ubinary];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
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
            Self::F16 => 2 * dim,
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
        Self::ALL.into_iter().find(|q| q.name() == name).ok_or_else(|| {
            let message = format!("unknown form {name:?}: expected f16, int8, uint8, binary or ubinary");
            Error::new(ErrorKind::InvalidInput, message)
        })
    }
}

/// Vectors of one form in one buffer of bytes, `[len, width]` row-major.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quantized {
    form: Quantization,
    dim: usize,
    bytes: Vec<u8>,
}

impl Quantized {
    /// Takes vectors of `dim` components in `form` as [`quantize`] made them: signed bytes in two's complement, half-precision
    /// floats little-endian.
    ///
    /// # Errors
    /// Where there are bytes and they are no whole number of vectors.
    pub fn from_bytes(form: Quantization, dim: usize, bytes: Vec<u8>) -> Result<Self> {
        let width = form.width(dim);
        if bytes.is_empty() || (width > 0 && bytes.len().is_multiple_of(width)) {
            return Ok(Self { form, dim, bytes });
        }
        let message =
            format!("expected vectors of {width} bytes ({form}, {dim} components), found {} bytes", bytes.len());
        Err(Error::new(ErrorKind::Malformed, message))
    }

    /// The form.
    pub fn form(&self) -> Quantization {
        self.form
    }

    /// Components of a vector.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Bytes of a vector.
    pub fn width(&self) -> usize {
        self.form.width(self.dim)
    }

    /// The number of vectors.
    pub fn len(&self) -> usize {
        self.bytes.len().checked_div(self.width()).unwrap_or(0)
    }

    /// Whether there is no vector.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// All vectors, `[len, width]`: signed bytes in two's complement, half-precision floats little-endian.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Gives the buffer away.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// One vector.
    ///
    /// # Panics
    /// Where `index >= len()`.
    pub fn row(&self, index: usize) -> &[u8] {
        &self.bytes[index * self.width()..(index + 1) * self.width()]
    }

    /// The vectors in order.
    pub fn rows(&self) -> std::slice::ChunksExact<'_, u8> {
        self.bytes.chunks_exact(self.width().max(1))
    }

    /// Appends vectors of the same form and width.
    ///
    /// # Errors
    /// Where form or width differ.
    pub fn append(&mut self, other: &Self) -> Result<()> {
        if (self.form, self.dim) != (other.form, other.dim) {
            let message = format!(
                "expected {} vectors of {} components, found {} of {}",
                self.form, self.dim, other.form, other.dim
            );
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        self.bytes.extend_from_slice(&other.bytes);
        Ok(())
    }

    /// The floats that the vectors stand for: those of `f16` as they are; of 8 bits the middle of the step, and the largest value
    /// of the range behind the last; of a bit `±1/√dim`.
    ///
    /// # Errors
    /// Where an 8-bit form comes without ranges, or the ranges have another width than the vectors.
    pub fn dequantize(&self, ranges: Option<&Ranges>) -> Result<Embeddings> {
        let values = search::Values::of(self.form, self.dim, ranges)?;
        let mut out = vec![0.0; self.len() * self.dim];
        for (bytes, row) in self.rows().zip(out.chunks_exact_mut(self.dim.max(1))) {
            values.read(bytes, row);
        }
        Ok(Embeddings::new(out, self.dim))
    }
}

/// Quantises every vector.
///
/// # Errors
/// Where an 8-bit form comes without ranges, or the ranges have another width than the vectors.
pub fn quantize(rows: &Embeddings, form: Quantization, ranges: Option<&Ranges>) -> Result<Quantized> {
    let mut bytes = match form {
        Quantization::F16 => rows.as_slice().iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect(),
        Quantization::Int8 | Quantization::Uint8 => {
            let ranges = ranges::fitting(form, rows.dim(), ranges)?;
            let step = ranges.steps();
            let one = |(i, &x): (usize, &f32)| ((x - ranges.min()[i]) / step[i]).floor().clamp(0.0, 255.0) as u8;
            rows.rows().flat_map(|row| row.iter().enumerate().map(one)).collect()
        }
        Quantization::Binary | Quantization::Ubinary => {
            let bit = |(i, &x): (usize, &f32)| u8::from(x > 0.0) << (7 - i);
            let eight = |eight: &[f32]| eight.iter().enumerate().map(bit).sum();
            rows.rows().flat_map(|row| row.chunks(8).map(eight)).collect::<Vec<u8>>()
        }
    };
    if matches!(form, Quantization::Int8 | Quantization::Binary) {
        bytes.iter_mut().for_each(|b| *b ^= 0x80);
    }
    Quantized::from_bytes(form, rows.dim(), bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_packed_from_the_highest_down_and_shifted() {
        let e = Embeddings::new(vec![1.0, -1.0, 0.0, 2.0, -1.0, -1.0, -1.0, 0.5, 3.0, -3.0], 10);
        let unsigned = quantize(&e, Quantization::Ubinary, None).unwrap();
        assert_eq!((unsigned.bytes(), unsigned.width(), unsigned.len()), (&[0b1001_0001, 0b1000_0000][..], 2, 1));
        let signed = quantize(&e, Quantization::Binary, None).unwrap();
        assert_eq!(signed.row(0).iter().map(|&b| i16::from(b as i8)).collect::<Vec<_>>(), [145 - 128, 0]);
    }

    #[test]
    fn what_is_quantised_is_read_back_within_its_step() {
        let e = Embeddings::new(vec![0.1, -0.25, 0.7, 1.0, -1.0, 0.0], 3);
        let ranges = Ranges::of(&e).unwrap();
        let half = quantize(&e, Quantization::F16, None).unwrap().dequantize(None).unwrap();
        for (a, b) in e.as_slice().iter().zip(half.as_slice()) {
            assert!((a - b).abs() <= a.abs() / 2048.0);
        }
        for form in [Quantization::Int8, Quantization::Uint8] {
            let back = quantize(&e, form, Some(&ranges)).unwrap().dequantize(Some(&ranges)).unwrap();
            for (i, (a, b)) in e.as_slice().iter().zip(back.as_slice()).enumerate() {
                assert!((a - b).abs() <= ranges.steps()[i % 3] * 0.51, "{a} came back as {b}");
            }
        }
        let signs = quantize(&e, Quantization::Binary, None).unwrap().dequantize(None).unwrap();
        let one = 1.0 / 3f32.sqrt();
        assert_eq!(signs.as_slice(), [one, -one, one, one, -one, -one]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let e = Embeddings::new(vec![0.0; 6], 3);
        let message = |r: Result<Quantized>| r.unwrap_err().to_string();
        assert!(message(quantize(&e, Quantization::Int8, None)).contains("range"));
        let two = Ranges::new(vec![0.0; 2], vec![1.0; 2]).unwrap();
        assert!(message(quantize(&e, Quantization::Uint8, Some(&two))).contains("3 components, found 2"));
        assert!(message(Quantized::from_bytes(Quantization::F16, 3, vec![0; 7])).contains("6 bytes"));
        let mut bits = quantize(&e, Quantization::Binary, None).unwrap();
        assert!(bits.append(&quantize(&e, Quantization::Ubinary, None).unwrap()).is_err());
        bits.append(&bits.clone()).unwrap();
        assert_eq!(bits.len(), 4);
        assert_eq!(quantize(&Embeddings::default(), Quantization::Binary, None).unwrap().len(), 0);
        for form in Quantization::ALL {
            assert_eq!(form.name().parse::<Quantization>().unwrap(), form);
        }
        assert!("int4".parse::<Quantization>().unwrap_err().to_string().contains("ubinary"));
    }
}
