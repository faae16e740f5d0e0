//! The CPU backend passes the op suite.

use embral_backend::{Backend, suite};
use embral_cpu::Cpu;

/// Sums of at most 40 products of numbers below 1, in f32.
const LARGEST: f64 = 4e-6;

#[test]
fn every_op_is_that_of_f64() {
    for threads in [1, 2] {
        let cpu = Cpu::new(Some(threads));
        println!("{}", cpu.describe());
        suite::run(&cpu, LARGEST);
    }
}
