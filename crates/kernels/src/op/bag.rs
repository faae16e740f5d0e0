//! Bags of table rows: the whole forward pass of a static model.

use super::pooling::to_unit;
use super::sequences;
use crate::parts::split_rows;
use crate::simd::{Kernel, Simd};
use crate::{Isa, Pool};

/// A table of rows in the numbers it is stored in.
#[derive(Clone, Copy, Debug)]
pub enum Table<'a> {
    /// 32-bit floats.
    F32(&'a [f32]),
    /// Half precision, as bits.
    F16(&'a [u16]),
    /// Integers, taken as they are; a scale belongs into the weights.
    I8(&'a [i8]),
}

impl Table<'_> {
    fn len(&self) -> usize {
        match self {
            Self::F32(t) => t.len(),
            Self::F16(t) => t.len(),
            Self::I8(t) => t.len(),
        }
    }
}

/// A table and how ids find their rows in it.
#[derive(Clone, Copy, Debug)]
pub struct Bag<'a> {
    /// The rows, `[_, width]`.
    pub table: Table<'a>,
    /// The width of a row.
    pub width: usize,
    /// What the row of an id is multiplied by, one value an id.
    pub weights: Option<&'a [f32]>,
    /// The row of an id, where that is not the id.
    pub mapping: Option<&'a [u32]>,
}

/// The mean of `weights[id] · table[mapping[id]]` over the ids of each sequence, `[sequences, width]`, with `l2` divided by its
/// length. An empty sequence gives zeros.
///
/// # Panics
/// Where an id has no weight or no row, or a buffer has another size.
pub fn bag(pool: &Pool, ids: &[u32], offsets: &[u32], bag: &Bag<'_>, l2: bool, out: &mut [f32]) {
    bag_with(Isa::active(), pool, ids, offsets, bag, l2, out);
}

pub(crate) fn bag_with(isa: Isa, pool: &Pool, ids: &[u32], offsets: &[u32], bag: &Bag<'_>, l2: bool, out: &mut [f32]) {
    let width = bag.width;
    assert!(width > 0 && bag.table.len().is_multiple_of(width), "the table has whole rows of {width}");
    let count = sequences(offsets, ids.len());
    assert_eq!(out.len(), count * width, "out is [{count}, {width}]");
    let cost = ids.len().div_ceil(count.max(1));
    split_rows(pool, out, width, cost, &|first, out| {
        isa.run(Sequences { ids, offsets: &offsets[first..], bag, l2, out });
    });
}

struct Sequences<'a> {
    ids: &'a [u32],
    offsets: &'a [u32],
    bag: &'a Bag<'a>,
    l2: bool,
    out: &'a mut [f32],
}

impl Kernel for Sequences<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { ids, offsets, bag, l2, out } = self;
        for (i, out) in out.chunks_exact_mut(bag.width).enumerate() {
            let (first, end) = (offsets[i] as usize, offsets[i + 1] as usize);
            if first == end {
                out.fill(0.0);
                continue;
            }
            match bag.table {
                Table::F32(table) => mean(s, (&ids[first..], end - first), bag, table, out),
                Table::F16(table) => mean(s, (&ids[first..], end - first), bag, table, out),
                Table::I8(table) => mean(s, (&ids[first..], end - first), bag, table, out),
            }
            if l2 {
                to_unit(s, out);
            }
        }
    }
}

/// A number that tables are stored in.
trait Stored: Copy {
    /// # Safety
    /// `LANES` values can be read at `p`.
    unsafe fn load<S: Simd>(s: S, p: *const Self) -> S::V;
    const ZERO: Self;
}

/// `Stored` through one method of `Simd`.
macro_rules! stored {
    ($($number:ty, $method:ident, $zero:expr;)*) => {$(
        impl Stored for $number {
            const ZERO: Self = $zero;
            #[inline(always)]
            unsafe fn load<S: Simd>(s: S, p: *const Self) -> S::V {
                // SAFETY: the caller's promise.
                unsafe { s.$method(p) }
            }
        }
    )*};
}
stored! { f32, load, 0.0; u16, load_f16, 0; i8, load_i8, 0; }

