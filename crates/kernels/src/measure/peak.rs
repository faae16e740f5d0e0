//! What the instructions of a variant do at most: a tile of the micro-kernel with its operands in registers.

use super::{Variant, fastest, timed};
use crate::op::gemm::Precision;
use crate::simd::{Kernel, Simd};
use crate::tile::{Bf16, F32, Format, Int8, MAX_TILE};
use crate::{Isa, Pool};
use std::hint::black_box;
use std::marker::PhantomData;
use std::time::Duration;

/// Steps of one call: about 0.3 ms of a tile of 28 vectors, beside which fork and join are nothing.
const ROUNDS: usize = 40_000;
/// A normal number in every format: 2.4e-38, a pair of 2.4e-38, or small integers whose sums of all rounds fit 32 bits.
const WORD: u32 = 0x0101_0101;
/// As `WORD`, of f32 and bf16: 1.0, a pair of 1.0 in bf16. Their sums stay finite.
const ONE: u32 = 0x3f80_3f80;

/// Additions and multiplications a second, of all threads of the pool together, that the instructions of `variant` reach in a loop
/// that touches no memory: as many independent sums as the tile of the micro-kernel has, at most 28, so that no instruction waits
/// for another. Where a variant has no instruction of its own for its numbers, operands come from the first cache, since a
/// compiler would take what is common to several products out of the loop.
pub fn peak(pool: &Pool, variant: Variant, budget: Duration) -> f64 {
    let _busy = pool.busy();
    let one = || match variant.precision {
        Precision::F32 => run::<F32>(variant),
        Precision::Bf16 => run::<Bf16>(variant),
        Precision::Int8 => run::<Int8>(variant),
    };
    let threads = pool.threads();
    let ops = one() * threads as f64;
    let fastest = fastest(budget, ops, || {
        timed(|| {
            pool.run(threads, &|_| {
                black_box(one());
            });
        })
    });
    fastest.rate()
}

fn run<F: Format>(variant: Variant) -> f64 {
    let single = variant.dots.is_some() || variant.precision == Precision::F32 && variant.isa != Isa::Scalar;
    let word = if variant.precision == Precision::Int8 { WORD } else { ONE };
    let operands = Operands { left: [f32::from_bits(word); LEFT], right: [f32::from_bits(word); 32] };
    variant.isa.run_with(variant.dots, Chains { operands: &operands, single, format: PhantomData::<F> })
}

/// Words of all rows of a tile, two a row at most.
const LEFT: usize = 2 * MAX_TILE;

/// What is multiplied: a word or two a row, and two vectors of columns.
struct Operands {
    left: [f32; LEFT],
    right: [f32; 32],
}

struct Chains<'a, F> {
    operands: &'a Operands,
    /// Whether all rows have one left operand, which then stays in a register.
    single: bool,
    format: PhantomData<F>,
}

impl<F: Format> Kernel for Chains<'_, F> {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f64 {
        macro_rules! cases {
            ($($n:literal)*) => {
                match F::tile::<S>() {
                    $($n => if self.single {
                        chains::<S, F, $n, true>(s, self.operands);
                    } else {
                        chains::<S, F, $n, false>(s, self.operands);
                    },)*
                    rows => unreachable!("a tile of {rows} rows has a case"),
                }
            };
        }
        // A level with a tile of another size adds it here; the test of all variants says so.
        cases!(4 6 8 10 12 14);
        (ROUNDS * F::tile::<S>() * 2 * S::LANES * F::VALUES * 2) as f64
    }
}

#[inline(always)]
fn chains<S: Simd, F: Format, const ROWS: usize, const SINGLE: bool>(s: S, operands: &Operands) {
    let spread = F::spread::<S>();
    assert!(ROWS * spread <= LEFT && 2 * S::LANES <= operands.right.len(), "a tile has its operands");
    let mut sums = [[F::zero(s); 2]; ROWS];
    for _ in 0..ROUNDS {
        // Nothing is known of the operands from one round to the next, so that no product is made once for all.
        let Operands { left, right } = black_box(operands);
        // SAFETY: the assertion; a shared operand is the first one.
        unsafe {
            let b = [F::right(s, right.as_ptr()), F::right(s, right.as_ptr().add(S::LANES))];
            for (r, sum) in sums.iter_mut().enumerate() {
                let a = F::left(s, left.as_ptr().add(if SINGLE { 0 } else { r * spread }));
                sum[0] = F::add_product(s, a, b[0], sum[0]);
                sum[1] = F::add_product(s, a, b[1], sum[1]);
            }
        }
    }
    let mut out = [0.0_f32; 16];
    for sum in sums.iter().flatten() {
        // SAFETY: a vector has at most 16 values.
        unsafe { F::store(s, out.as_mut_ptr(), *sum) }
        black_box(&mut out);
    }
}
