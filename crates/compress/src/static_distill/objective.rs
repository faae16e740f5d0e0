//! What a good table is: the pooled vectors of a group of texts point where the teacher's do, and are as near to each other.
//!
//! With unit vectors `u` of the table, `t` of the teacher (in the table's dimensions), and similarities `S = u uᵀ` and `T` (of the
//! teacher's whole vectors), the loss of a group of `n` texts is
//!
//! ```text
//! direction · mean_i(1 - u_i·t_i) + structure · Σ_cuts w mean_i KL(y_i || softmax_j≠i(S_ij / τ))
//! y_i = (1 - known) softmax_j≠i(T_ij / τ) + known · [j answers i]
//! ```
//!
//! where `known` is 0 in a group without pairs, and a cut takes the first components of `u`, at unit length again.

use super::{optimise::each_row, plan::dot};
use crate::share;
use embral_kernels::{
    Pool,
    op::gemm::{Epilogue, PackedMatrix, Precision, gemm},
};

/// Rows of a similarity matrix given to one task.
const BLOCK: usize = 32;

/// The weights of the loss.
#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    /// Of the direction term.
    pub direction: f32,
    /// Of the structure term.
    pub structure: f32,
    /// τ: small looks at the nearest only.
    pub temperature: f32,
    /// The part of the target that the known answer of a pair gets, 0 to 1; the teacher says the rest.
    pub known: f32,
    /// Components at the front that make a vector of their own, and their weights in the structure term.
    pub cuts: Vec<(usize, f32)>,
}

/// One group as the loss sees it.
pub(crate) struct View<'a> {
    /// `u`, `[n, width]`.
    pub(crate) units: &'a [f32],
    /// `t`, `[n, width]`, of unit length.
    pub(crate) targets: &'a [f32],
    /// The teacher's vectors, `[n, teacher_width]`.
    pub(crate) teacher: &'a [f32],
    pub(crate) width: usize,
    pub(crate) teacher_width: usize,
    pub(crate) paired: bool,
}

/// The loss of a group and its derivative with respect to `u`.
pub(crate) struct Slope {
    pub(crate) by_unit: Vec<f32>,
    /// Mean of `1 - u·t`.
    pub(crate) direction: f64,
    /// Mean divergence over the whole width.
    pub(crate) structure: f64,
}

impl Objective {
    pub(crate) fn slope(&self, pool: &Pool, view: &View<'_>) -> Slope {
        let n = view.units.len() / view.width;
        let mut by_unit = vec![0.0; view.units.len()];
        let mut direction = 0.0;
        let scale = -self.direction / n as f32;
        for (to, (u, t)) in
            each_row(&mut by_unit, view.width).zip(view.units.chunks(view.width).zip(view.targets.chunks(view.width)))
        {
            direction += f64::from(1.0 - dot(u, t));
            for (to, t) in to.iter_mut().zip(t) {
                *to = scale * t;
            }
        }
        let mut structure = 0.0;
        if self.structure > 0.0 {
            let wanted = self.wanted(pool, view, n);
            for (index, &(cut, weight)) in self.cuts.iter().enumerate() {
                let loss =
                    self.add_cut(pool, view, &wanted, cut.min(view.width), weight * self.structure, &mut by_unit);
                if index == 0 {
                    structure = loss;
                }
            }
        }
        Slope { by_unit, direction: direction / n as f64, structure }
    }

    /// `y`, `[n, n]`.
    fn wanted(&self, pool: &Pool, view: &View<'_>, n: usize) -> Vec<f32> {
        let mut wanted = similarities(pool, view.teacher, view.teacher_width);
        let known = if view.paired { self.known } else { 0.0 };
        share::each(pool, wanted.chunks_mut(BLOCK * n), |block, rows| {
            for (i, row) in (block * BLOCK..).zip(rows.chunks_mut(n)) {
                softmax(row, i, self.temperature);
                if known > 0.0 {
                    row.iter_mut().for_each(|y| *y *= 1.0 - known);
                    row[(i + n / 2) % n] += known;
                }
            }
        });
        wanted
    }

