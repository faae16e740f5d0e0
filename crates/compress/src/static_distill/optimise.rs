//! Moving the rows of the table: Adam (Kingma, Ba 2015) on the rows that a group touches.
//!
//! The moments of a row stand still while no text has its token, and its bias correction counts its own steps, so that a rare token
//! moves as boldly in its few steps as a common one in its many.

use super::plan::dot;
use crate::share;
use embral_kernels::Pool;

const FIRST: f32 = 0.9;
const SECOND: f32 = 0.99;
const EPSILON: f32 = 1e-8;
/// Rows of the table given to one task.
const BLOCK: usize = 256;

/// Rows of a matrix, mutably.
pub(crate) fn each_row(matrix: &mut [f32], width: usize) -> std::slice::ChunksExactMut<'_, f32> {
    matrix.chunks_exact_mut(width)
}

/// The state of the optimiser.
pub(crate) struct Adam {
    first: Vec<f32>,
    second: Vec<f32>,
    steps: Vec<u32>,
    width: usize,
}

/// The mean of token rows of each text, at unit length, and what it takes to go back.
pub(crate) struct Pooled {
    /// `[n, width]`.
    pub(crate) units: Vec<f32>,
    /// The length of each mean.
    lengths: Vec<f32>,
}

impl Pooled {
    /// `u_i = m_i / |m_i|`, `m_i` being the mean of the rows of the ids of text `i`.
    pub(crate) fn of(pool: &Pool, table: &[f32], width: usize, texts: &[&[u32]]) -> Self {
        let (mut units, mut lengths) = (vec![0.0; texts.len() * width], vec![0.0; texts.len()]);
        let parts = units.chunks_mut(BLOCK * width).zip(lengths.chunks_mut(BLOCK)).zip(texts.chunks(BLOCK));
        share::each(pool, parts, |_, ((units, lengths), texts)| {
            for ((unit, length), ids) in each_row(units, width).zip(lengths).zip(texts) {
                for &id in *ids {
                    add(unit, &table[id as usize * width..][..width]);
                }
                let scale = 1.0 / ids.len().max(1) as f32;
                unit.iter_mut().for_each(|v| *v *= scale);
                *length = dot(unit, unit).sqrt().max(1e-9);
                let scale = 1.0 / *length;
                unit.iter_mut().for_each(|v| *v *= scale);
            }
        });
        Self { units, lengths }
    }

    /// Turns slopes by unit vectors into slopes by each token's row: `(g - (g·u) u) / (|m| ids)`.
    pub(crate) fn back(&self, slopes: &mut [f32], width: usize, texts: &[&[u32]]) {
        for (((slope, unit), length), ids) in
            each_row(slopes, width).zip(self.units.chunks(width)).zip(&self.lengths).zip(texts)
        {
            let along = dot(slope, unit);
            let scale = 1.0 / (length * ids.len() as f32);
            for (g, u) in slope.iter_mut().zip(unit) {
                *g = (*g - along * u) * scale;
            }
        }
    }
}

impl Adam {
    pub(crate) fn new(rows: usize, width: usize) -> Self {
        Self { first: vec![0.0; rows * width], second: vec![0.0; rows * width], steps: vec![0; rows], width }
    }

