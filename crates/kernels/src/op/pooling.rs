//! From token rows to one row a sequence, and unit length.

use super::sequences;
use crate::math::sum_of;
use crate::parts::split_rows;
use crate::simd::{Kernel, Simd};
use crate::{Isa, Pool};

/// How the rows of a sequence become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pooling {
    /// The mean of the rows.
    Mean,
    /// The first row.
    Cls,
    /// The largest value of each component.
    Max,
    /// The last row.
    Last,
}

/// The smallest length a vector is divided by, as in sentence-transformers; a row of zeros stays one.
const LEAST_LENGTH: f32 = 1e-12;

/// Pools the rows of each sequence of `x`, `[rows, width]`, into `out`, `[sequences, width]`, and with `l2` divides each by its
/// length. An empty sequence gives zeros.
///
/// # Panics
/// Where a buffer has another size or `width` is 0.
pub fn pool_rows(pool: &Pool, x: &[f32], offsets: &[u32], width: usize, how: Pooling, l2: bool, out: &mut [f32]) {
    pool_rows_with(Isa::active(), pool, x, offsets, width, how, l2, out);
}

#[allow(clippy::too_many_arguments, reason = "the arguments of `pool_rows` and the level")]
pub(crate) fn pool_rows_with(
    isa: Isa,
    pool: &Pool,
    x: &[f32],
    offsets: &[u32],
    width: usize,
    how: Pooling,
    l2: bool,
    out: &mut [f32],
) {
    assert!(width > 0 && x.len().is_multiple_of(width), "{} values are no rows of {width}", x.len());
    let rows = x.len() / width;
    let count = sequences(offsets, rows);
    assert_eq!(out.len(), count * width, "out is [{count}, {width}]");
    let cost = if matches!(how, Pooling::Mean | Pooling::Max) { rows.div_ceil(count.max(1)) } else { 1 };
    split_rows(pool, out, width, cost, &|first, out| {
        isa.run(Sequences { x, offsets: &offsets[first..], width, how, l2, out });
    });
}

/// Divides each row of `x`, `[_, width]`, by its length.
///
/// # Panics
/// Where `x` is no whole number of rows.
pub fn l2_normalize(pool: &Pool, x: &mut [f32], width: usize) {
    l2_normalize_with(Isa::active(), pool, x, width);
}

fn l2_normalize_with(isa: Isa, pool: &Pool, x: &mut [f32], width: usize) {
    assert!(width > 0 && x.len().is_multiple_of(width), "{} values are no rows of {width}", x.len());
    split_rows(pool, x, width, 1, &|_, x| isa.run(Unit { x, width }));
}

struct Unit<'a> {
    x: &'a mut [f32],
    width: usize,
}

impl Kernel for Unit<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for row in self.x.chunks_exact_mut(self.width) {
            to_unit(s, row);
        }
    }
}

/// Divides `row` by its length.
#[inline(always)]
pub(crate) fn to_unit<S: Simd>(s: S, row: &mut [f32]) {
    let length = sum_of!(s, S, row, |v| s.mul(v, v)).sqrt();
    let length = s.splat(if length < LEAST_LENGTH { LEAST_LENGTH } else { length });
    for part in row.chunks_mut(S::LANES) {
        let v = s.div(s.read(part), length);
        s.write(part, v);
    }
}

struct Sequences<'a> {
    x: &'a [f32],
    offsets: &'a [u32],
    width: usize,
    how: Pooling,
    l2: bool,
    out: &'a mut [f32],
}

impl Kernel for Sequences<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { x, offsets, width, how, l2, out } = self;
        for (i, out) in out.chunks_exact_mut(width).enumerate() {
            let rows = &x[offsets[i] as usize * width..offsets[i + 1] as usize * width];
            if rows.is_empty() {
                out.fill(0.0);
                continue;
            }
            match how {
                Pooling::Cls => out.copy_from_slice(&rows[..width]),
                Pooling::Last => out.copy_from_slice(&rows[rows.len() - width..]),
                Pooling::Mean => {
                    let count = s.splat((rows.len() / width) as f32);
                    for (j, part) in out.chunks_mut(S::LANES).enumerate() {
                        let mut sum = s.zero();
                        for row in rows.chunks_exact(width) {
                            sum = s.add(sum, s.read(&row[j * S::LANES..j * S::LANES + part.len()]));
                        }
                        s.write(part, s.div(sum, count));
                    }
                }
                Pooling::Max => {
                    for (j, part) in out.chunks_mut(S::LANES).enumerate() {
                        let mut largest = s.splat(f32::NEG_INFINITY);
                        for row in rows.chunks_exact(width) {
                            largest = s.max(largest, s.read(&row[j * S::LANES..j * S::LANES + part.len()]));
                        }
                        s.write(part, largest);
                    }
                }
            }
            if l2 {
                to_unit(s, out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::{Misaligned, bits, each_isa, pools, sizes};
    use embral_testkit::oracle;

    /// Sums of up to 40 numbers below 1, divided: 2 units in the last place of 1.
    const POOL_ERROR: f64 = 3e-7;
    const ALL: [Pooling; 4] = [Pooling::Mean, Pooling::Cls, Pooling::Max, Pooling::Last];

    fn wanted(x: &[f32], offsets: &[u32], width: usize, how: Pooling, l2: bool) -> Vec<f64> {
        let mut out = Vec::new();
        for ends in offsets.windows(2) {
            let rows: Vec<&[f32]> = x.chunks(width).take(ends[1] as usize).skip(ends[0] as usize).collect();
            for c in 0..width {
                let column = rows.iter().map(|row| f64::from(row[c]));
                out.push(match how {
                    _ if rows.is_empty() => 0.0,
                    Pooling::Mean => column.sum::<f64>() / rows.len() as f64,
                    Pooling::Cls => f64::from(rows[0][c]),
                    Pooling::Max => column.fold(f64::NEG_INFINITY, f64::max),
                    Pooling::Last => f64::from(rows[rows.len() - 1][c]),
                });
            }
        }
        if l2 { oracle::unit(&out, width) } else { out }
    }

    #[test]
    fn rows_are_those_of_f64_at_any_number_of_threads() {
        let offsets = [0, 1, 1, 4, 44];
        each_isa("pooling", |isa| {
            for width in sizes(isa).skip(1).chain([384]) {
                let x = Misaligned::of(&oracle::numbers(width as u64, 44 * width));
                for how in ALL {
                    for l2 in [false, true] {
                        let wanted = wanted(&x, &offsets, width, how, l2);
                        let [one, two, three] = pools().map(|pool| {
                            let mut out = Misaligned::of(&vec![f32::NAN; 4 * width]);
                            pool_rows_with(isa, &pool, &x, &offsets, width, how, l2, &mut out);
                            let error = oracle::largest_difference(&out, &wanted);
                            assert!(error <= POOL_ERROR, "{} {how:?} of {width}: {error:e}", isa.name());
                            bits(&out)
                        });
                        assert!(one == two && two == three);
                    }
                }
            }
        });
    }

    #[test]
    fn a_row_of_zeros_stays_one() {
        each_isa("l2", |isa| {
            let mut x = vec![0.0; 64];
            x[35] = -2.0;
            l2_normalize_with(isa, &Pool::shared(Some(1)), &mut x, 32);
            assert!(x.iter().enumerate().all(|(i, &x)| x == if i == 35 { -1.0 } else { 0.0 }));
        });
    }
}
