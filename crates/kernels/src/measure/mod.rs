//! Measurements: how fast each variant of a kernel is on this machine, and what its instructions can do at most.
//!
//! Every function runs the op itself, at the level that is named, on numbers made up here, again and again until a budget of time
//! is spent, and gives the fastest call: what a busy machine does to the others is no property of the kernel. The operands of one
//! call are those of the next, so that weights come from the cache they fit in.

mod ops;
mod peak;

pub use ops::{Layer, Rows, activation, attention, bag, embed, head_norm, norm, pooling, product, rope, similarity};
pub use peak::peak;

use crate::op::attention::{self as op, AttentionShape};
use crate::op::gemm::{Level, Precision};
use crate::scratch::Buffer;
use crate::{Dots, Isa};
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

/// One way in which this machine makes products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    /// The numbers that are multiplied.
    pub precision: Precision,
    /// The vectors.
    pub isa: Isa,
    /// The instructions for these numbers; without them they are multiplied by others.
    pub dots: Option<Dots>,
}

impl Variant {
    /// Every way this machine has, best first.
    pub fn available(precision: Precision) -> Vec<Self> {
        let of = |&isa: &Isa| {
            let dots = precision.numbers().and_then(|numbers| isa.dots(numbers));
            let plain = Self { precision, isa, dots: None };
            dots.map(|_| Self { dots, ..plain }).into_iter().chain([plain])
        };
        Isa::available().iter().flat_map(of).collect()
    }

    /// The one that a product takes.
    pub fn chosen(precision: Precision) -> Self {
        let Level { isa, dots } = Level::active(precision);
        Self { precision, isa, dots }
    }

    /// The one that attention of this shape takes where bf16 is allowed: f32 on a machine without instructions for bf16.
    pub fn chosen_for_attention_in_bf16(shape: &AttentionShape) -> Self {
        let isa = Isa::active();
        match op::bf16_dots(isa, shape) {
            dots @ Some(_) => Self { precision: Precision::Bf16, isa, dots },
            None => Self { precision: Precision::F32, isa, dots: None },
        }
    }

    /// The level, and the instructions beyond it.
    pub fn name(self) -> String {
        self.dots.map_or_else(|| self.isa.name().to_owned(), |dots| format!("{} + {}", self.isa.name(), dots.name()))
    }

    fn level(self) -> Level {
        Level { isa: self.isa, dots: self.dots }
    }
}

/// The fastest of several calls.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timed {
    /// Its time.
    pub seconds: f64,
    /// What it did: additions and multiplications, or bytes read and written, as the function says.
    pub amount: f64,
}

impl Timed {
    /// What was done in a second.
    pub fn rate(&self) -> f64 {
        self.amount / self.seconds
    }
}

/// Calls until `budget` is spent, at least twice where one call does not spend it, and gives the least time that a call says it
/// took.
fn fastest(budget: Duration, amount: f64, mut call: impl FnMut() -> Duration) -> Timed {
    let begin = Instant::now();
    let mut least = call();
    while begin.elapsed() < budget {
        least = least.min(call());
    }
    // A clock may not move during a very short call.
    Timed { seconds: least.max(Duration::from_nanos(1)).as_secs_f64(), amount }
}

/// The time of one call.
fn timed(call: impl FnOnce()) -> Duration {
    let start = Instant::now();
    call();
    start.elapsed()
}

/// Numbers that start at a line of the cache, as activations do: one that straddles two costs a product several per cent.
struct Values {
    memory: Buffer,
    count: usize,
}

impl Deref for Values {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.memory.as_slice()[..self.count]
    }
}

impl DerefMut for Values {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.memory.as_mut_slice()[..self.count]
    }
}

/// Numbers in -0.5 ..= 0.5, none of them 0 or denormal, the same on every call.
fn numbers(count: usize) -> Values {
    let mut values = Values { memory: Buffer::zeroed(count), count };
    for (i, x) in (0_u32..).zip(values.iter_mut()) {
        *x = (i.wrapping_mul(2_654_435_769) >> 8) as f32 / (1 << 24) as f32 - 0.499_999;
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pool;
    use crate::op::{activation::Activation, attention::Mask, norm::NormKind, pooling::Pooling, rope::Rope};

    const SHORT: Duration = Duration::from_micros(200);

    #[test]
    fn what_is_chosen_is_available_and_names_are_unique() {
        for precision in Precision::ALL {
            let all = Variant::available(precision);
            assert_eq!(all.iter().filter(|&&v| v == Variant::chosen(precision)).count(), 1);
            let mut names: Vec<_> = all.iter().map(|v| v.name()).collect();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), all.len());
            assert!(all.iter().any(|v| v.isa == Isa::Scalar && v.dots.is_none()));
        }
    }

    #[test]
    fn numbers_are_normal() {
        assert!(numbers(100_000).iter().all(|x| x.is_normal() && x.abs() <= 0.5));
    }

    #[test]
    fn every_variant_of_every_op_runs_and_says_what_it_did() {
        let pool = Pool::shared(Some(2));
        let rows = Rows { count: 20, width: 24, length: 7 };
        let positive = |what: &str, t: Timed, amount: f64| {
            assert!(t.seconds > 0.0 && t.rate() > 0.0, "{what}: {t:?}");
            assert_eq!(t.amount, amount, "{what}");
        };
        let shape = AttentionShape { heads: 2, kv_heads: 1, dim: 8, scale: 0.3, mask: Mask::Causal };
        for precision in Precision::ALL {
            for variant in Variant::available(precision) {
                let name = variant.name();
                assert!(peak(&pool, variant, SHORT) > 0.0, "{name}");
                for gated in [false, true] {
                    let layer = Layer { inputs: 24, outputs: 40, gated, activation: Activation::Silu, adds: !gated };
                    let all = product(&pool, variant, &layer, &[1, 3], SHORT);
                    let columns = if gated { 80.0 } else { 40.0 };
                    positive(&name, all[0], 2.0 * 24.0 * columns);
                    positive(&name, all[1], 6.0 * 24.0 * columns);
                }
                if precision != Precision::Int8 {
                    // Sequences of 7, 7 and 6, of which a query sees 28, 28 and 21 keys; 4 operations a value of 2 heads of 8.
                    let t = attention(&pool, variant, &shape, (rows.count, rows.length), SHORT);
                    positive(&name, t, 77.0 * 4.0 * 16.0);
                }
            }
        }
        for &isa in Isa::available() {
            let (name, values) = (isa.name(), 4.0 * 20.0 * 24.0);
            positive(name, norm(&pool, isa, &rows, NormKind::Layer, SHORT), 2.0 * values);
            positive(name, activation(&pool, isa, &rows, Activation::GeluErf, SHORT), 2.0 * values);
            positive(name, embed(&pool, isa, &rows, 50, SHORT), 3.0 * values);
            positive(name, pooling(&pool, isa, &rows, Pooling::Mean, SHORT), values + 3.0 * 96.0);
            positive(name, bag(&pool, isa, &rows, 50, SHORT), values / 4.0 + 3.0 * 96.0);
            positive(name, similarity(&pool, isa, 20, 24, SHORT), 2.0 * 20.0 * 24.0);
            let qkv = 4.0 * 20.0 * 32.0;
            let turns = Rope { frequencies: &[1.0, 0.1, 0.01, 0.001], factor: 1.0, interleaved: false };
            positive(name, rope(&pool, isa, &shape, (20, 7), &turns, SHORT), 2.0 * qkv * 0.75);
            positive(name, head_norm(&pool, isa, &shape, 20, SHORT), 2.0 * qkv * 0.75);
        }
    }
}