    /// One step with learning rate `rate`. `slopes` has a row a text: the slope by the row of each of its ids. A row's slopes are
    /// added in the order of the texts.
    pub(crate) fn step(&mut self, pool: &Pool, table: &mut [f32], texts: &[&[u32]], slopes: &[f32], rate: f32) {
        let width = self.width;
        let mut uses: Vec<(u32, u32)> = Vec::with_capacity(texts.iter().map(|t| t.len()).sum());
        for (text, ids) in texts.iter().enumerate() {
            uses.extend(ids.iter().map(|&id| (id, text as u32)));
        }
        uses.sort_unstable();
        let mut rest = &uses[..];
        let uses_of: Vec<&[(u32, u32)]> = (0..self.steps.len().div_ceil(BLOCK))
            .map(|block| {
                let (own, behind) = rest.split_at(rest.partition_point(|u| (u.0 as usize) < (block + 1) * BLOCK));
                rest = behind;
                own
            })
            .collect();
        let parts = table
            .chunks_mut(BLOCK * width)
            .zip(self.first.chunks_mut(BLOCK * width))
            .zip(self.second.chunks_mut(BLOCK * width))
            .zip(self.steps.chunks_mut(BLOCK))
            .zip(uses_of);
        share::each(pool, parts, |block, ((((table, first), second), steps), uses)| {
            let mut slope = vec![0.0; width];
            for uses in uses.chunk_by(|a, b| a.0 == b.0) {
                slope.fill(0.0);
                for &(_, text) in uses {
                    add(&mut slope, &slopes[text as usize * width..][..width]);
                }
                let row = uses[0].0 as usize - block * BLOCK;
                steps[row] += 1;
                let count = steps[row].min(10_000) as i32;
                let (by_first, by_second) = (1.0 / (1.0 - FIRST.powi(count)), 1.0 / (1.0 - SECOND.powi(count)));
                let own = row * width..(row + 1) * width;
                let values =
                    table[own.clone()].iter_mut().zip(&mut first[own.clone()]).zip(&mut second[own]).zip(&slope);
                for (((value, m), v), g) in values {
                    *m = FIRST * *m + (1.0 - FIRST) * g;
                    *v = SECOND * *v + (1.0 - SECOND) * g * g;
                    *value -= rate * (*m * by_first) / ((*v * by_second).sqrt() + EPSILON);
                }
            }
        });
    }
}

fn add(to: &mut [f32], what: &[f32]) {
    for (a, b) in to.iter_mut().zip(what) {
        *a += b;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pooled_vectors_have_unit_length_and_the_way_back_is_the_derivative() {
        let pool = Pool::shared(Some(1));
        let table = [3.0, 4.0, 0.0, 2.0, -1.0, 0.5];
        let texts: [&[u32]; 2] = [&[0, 1, 1], &[2]];
        let loss = |table: &[f32]| {
            // L = Σ w·u for fixed weights w.
            let units = Pooled::of(&pool, table, 2, &texts).units;
            units.iter().zip([0.3, -0.7, 0.2, 0.9]).map(|(u, w)| f64::from(u * w)).sum::<f64>()
        };
        let pooled = Pooled::of(&pool, &table, 2, &texts);
        assert!((dot(&pooled.units[..2], &pooled.units[..2]) - 1.0).abs() < 1e-6);
        let mut slopes = [0.3, -0.7, 0.2, 0.9];
        pooled.back(&mut slopes, 2, &texts);
        for (id, text, times) in [(0, 0, 1.0), (1, 0, 2.0), (2, 1, 1.0)] {
            for c in 0..2 {
                let moved = |by: f32| {
                    let mut table = table;
                    table[id * 2 + c] += by;
                    loss(&table)
                };
                let expected = (moved(1e-2) - moved(-1e-2)) / 2e-2;
                assert!((f64::from(slopes[text * 2 + c] * times) - expected).abs() < 2e-4, "row {id}, component {c}");
            }
        }
    }

    #[test]
    fn only_rows_in_use_move_and_threads_change_no_bit() {
        let rows = 1000;
        let texts: Vec<Vec<u32>> = (0..300).map(|t| (0..7).map(|k| (t * 31 + k * k * 17) % 900).collect()).collect();
        let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
        let run = |threads: usize| {
            let pool = Pool::shared(Some(threads));
            let mut table: Vec<f32> = (0..rows * 4).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect();
            let mut adam = Adam::new(rows, 4);
            for _ in 0..3 {
                let mut slopes = Pooled::of(&pool, &table, 4, &texts).units;
                slopes.iter_mut().for_each(|g| *g *= 0.1);
                adam.step(&pool, &mut table, &texts, &slopes, 0.01);
            }
            table
        };
        let (one, two) = (run(1), run(2));
        assert_eq!(one, two);
        let start = |i: usize| ((i * 37) % 101) as f32 / 50.0 - 1.0;
        assert!((0..rows).filter(|r| one[r * 4] != start(r * 4)).all(|r| r < 900));
        assert!(one[0] != start(0));
    }
}