    /// Adds the slope of the structure term of the first `cut` components; returns the mean divergence.
    fn add_cut(
        &self,
        pool: &Pool,
        view: &View<'_>,
        wanted: &[f32],
        cut: usize,
        weight: f32,
        by_unit: &mut [f32],
    ) -> f64 {
        let n = view.units.len() / view.width;
        let mut lengths = vec![1.0; n];
        let mut units = Vec::with_capacity(n * cut);
        for (row, length) in view.units.chunks(view.width).zip(&mut lengths) {
            let row = &row[..cut];
            if cut < view.width {
                *length = dot(row, row).sqrt().max(1e-9);
            }
            units.extend(row.iter().map(|v| v / *length));
        }
        // G = dL/dS: row i of the softmax of S less the wanted one, by n τ.
        let mut slope = similarities(pool, &units, cut);
        let scale = weight / (n as f32 * self.temperature);
        let mut losses = vec![0.0f64; n];
        share::each(pool, slope.chunks_mut(BLOCK * n).zip(losses.chunks_mut(BLOCK)), |block, (rows, losses)| {
            for ((i, row), loss) in (block * BLOCK..).zip(rows.chunks_mut(n)).zip(losses) {
                softmax(row, i, self.temperature);
                for (q, &y) in row.iter_mut().zip(&wanted[i * n..][..n]) {
                    if y > 1e-9 {
                        *loss += f64::from(y * (y / q.max(1e-20)).ln());
                    }
                    *q = (*q - y) * scale;
                }
            }
        });
        // dL/du = (G + Gᵀ) u.
        let both = with_transpose(pool, &slope, n);
        let columns: Vec<f32> = (0..cut).flat_map(|c| units.iter().skip(c).step_by(cut).copied()).collect();
        let mut back = vec![0.0; n * cut];
        gemm(pool, &both, n, &PackedMatrix::pack(Precision::F32, cut, n, &columns), &Epilogue::default(), &mut back);
        let rows = each_row(by_unit, view.width).zip(back.chunks(cut)).zip(units.chunks(cut)).zip(&lengths);
        for (((to, back), unit), length) in rows {
            // Through the length of a cut: what points along the vector has no effect.
            let along = if cut < view.width { dot(back, unit) } else { 0.0 };
            for ((to, b), u) in to.iter_mut().zip(back).zip(unit) {
                *to += (b - along * u) / length;
            }
        }
        losses.iter().sum::<f64>() / n as f64
    }
}

/// `x xᵀ`, `[n, n]`.
fn similarities(pool: &Pool, x: &[f32], width: usize) -> Vec<f32> {
    let n = x.len() / width;
    let mut out = vec![0.0; n * n];
    gemm(pool, x, n, &PackedMatrix::pack(Precision::F32, n, width, x), &Epilogue::default(), &mut out);
    out
}

/// The softmax of `row / temperature` over all but `own`, which becomes 0. Values are at most about 1, so that `exp` cannot overflow.
fn softmax(row: &mut [f32], own: usize, temperature: f32) {
    for v in row.iter_mut() {
        *v = ((*v - 1.0) / temperature).exp();
    }
    row[own] = 0.0;
    let scale = 1.0 / row.iter().sum::<f32>().max(1e-30);
    row.iter_mut().for_each(|v| *v *= scale);
}

