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

fn norm_with(isa: Isa, pool: &Pool, x: Option<&[f32]>, norm: &Norm<'_>, out: &mut [f32]) {
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

/// Normalises one row, in two passes over it: a variance from the sum of squares loses what the mean takes.
#[inline(always)]
pub(crate) fn normalize<S: Simd>(s: S, norm: &Norm<'_>, row: &mut [f32]) {
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
    let factor = s.splat(1.0 / (variance + norm.eps).sqrt());
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
