//! A mixture of experts: the rows of an expert are put together, so that it is one product over all of them.

use crate::{Buffer, Cpu};
use embral_backend::Experts;
use embral_kernels::op::gemm::Residual;
use embral_types::Activation;

/// As [`embral_backend::Backend::experts`].
pub(crate) fn experts(cpu: &Cpu, x: &Buffer, experts: &Experts<Cpu>, activation: Activation, y: &mut Buffer) {
    let (rows, width, count) = (x.rows, x.width, experts.up.len());
    let mut shares = cpu.arena.take(rows, count);
    cpu.product(x, &experts.router, Activation::Identity, Residual::None, &mut shares);
    shares.values_mut().chunks_exact_mut(count).for_each(|row| share(row, experts.chosen));
    for to in y.values_mut().chunks_exact_mut(width) {
        to.copy_from_slice(&experts.bias.data);
    }
    for (expert, (up, down)) in experts.up.iter().zip(&experts.down).enumerate() {
        let share_of = |row: usize| shares.values()[row * count + expert];
        let own = || (0..rows).filter(|&row| share_of(row) > 0.0);
        let mut input = cpu.arena.take(own().count(), width);
        if input.rows == 0 {
            continue;
        }
        for (to, row) in input.values_mut().chunks_exact_mut(width).zip(own()) {
            to.copy_from_slice(&x.values()[row * width..(row + 1) * width]);
        }
        let mut inner = cpu.arena.take(input.rows, experts.inner);
        cpu.product(&input, up, activation, Residual::None, &mut inner);
        let mut output = input;
        cpu.product(&inner, down, Activation::Identity, Residual::None, &mut output);
        for (from, row) in output.values().chunks_exact(width).zip(own()) {
            let share = share_of(row);
            for (to, value) in y.values_mut()[row * width..(row + 1) * width].iter_mut().zip(from) {
                *to += share * value;
            }
        }
    }
}

/// Makes the softmax of `row`, and 0 of all but its `chosen` largest.
fn share(row: &mut [f32], chosen: usize) {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    row.iter_mut().for_each(|x| *x = (*x - largest).exp());
    let sum: f32 = row.iter().sum();
    row.iter_mut().for_each(|x| *x /= sum);
    let positive = row.iter().filter(|share| **share > 0.0).count();
    for _ in chosen..positive {
        // Of equal ones the last, so that the first stays.
        let shares = row.iter().enumerate().filter(|(_, share)| **share > 0.0);
        let least = shares.rev().min_by(|a, b| a.1.total_cmp(b.1)).map(|(i, _)| i);
        if let Some(least) = least {
            row[least] = 0.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn the_most_probable_stay_and_of_equal_ones_the_first() {
        let mut row = [1.0, 3.0, 1.0, 3.0];
        share(&mut row, 3);
        assert!(row[0] > 0.0 && row[2] == 0.0 && row[1] == row[3] && row[1] > row[0]);
        share(&mut row, 3);
        let mut far = [-1e4, 0.0, 1.0];
        share(&mut far, 2);
        assert!(far[0] == 0.0 && far[1] > 0.0 && (far[1] + far[2] - 1.0).abs() < 1e-6);
    }
}