/// Rows are asked for this many ids ahead: they are anywhere in a table that is larger than the second cache.
const AHEAD: usize = 12;

/// The mean of the first `n` of `ids`, with as many sums in registers as the level has room for.
#[inline(always)]
fn mean<S: Simd, T: Stored>(s: S, ids: (&[u32], usize), bag: &Bag<'_>, table: &[T], out: &mut [f32]) {
    if S::LANES == 16 {
        mean_in_runs::<S, T, 16>(s, ids, bag, table, out);
    } else {
        mean_in_runs::<S, T, 8>(s, ids, bag, table, out);
    }
}

#[inline(always)]
fn mean_in_runs<S: Simd, T: Stored, const RUN: usize>(
    s: S,
    (ids, n): (&[u32], usize),
    bag: &Bag<'_>,
    table: &[T],
    out: &mut [f32],
) {
    let width = bag.width;
    let count = s.splat(n as f32);
    let row_of = |id: u32| match bag.mapping {
        Some(mapping) => mapping[id as usize] as usize,
        None => id as usize,
    };
    for (run, out) in out.chunks_mut(RUN * S::LANES).enumerate() {
        let first = run * RUN * S::LANES;
        let mut sums = [s.zero(); RUN];
        for (i, &id) in ids[..n].iter().enumerate() {
            if let Some(&ahead) = ids.get(i + AHEAD) {
                let from = row_of(ahead).saturating_mul(width).saturating_add(first);
                let ahead = table.get(from..).unwrap_or_default();
                let lines = (out.len() * size_of::<T>()).div_ceil(64);
                for line in 0..lines {
                    s.prefetch(ahead.as_ptr().cast::<u8>().wrapping_add(64 * line));
                }
            }
            let row = row_of(id);
            let row = &table[row * width..(row + 1) * width][first..first + out.len()];
            let weight = s.splat(match bag.weights {
                Some(weights) => weights[id as usize],
                None => 1.0,
            });
            if row.len() == RUN * S::LANES {
                for (j, sum) in sums.iter_mut().enumerate() {
                    // SAFETY: the row has RUN vectors.
                    let v = unsafe { T::load(s, row.as_ptr().add(j * S::LANES)) };
                    *sum = s.fma(v, weight, *sum);
                }
            } else {
                for (part, sum) in row.chunks(S::LANES).zip(&mut sums) {
                    let mut lanes = [T::ZERO; 16];
                    lanes[..part.len()].copy_from_slice(part);
                    // SAFETY: 16 values are at least a vector.
                    let v = unsafe { T::load(s, lanes.as_ptr()) };
                    *sum = s.fma(v, weight, *sum);
                }
            }
        }
        for (part, sum) in out.chunks_mut(S::LANES).zip(sums) {
            s.write(part, s.div(sum, count));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::f16_to_f32;
    use crate::sweep::{bits, each_isa, pools, sizes};
    use embral_testkit::oracle;

    /// Sums of up to 30 products below 1 (127 for integers), divided: relative to the largest number of the table.
    const BAG_ERROR: f64 = 3e-7;
    const ROWS: usize = 11;

    #[test]
    fn means_are_those_of_f64() {
        let ids: Vec<u32> = [4, 0, 0, 12, 3].into_iter().chain((0..30).map(|i| i * 5 % 13)).collect();
        let offsets = [0, 1, 1, 5, 35];
        let weights = oracle::numbers(9, 13);
        let mapping: Vec<u32> = (0..13).map(|i| i * 7 % ROWS as u32).collect();
        each_isa("bag", |isa| {
            for width in sizes(isa).skip(1).chain([8 * isa.lanes(), 9 * isa.lanes() + 3, 256]) {
                let floats = oracle::numbers(width as u64, ROWS * width);
                // Exponents from 2^-14 to 2^0 and every mantissa; subnormals too.
                let halves: Vec<u16> = floats.iter().map(|x| (x.to_bits() >> 7) as u16 & 0xbbff).collect();
                let bytes: Vec<i8> = floats.iter().map(|x| (x * 128.0) as i8).collect();
                let tables: [(Table<'_>, Vec<f64>, f64); 3] = [
                    (Table::F32(&floats), floats.iter().map(|&x| f64::from(x)).collect(), 1.0),
                    (Table::F16(&halves), halves.iter().map(|&x| f64::from(f16_to_f32(x))).collect(), 1.0),
                    (Table::I8(&bytes), bytes.iter().map(|&x| f64::from(x)).collect(), 128.0),
                ];
                for (table, values, largest) in tables {
                    let b = Bag { table, width, weights: Some(&weights), mapping: Some(&mapping) };
                    let mut wanted = vec![0.0; 4 * width];
                    for (ends, out) in offsets.windows(2).zip(wanted.chunks_mut(width)) {
                        let ids = &ids[ends[0] as usize..ends[1] as usize];
                        for &id in ids {
                            let row = mapping[id as usize] as usize;
                            for (c, out) in out.iter_mut().enumerate() {
                                *out += f64::from(weights[id as usize]) * values[row * width + c] / ids.len() as f64;
                            }
                        }
                    }
                    for (l2, wanted, largest) in [(false, &wanted, largest), (true, &oracle::unit(&wanted, width), 1.0)]
                    {
                        let [one, two, three] = pools().map(|pool| {
                            let mut out = vec![f32::NAN; 4 * width];
                            bag_with(isa, &pool, &ids, &offsets, &b, l2, &mut out);
                            let error = oracle::largest_difference(&out, wanted) / largest;
                            assert!(error <= BAG_ERROR, "{} width {width} l2 {l2}: {error:e}", isa.name());
                            bits(&out)
                        });
                        assert!(one == two && two == three);
                    }
                }
            }
        });
    }

    #[test]
    fn without_weights_and_mapping_an_id_is_its_row() {
        let table = [1.0, 2.0, 3.0, 4.0];
        let b = Bag { table: Table::F32(&table), width: 2, weights: None, mapping: None };
        let mut out = [0.0; 2];
        bag(&Pool::shared(Some(1)), &[0, 1, 1, 0], &[0, 4], &b, false, &mut out);
        assert_eq!(out, [2.0, 3.0]);
    }

    #[test]
    fn every_half_is_its_number() {
        let bits: Vec<u16> = (0..=u16::MAX).collect();
        each_isa("f16", |isa| {
            let ids: Vec<u32> = (0..=u32::from(u16::MAX)).collect();
            let offsets: Vec<u32> = (0..=1 << 16).collect();
            let b = Bag { table: Table::F16(&bits), width: 1, weights: None, mapping: None };
            let mut out = vec![0.0; 1 << 16];
            bag_with(isa, &Pool::shared(Some(1)), &ids, &offsets, &b, false, &mut out);
            for (&half, &x) in bits.iter().zip(&out) {
                let (exponent, fraction) = (i32::from(half >> 10 & 31), f64::from(half & 0x3ff));
                let magnitude = match exponent {
                    0 => fraction * 2f64.powi(-24),
                    31 if fraction == 0.0 => f64::INFINITY,
                    31 => f64::NAN,
                    _ => (1024.0 + fraction) * 2f64.powi(exponent - 25),
                };
                let wanted = if half >> 15 == 1 { -magnitude } else { magnitude };
                assert!(f64::from(x) == wanted || (x.is_nan() && wanted.is_nan()), "{half:#x}: {x}, not {wanted}");
            }
        });
    }
}
