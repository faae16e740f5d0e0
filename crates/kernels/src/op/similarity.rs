//! Dot products of every row of one matrix with every row of another.

use crate::parts::{GRAIN, Parts};
use crate::simd::{Kernel, Simd};
use crate::{Isa, Pool};
use std::ops::Range;

/// Rows of `a` and of `b` that are multiplied together: 16 sums, each used for 2 loads in 16.
const SIDE: usize = 4;

/// `out[i][j] = Σ a[i][c] b[j][c]` for `a` `[na, dim]`, `b` `[nb, dim]`, `out` `[na, nb]`.
///
/// # Panics
/// Where a buffer is no whole number of rows, `out` has another size, or `dim` is 0.
pub fn dot_matrix(pool: &Pool, a: &[f32], b: &[f32], dim: usize, out: &mut [f32]) {
    dot_matrix_with(Isa::active(), pool, a, b, dim, out);
}

pub(crate) fn dot_matrix_with(isa: Isa, pool: &Pool, a: &[f32], b: &[f32], dim: usize, out: &mut [f32]) {
    assert!(dim > 0 && a.len().is_multiple_of(dim) && b.len().is_multiple_of(dim), "whole rows of {dim}");
    let (na, nb) = (a.len() / dim, b.len() / dim);
    assert_eq!(out.len(), na * nb, "out is [{na}, {nb}]");
    if out.is_empty() {
        return;
    }
    // A task takes a few rows of `a` through a run of `b` that fits the second cache.
    let rows_a = na.min(4 * SIDE);
    let rows_b = (8 * GRAIN / dim).next_multiple_of(SIDE).min(nb);
    let blocks_b = nb.div_ceil(rows_b);
    let parts = Parts::new(out);
    pool.run(na.div_ceil(rows_a) * blocks_b, &|task| {
        let (block_a, block_b) = (task / blocks_b, task % blocks_b);
        let i = block_a * rows_a..na.min((block_a + 1) * rows_a);
        let j = block_b * rows_b..nb.min((block_b + 1) * rows_b);
        isa.run(Block { a, b, dim, nb, i, j, out: &parts });
    });
}

struct Block<'a> {
    a: &'a [f32],
    b: &'a [f32],
    dim: usize,
    nb: usize,
    i: Range<usize>,
    j: Range<usize>,
    out: &'a Parts<'a>,
}

impl Kernel for Block<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { a, b, dim, nb, i, j, out } = self;
        for first_j in j.clone().step_by(SIDE) {
            for first_i in i.clone().step_by(SIDE) {
                // Behind the last row the last one is taken again, and its products are not stored.
                let mut rows_a = [&a[..0]; SIDE];
                let mut rows_b = [&b[..0]; SIDE];
                for r in 0..SIDE {
                    rows_a[r] = &a[(first_i + r).min(i.end - 1) * dim..][..dim];
                    rows_b[r] = &b[(first_j + r).min(j.end - 1) * dim..][..dim];
                }
                let mut sums = [[s.zero(); SIDE]; SIDE];
                for c in (0..dim).step_by(S::LANES) {
                    let end = dim.min(c + S::LANES);
                    let mut vb = [s.zero(); SIDE];
                    for (v, row) in vb.iter_mut().zip(rows_b) {
                        *v = s.read(&row[c..end]);
                    }
                    for (row, sums) in rows_a.into_iter().zip(&mut sums) {
                        let va = s.read(&row[c..end]);
                        for (v, sum) in vb.into_iter().zip(sums) {
                            *sum = s.fma(va, v, *sum);
                        }
                    }
                }
                let columns = SIDE.min(j.end - first_j);
                for (r, sums) in sums.into_iter().enumerate().take(i.end - first_i) {
                    // SAFETY: these rows of these columns are this task's alone.
                    let to = unsafe { out.get((first_i + r) * nb + first_j, columns) };
                    for (to, sum) in to.iter_mut().zip(sums) {
                        *to = s.sum(sum);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::{Misaligned, bits, each_isa, pools, sizes};
    use embral_testkit::oracle;

    /// As in `gemm`: the rounding errors of a chain of `dim` random products, eight times their mean square.
    fn bound(dim: usize) -> f64 {
        4e-7 + dim as f64 * 6.6e-8
    }

    #[test]
    fn products_are_those_of_f64() {
        each_isa("dot matrix", |isa| {
            for dim in sizes(isa).skip(1).chain([384]) {
                for (na, nb) in [(1, 1), (1, 9), (3, 4), (5, 6), (17, 2)] {
                    let a = Misaligned::of(&oracle::numbers(1, na * dim));
                    let b = Misaligned::of(&oracle::numbers(2, nb * dim));
                    let mut out = vec![f32::NAN; na * nb];
                    dot_matrix_with(isa, &Pool::shared(Some(1)), &a, &b, dim, &mut out);
                    let error = oracle::largest_difference(&out, &oracle::product(&a, &b, dim));
                    assert!(error <= bound(dim), "{} [{na}, {nb}] of {dim}: {error:e}", isa.name());
                }
            }
        });
    }

    #[test]
    fn a_product_is_the_same_alone_and_in_company() {
        let dim = 100;
        let (a, b) = (oracle::numbers(1, 37 * dim), oracle::numbers(2, 1500 * dim));
        each_isa("dot matrix rows", |isa| {
            for pool in pools() {
                let mut all = vec![0.0; 37 * 1500];
                dot_matrix_with(isa, &pool, &a, &b, dim, &mut all);
                for (i, j) in [(0, 0), (36, 1499), (17, 655), (3, 656)] {
                    let mut alone = [0.0];
                    let (a, b) = (&a[i * dim..(i + 1) * dim], &b[j * dim..(j + 1) * dim]);
                    dot_matrix_with(isa, &pool, a, b, dim, &mut alone);
                    assert_eq!(bits(&alone), bits(&all[i * 1500 + j..=i * 1500 + j]));
                }
            }
        });
    }
}
