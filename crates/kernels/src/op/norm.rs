//! Layer and RMS normalisation of rows.

use crate::math::sum_of;
use crate::parts::split_rows;
use crate::simd::{Kernel, Simd};
use crate::{Isa, Pool};

/// What a row is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NormKind {
    /// `(x - mean) / √(var + ε) · γ + β`, the variance being that of the whole row.
    Layer,
    /// `x / √(mean(x²) + ε) · γ + β`.
    Rms,
}

/// A normalisation with its weights; its width is that of `gamma`.
#[derive(Clone, Copy, Debug)]
pub struct Norm<'a> {
    /// What the row is divided by.
    pub kind: NormKind,
    /// γ, `[width]`.
    pub gamma: &'a [f32],
    /// β, `[width]`.
    pub beta: Option<&'a [f32]>,
    /// ε, added to the variance.
    pub eps: f32,
}

impl Norm<'_> {
    pub(crate) fn check(&self) {
        assert!(!self.gamma.is_empty(), "a normalisation has a width");
        assert!(self.beta.is_none_or(|beta| beta.len() == self.gamma.len()), "gamma and beta have one width");
    }
}

/// Normalises the rows of `x` into `out`.
///
/// # Panics
/// Where the sizes differ or are no whole number of rows.
pub fn norm(pool: &Pool, x: &[f32], norm: &Norm<'_>, out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "the result has the shape of x");
    norm_with(Isa::active(), pool, Some(x), norm, out);
}

/// Normalises the rows of `x` where they are.
///
/// # Panics
/// Where `x` is no whole number of rows.
pub fn norm_in_place(pool: &Pool, x: &mut [f32], norm: &Norm<'_>) {
    norm_with(Isa::active(), pool, None, norm, x);
}

/// Adds the normalised rows of `x` to those of `sum`.
///
/// # Panics
/// Where the sizes differ or are no whole number of rows.
pub fn norm_add(pool: &Pool, x: &[f32], norm: &Norm<'_>, sum: &mut [f32]) {
    assert_eq!(x.len(), sum.len(), "the sum has the shape of x");
    norm_add_with(Isa::active(), pool, x, norm, sum);
}

pub(crate) fn norm_add_with(isa: Isa, pool: &Pool, x: &[f32], norm: &Norm<'_>, sum: &mut [f32]) {
    norm.check();
    let width = norm.gamma.len();
    assert!(sum.len().is_multiple_of(width), "{} values are no rows of {width}", sum.len());
    split_rows(pool, sum, width, 1, &|first, sum| {
        isa.run(Added { x: &x[first * width..first * width + sum.len()], norm, sum });
    });
}

pub(crate) fn norm_with(isa: Isa, pool: &Pool, x: Option<&[f32]>, norm: &Norm<'_>, out: &mut [f32]) {
    norm.check();
    let width = norm.gamma.len();
    assert!(out.len().is_multiple_of(width), "{} values are no rows of {width}", out.len());
    split_rows(pool, out, width, 1, &|first, out| {
        let x = x.map(|x| &x[first * width..first * width + out.len()]);
        isa.run(Rows { x, norm, out });
    });
}

struct Rows<'a> {
    x: Option<&'a [f32]>,
    norm: &'a Norm<'a>,
    out: &'a mut [f32],
}

impl Kernel for Rows<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let width = self.norm.gamma.len();
        for (row, out) in self.out.chunks_exact_mut(width).enumerate() {
            if let Some(x) = self.x {
                out.copy_from_slice(&x[row * width..(row + 1) * width]);
            }
            normalize(s, self.norm, out);
        }
    }
}

struct Added<'a> {
    x: &'a [f32],
    norm: &'a Norm<'a>,
    sum: &'a mut [f32],
}

impl Kernel for Added<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { x, norm, sum } = self;
        let width = norm.gamma.len();
        for (x, sum) in x.chunks_exact(width).zip(sum.chunks_exact_mut(width)) {
            let (mean, factor) = mean_and_factor(s, norm, x);
            for (i, to) in sum.chunks_mut(S::LANES).enumerate() {
                let columns = i * S::LANES..i * S::LANES + to.len();
                let v = s.mul(s.sub(s.read(&x[columns.clone()]), mean), factor);
                let old = match norm.beta {
                    Some(beta) => s.add(s.read(to), s.read(&beta[columns.clone()])),
                    None => s.read(to),
                };
                s.write(to, s.fma(v, s.read(&norm.gamma[columns]), old));
            }
        }
    }
}

/// What is taken from each value of a row, and what the difference is multiplied by; in two passes over the row: a variance from the
/// sum of squares loses what the mean takes.
#[inline(always)]
fn mean_and_factor<S: Simd>(s: S, norm: &Norm<'_>, row: &[f32]) -> (S::V, S::V) {
    let width = row.len() as f32;
    let (mean, variance) = match norm.kind {
        NormKind::Layer => {
            let mean = s.splat(sum_of!(s, S, row, |v| v) / width);
            let variance = sum_of!(s, S, row, |v| {
                let d = s.sub(v, mean);
                s.mul(d, d)
            });
            (mean, variance / width)
        }
        NormKind::Rms => (s.zero(), sum_of!(s, S, row, |v| s.mul(v, v)) / width),
    };
    (mean, s.splat(1.0 / (variance + norm.eps).sqrt()))
}