/// `g + gᵀ` of a square matrix, by tiles that fit the first cache.
fn with_transpose(pool: &Pool, g: &[f32], n: usize) -> Vec<f32> {
    let mut out = vec![0.0; n * n];
    share::each(pool, out.chunks_mut(BLOCK * n), |block, rows| {
        for first in (0..n).step_by(BLOCK) {
            let columns = first..(first + BLOCK).min(n);
            for (i, row) in (block * BLOCK..).zip(rows.chunks_mut(n)) {
                for j in columns.clone() {
                    row[j] = g[i * n + j] + g[j * n + i];
                }
            }
        }
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    const N: usize = 6;
    const WIDTH: usize = 4;

    fn unit_rows(random: &mut Random, width: usize) -> Vec<f32> {
        let mut rows: Vec<f32> = (0..N * width).map(|_| random.below(2000) as f32 / 1000.0 - 1.0).collect();
        for row in rows.chunks_mut(width) {
            let length = dot(row, row).sqrt();
            row.iter_mut().for_each(|v| *v /= length);
        }
        rows
    }

    /// The loss as the equation of the module says it, in f64.
    fn loss(o: &Objective, units: &[f64], targets: &[f32], teacher: &[f32], paired: bool) -> f64 {
        let row = |x: &[f64], i: usize, cut: usize, width: usize| -> Vec<f64> {
            let r = &x[i * width..][..cut];
            let length = if cut == width { 1.0 } else { r.iter().map(|v| v * v).sum::<f64>().sqrt() };
            r.iter().map(|v| v / length).collect()
        };
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
        let soft = |x: &[f64], i: usize, cut: usize, width: usize| -> Vec<f64> {
            let e: Vec<f64> = (0..N)
                .map(|j| {
                    if i == j {
                        0.0
                    } else {
                        (dot(&row(x, i, cut, width), &row(x, j, cut, width)) / f64::from(o.temperature)).exp()
                    }
                })
                .collect();
            let sum: f64 = e.iter().sum();
            e.iter().map(|v| v / sum).collect()
        };
        let (targets, teacher): (Vec<f64>, Vec<f64>) =
            (targets.iter().map(|&v| v.into()).collect(), teacher.iter().map(|&v| v.into()).collect());
        let known = if paired { f64::from(o.known) } else { 0.0 };
        let mut total = 0.0;
        for i in 0..N {
            total += f64::from(o.direction) * (1.0 - dot(&units[i * WIDTH..][..WIDTH], &targets[i * WIDTH..][..WIDTH]));
            let mut wanted = soft(&teacher, i, 5, 5);
            wanted.iter_mut().for_each(|y| *y *= 1.0 - known);
            wanted[(i + N / 2) % N] += known;
            for &(cut, weight) in &o.cuts {
                let found = soft(units, i, cut, WIDTH);
                let kl: f64 =
                    (0..N).filter(|&j| wanted[j] > 0.0).map(|j| wanted[j] * (wanted[j] / found[j]).ln()).sum();
                total += f64::from(o.structure * weight) * kl;
            }
        }
        total / N as f64
    }

    #[test]
    fn the_slope_is_that_of_the_equation() {
        let mut random = Random::new(3);
        let (units, targets, teacher) =
            (unit_rows(&mut random, WIDTH), unit_rows(&mut random, WIDTH), unit_rows(&mut random, 5));
        let o = Objective {
            direction: 0.7,
            structure: 1.3,
            temperature: 0.4,
            known: 0.3,
            cuts: vec![(WIDTH, 1.0), (2, 0.5)],
        };
        for paired in [false, true] {
            let view =
                View { units: &units, targets: &targets, teacher: &teacher, width: WIDTH, teacher_width: 5, paired };
            let slope = o.slope(&Pool::shared(Some(1)), &view);
            let base: Vec<f64> = units.iter().map(|&v| v.into()).collect();
            for (k, &found) in slope.by_unit.iter().enumerate() {
                let moved = |by: f64| {
                    let mut x = base.clone();
                    x[k] += by;
                    loss(&o, &x, &targets, &teacher, paired)
                };
                let expected = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                assert!((f64::from(found) - expected).abs() < 2e-5, "component {k}: {found} {expected}");
            }
        }
    }

    #[test]
    fn the_teacher_itself_has_no_loss() {
        let mut random = Random::new(4);
        let rows = unit_rows(&mut random, WIDTH);
        let o = Objective { direction: 1.0, structure: 1.0, temperature: 0.1, known: 0.0, cuts: vec![(WIDTH, 1.0)] };
        let view =
            View { units: &rows, targets: &rows, teacher: &rows, width: WIDTH, teacher_width: WIDTH, paired: false };
        let slope = o.slope(&Pool::shared(Some(1)), &view);
        assert!(
            slope.direction.abs() < 1e-6 && slope.structure.abs() < 1e-6,
            "{} {}",
            slope.direction,
            slope.structure
        );
    }
}
