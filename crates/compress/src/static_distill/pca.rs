//! The directions that hold most of what vectors say.

use crate::share;
use embral_kernels::Pool;
use nalgebra::{DMatrix, SymmetricEigen};

/// Rows summed by one task; fixed, so that the sum does not depend on the number of threads.
const BLOCK: usize = 1024;

/// Orthonormal directions by falling energy.
pub(crate) struct Basis {
    /// `[dims, width]`.
    pub(crate) directions: Vec<f32>,
    pub(crate) width: usize,
    /// The part of the energy (mean squared length) that each direction holds.
    pub(crate) energy: Vec<f64>,
}

impl Basis {
    /// The first `dims` eigenvectors of the second moment `mean(x xᵀ)` of `rows` rows of `width` values.
    ///
    /// The mean is not subtracted: with it a cosine in the basis would no longer be the cosine of the vectors. `read` writes row `i`
    /// to its buffer. Signs are such that the largest component of a direction is positive.
    pub(crate) fn of(
        pool: &Pool,
        rows: usize,
        width: usize,
        dims: usize,
        read: impl Fn(usize, &mut [f32]) + Sync,
    ) -> Self {
        let moment = moment(pool, rows, width, read);
        let total: f64 = (0..width).map(|i| moment[(i, i)]).sum();
        let eigen = SymmetricEigen::new(moment);
        let mut order: Vec<usize> = (0..width).collect();
        order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
        order.truncate(dims);
        let mut directions = Vec::with_capacity(dims * width);
        for &k in &order {
            let direction = eigen.eigenvectors.column(k);
            let sign = direction[direction.icamax()].signum();
            directions.extend(direction.iter().map(|&v| (sign * v) as f32));
        }
        let energy = order.iter().map(|&k| eigen.eigenvalues[k].max(0.0) / total.max(f64::MIN_POSITIVE)).collect();
        Self { directions, width, energy }
    }

    pub(crate) fn dims(&self) -> usize {
        self.energy.len()
    }
}

fn moment(pool: &Pool, rows: usize, width: usize, read: impl Fn(usize, &mut [f32]) + Sync) -> DMatrix<f64> {
    let blocks: Vec<usize> = (0..rows).step_by(BLOCK).collect();
    let mut sum = DMatrix::<f64>::zeros(width, width);
    // A few blocks at a time: each gives a matrix.
    for blocks in blocks.chunks(4 * pool.threads()) {
        let parts = share::map(pool, blocks.iter().copied(), |first| {
            let count = BLOCK.min(rows - first);
            let mut block = DMatrix::<f32>::zeros(width, count);
            for (row, mut column) in (first..first + count).zip(block.column_iter_mut()) {
                read(row, column.as_mut_slice());
            }
            &block * block.transpose()
        });
        for part in parts {
            sum.zip_apply(&part, |total, value| *total += f64::from(value));
        }
    }
    sum / rows.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn basis(threads: usize, rows: &[[f32; 3]], dims: usize) -> Basis {
        Basis::of(&Pool::shared(Some(threads)), rows.len(), 3, dims, |i, out| out.copy_from_slice(&rows[i]))
    }

    #[test]
    fn directions_come_by_energy() {
        // Energy 9, 1 and 0 along the axes 1, 2 and 0.
        let found = basis(1, &[[0.0, 3.0, 0.0], [0.0, -3.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]], 2);
        assert_eq!(found.dims(), 2);
        for (found, expected) in found.directions.iter().zip([0.0, 1.0, 0.0, 0.0, 0.0, 1.0]) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
        assert!((found.energy[0] - 0.9).abs() < 1e-6 && (found.energy[1] - 0.1).abs() < 1e-6);
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let mut random = Random::new(1);
        let rows: Vec<[f32; 3]> =
            (0..5000).map(|_| std::array::from_fn(|k| (random.below(1000) * (k + 1)) as f32 / 1000.0 - 0.7)).collect();
        let (one, two) = (basis(1, &rows, 3), basis(2, &rows, 3));
        assert_eq!(one.directions, two.directions);
        for a in 0..3 {
            for b in 0..3 {
                let dot: f32 = (0..3).map(|k| one.directions[a * 3 + k] * one.directions[b * 3 + k]).sum();
                assert!((dot - f32::from(u8::from(a == b))).abs() < 1e-5);
            }
        }
    }
}
