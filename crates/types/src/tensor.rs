//! Tensors as they lie in a file.

use std::{borrow::Cow, fmt, ops::Range};

/// The number format a tensor is stored in; little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the names are the formats")]
pub enum Dtype {
    F64,
    F32,
    F16,
    Bf16,
    I64,
    I32,
    I8,
    U8,
}

impl Dtype {
    /// Bytes a value takes.
    pub fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::I8 | Self::U8 => 1,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A dense row-major tensor: borrowed from a mapped file, or owned where it had to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor<'a> {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Cow<'a, [u8]>,
}

impl<'a> Tensor<'a> {
    /// Takes bytes of `shape`.
    ///
    /// # Panics
    /// Where `bytes` is not exactly as long as `shape` and `dtype` say.
    pub fn new(dtype: Dtype, shape: Vec<usize>, bytes: impl Into<Cow<'a, [u8]>>) -> Self {
        let bytes = bytes.into();
        let expected = shape.iter().try_fold(dtype.size(), |n, &d| n.checked_mul(d));
        assert_eq!(expected, Some(bytes.len()), "bytes of a {dtype} tensor of shape {shape:?}");
        Self { dtype, shape, bytes }
    }

    /// A tensor of f32 values, copied.
    ///
    /// # Panics
    /// As [`Tensor::new`].
    pub fn from_f32(shape: Vec<usize>, values: &[f32]) -> Tensor<'static> {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Tensor::new(Dtype::F32, shape, bytes)
    }

    /// These entries of the outermost axis, as `[rows.len(), ...]`.
    ///
    /// # Panics
    /// Where the tensor is a scalar, or has no such entries.
    pub fn slice(self, rows: Range<usize>) -> Self {
        let (count, rest) = self.shape.split_first().expect("a tensor of one axis or more");
        assert!(rows.start <= rows.end && rows.end <= *count, "{rows:?} of {count} entries");
        let size = rest.iter().product::<usize>() * self.dtype.size();
        let bytes = rows.start * size..rows.end * size;
        let shape = [&[rows.len()], rest].concat();
        let bytes = match self.bytes {
            Cow::Borrowed(all) => Cow::Borrowed(&all[bytes]),
            Cow::Owned(all) => Cow::Owned(all[bytes].to_vec()),
        };
        Self { dtype: self.dtype, shape, bytes }
    }

    /// The same values, the two outermost axes as one: `[a * b, ...]` of `[a, b, ...]`.
    ///
    /// # Panics
    /// Where the tensor has fewer than two axes.
    pub fn flatten_outer(mut self) -> Self {
        let inner = self.shape.remove(1);
        self.shape[0] *= inner;
        self
    }

    /// The stored format.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The length of each axis, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The stored bytes, little-endian, not necessarily aligned.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The values as f32: exact for F32, F16, Bf16, I8 and U8; rounded for F64, I64 and I32.
    pub fn to_f32(&self) -> Vec<f32> {
        fn each<const N: usize>(bytes: &[u8], f: impl Fn([u8; N]) -> f32) -> Vec<f32> {
            bytes.as_chunks::<N>().0.iter().map(|&b| f(b)).collect()
        }
        let b = self.bytes.as_ref();
        match self.dtype {
            Dtype::F64 => each(b, |v| f64::from_le_bytes(v) as f32),
            Dtype::F32 => each(b, f32::from_le_bytes),
            Dtype::F16 => each(b, |v| half::f16::from_le_bytes(v).to_f32()),
            Dtype::Bf16 => each(b, |v| half::bf16::from_le_bytes(v).to_f32()),
            Dtype::I64 => each(b, |v| i64::from_le_bytes(v) as f32),
            Dtype::I32 => each(b, |v| i32::from_le_bytes(v) as f32),
            Dtype::I8 => each(b, |v: [u8; 1]| f32::from(v[0] as i8)),
            Dtype::U8 => each(b, |v: [u8; 1]| f32::from(v[0])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_format_converts_exactly() {
        let t = |d, n, b: &[u8]| Tensor::new(d, vec![n], b.to_vec()).to_f32();
        assert_eq!(t(Dtype::F32, 1, &1.5f32.to_le_bytes()), [1.5]);
        assert_eq!(t(Dtype::F16, 2, &[0x00, 0x3c, 0x00, 0xc0]), [1.0, -2.0]);
        assert_eq!(t(Dtype::Bf16, 1, &[0x80, 0x3f]), [1.0]);
        assert_eq!(t(Dtype::I8, 2, &[0xff, 0x7f]), [-1.0, 127.0]);
        assert_eq!(t(Dtype::I64, 1, &(-3i64).to_le_bytes()), [-3.0]);
        assert_eq!(Tensor::from_f32(vec![1, 2], &[3., 4.]).to_f32(), [3., 4.]);
    }

    #[test]
    fn a_slice_has_whole_rows() {
        let bytes: Vec<u8> = (0..12).collect();
        let borrowed = Tensor::new(Dtype::U8, vec![3, 4], &bytes[..]).slice(1..3);
        assert_eq!((borrowed.shape(), borrowed.bytes()), (&[2, 4][..], &bytes[4..]));
        assert_eq!(borrowed, Tensor::new(Dtype::U8, vec![3, 4], bytes.clone()).slice(1..3));
        assert_eq!(Tensor::from_f32(vec![3], &[1., 2., 3.]).slice(0..1).to_f32(), [1.]);
    }

    #[test]
    fn the_outer_axes_become_one() {
        let tensor = Tensor::new(Dtype::U8, vec![2, 3, 4], (0..24).collect::<Vec<u8>>());
        let flat = tensor.clone().flatten_outer();
        assert_eq!((flat.shape(), flat.bytes()), (&[6, 4][..], tensor.bytes()));
        assert_eq!(flat.slice(3..6).bytes(), tensor.slice(1..2).bytes());
    }

    #[test]
    #[should_panic(expected = "bytes of a F32 tensor")]
    fn a_wrong_length_is_refused() {
        let _ = Tensor::new(Dtype::F32, vec![2], vec![0; 7]);
    }
}
