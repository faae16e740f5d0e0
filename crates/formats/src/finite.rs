//! Weights must be numbers.

use embral_types::{Dtype, Error, ErrorKind, Result, Tensor};

/// Refuses a tensor with a NaN or an infinity in it, naming the first.
///
/// Costs one pass over the stored bytes; 90 MB of f32 take about 10 ms. Integer tensors pass unread.
pub fn check_finite(name: &str, tensor: &Tensor<'_>) -> Result<()> {
    let bytes = tensor.bytes();
    // A float is NaN or infinite where every bit of its exponent is set.
    let found = match tensor.dtype() {
        Dtype::F32 => first(bytes, |v| u32::from_le_bytes(v) & 0x7f80_0000 == 0x7f80_0000),
        Dtype::F16 => first(bytes, |v| u16::from_le_bytes(v) & 0x7c00 == 0x7c00),
        Dtype::Bf16 => first(bytes, |v| u16::from_le_bytes(v) & 0x7f80 == 0x7f80),
        Dtype::F64 => first(bytes, |v| u64::from_le_bytes(v) & (0x7ff << 52) == 0x7ff << 52),
        _ => None,
    };
    let Some(index) = found else { return Ok(()) };
    let size = tensor.dtype().size();
    let value = Tensor::new(tensor.dtype(), vec![1], &bytes[index * size..][..size]).to_f32()[0];
    let place = coordinates(index, tensor.shape());
    Err(Error::new(ErrorKind::Malformed, format!("expected finite values, found {value} at {place:?}"))
        .in_tensor(name)
        .hint("the file is damaged, or the training that wrote it failed"))
}

/// The first value of `N` bytes for which `bad` holds. Whole blocks are tested without an early exit, so that the test is vectorised.
fn first<const N: usize>(bytes: &[u8], bad: impl Fn([u8; N]) -> bool) -> Option<usize> {
    const BLOCK: usize = 1024;
    let values = bytes.as_chunks::<N>().0;
    let block = values.chunks(BLOCK).position(|block| block.iter().fold(false, |any, &v| any | bad(v)))?;
    values[block * BLOCK..].iter().position(|&v| bad(v)).map(|i| block * BLOCK + i)
}

/// The place of value `index` in a row-major tensor.
fn coordinates(mut index: usize, shape: &[usize]) -> Vec<usize> {
    let mut place: Vec<usize> = shape
        .iter()
        .rev()
        .map(|&d| {
            let i = index % d;
            index /= d;
            i
        })
        .collect();
    place.reverse();
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_that_is_no_number_is_named() {
        let mut values = vec![0.5f32; 3000];
        values[7] = f32::MAX;
        check_finite("w", &Tensor::from_f32(vec![3, 1000], &values)).unwrap();
        values[2041] = f32::NEG_INFINITY;
        values[2900] = f32::NAN;
        let e = check_finite("w", &Tensor::from_f32(vec![3, 1000], &values)).unwrap_err();
        assert_eq!((e.kind(), e.tensor()), (ErrorKind::Malformed, Some("w")));
        assert!(e.message().contains("found -inf at [2, 41]"), "{e}");
    }

    #[test]
    fn every_stored_float_is_looked_at() {
        let of = |dtype, bytes: &[u8]| check_finite("w", &Tensor::new(dtype, vec![2], bytes.to_vec()));
        assert!(of(Dtype::F16, &[0, 0, 0, 0x7e]).is_err());
        assert!(of(Dtype::F16, &[0, 0, 0xff, 0x7b]).is_ok());
        assert!(of(Dtype::Bf16, &[0, 0, 0x80, 0x7f]).is_err());
        assert!(of(Dtype::Bf16, &[0, 0, 0x7f, 0x7f]).is_ok());
        let f64s = |v: f64| [0f64.to_le_bytes(), v.to_le_bytes()].concat();
        assert!(of(Dtype::F64, &f64s(f64::NAN)).is_err());
        assert!(of(Dtype::F64, &f64s(f64::MAX)).is_ok());
        assert!(of(Dtype::I8, &[0xff, 0xff]).is_ok());
    }
}