/// Normalises one row.
#[inline(always)]
pub(crate) fn normalize<S: Simd>(s: S, norm: &Norm<'_>, row: &mut [f32]) {
    let (mean, factor) = mean_and_factor(s, norm, row);
    match norm.beta {
        Some(beta) => {
            for ((part, gamma), beta) in
                row.chunks_mut(S::LANES).zip(norm.gamma.chunks(S::LANES)).zip(beta.chunks(S::LANES))
            {
                let v = s.mul(s.sub(s.read(part), mean), factor);
                s.write(part, s.fma(v, s.read(gamma), s.read(beta)));
            }
        }
        None => {
            for (part, gamma) in row.chunks_mut(S::LANES).zip(norm.gamma.chunks(S::LANES)) {
                let v = s.mul(s.sub(s.read(part), mean), factor);
                s.write(part, s.mul(v, s.read(gamma)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::{Misaligned, bits, each_isa, pools, sizes};
    use embral_testkit::oracle;

    /// Values of a normalised row are below 8 here; 4 units in their last place, for two sums of up to 1,024 terms and the root.
    const NORM_ERROR: f64 = 2e-6;

    fn check(isa: Isa, kind: NormKind, width: usize, shift: f32) {
        let rows = 3;
        let x: Vec<f32> = oracle::numbers(width as u64, rows * width).iter().map(|x| x + shift).collect();
        let (gamma, beta) = (oracle::numbers(1, width), oracle::numbers(2, width));
        for beta in [None, Some(&beta[..])] {
            let n = Norm { kind, gamma: &gamma, beta, eps: 1e-6 };
            let mut out = Misaligned::of(&vec![0.0; rows * width]);
            norm_with(isa, &Pool::shared(Some(1)), Some(&Misaligned::of(&x)), &n, &mut out);
            let x: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
            let wanted = oracle::norm(&x, &gamma, beta, f64::from(n.eps), kind == NormKind::Rms);
            let error = oracle::largest_difference(&out, &wanted);
            // A mean that is large against the spread loses the bits that the mean takes.
            let bound = NORM_ERROR * f64::from(1.0 + 4.0 * shift);
            assert!(error <= bound, "{} {kind:?} of {width} + {shift}: {error:e}", isa.name());
            let start = oracle::numbers(5, rows * width);
            let mut sum = Misaligned::of(&start);
            let x: Vec<f32> = x.iter().map(|&x| x as f32).collect();
            norm_add_with(isa, &Pool::shared(Some(1)), &Misaligned::of(&x), &n, &mut sum);
            let wanted: Vec<f64> = wanted.iter().zip(&start).map(|(w, &s)| w + f64::from(s)).collect();
            let error = oracle::largest_difference(&sum, &wanted);
            assert!(error <= bound, "{} {kind:?} of {width} + {shift}, added: {error:e}", isa.name());
        }
    }

    #[test]
    fn rows_are_those_of_f64() {
        each_isa("norm", |isa| {
            for kind in [NormKind::Layer, NormKind::Rms] {
                for width in sizes(isa).skip(1).chain([127, 384, 768, 1024]) {
                    check(isa, kind, width, 0.0);
                }
                check(isa, kind, 384, 100.0);
            }
        });
    }

    #[test]
    fn a_row_is_the_same_alone_and_in_company_and_in_place() {
        let width = 70;
        let (x, gamma) = (oracle::numbers(3, 500 * width), oracle::numbers(4, width));
        let n = Norm { kind: NormKind::Layer, gamma: &gamma, beta: None, eps: 1e-12 };
        each_isa("norm rows", |isa| {
            let mut alone = vec![0.0; x.len()];
            for (x, out) in x.chunks(width).zip(alone.chunks_mut(width)) {
                norm_with(isa, &Pool::shared(Some(1)), Some(x), &n, out);
            }
            for pool in pools() {
                let mut all = x.clone();
                norm_with(isa, &pool, None, &n, &mut all);
                assert_eq!(bits(&all), bits(&alone));
            }
        });
    }

    #[test]
    fn nan_stays_in_its_row() {
        let width = 40;
        let mut x = oracle::numbers(3, 3 * width);
        (x[width], x[2 * width - 1]) = (f32::NAN, f32::INFINITY);
        let gamma = vec![1.0; width];
        let n = Norm { kind: NormKind::Layer, gamma: &gamma, beta: None, eps: 1e-12 };
        each_isa("norm NaN", |isa| {
            let mut out = x.clone();
            norm_with(isa, &Pool::shared(Some(1)), None, &n, &mut out);
            assert!(out[width..2 * width].iter().all(|x| x.is_nan()));
            assert!(out[..width].iter().chain(&out[2 * width..]).all(|x| x.is_finite()));
        });
    }
}
