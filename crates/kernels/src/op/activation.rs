//! The functions between two linear layers.

use crate::math;
use crate::parts::split_rows;
use crate::simd::{Kernel, Simd};
use crate::{Isa, Pool};

/// What is applied to each element. The two forms of GELU differ by up to 5e-4 and are never merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `x`.
    Identity,
    /// `x Φ(x)` with the exact normal distribution function; absolute error below 1e-7 max(1, |x|).
    GeluErf,
    /// `x/2 (1 + tanh(√(2/π) (x + 0.044715 x³)))`.
    GeluTanh,
    /// `x / (1 + e^-x)`.
    Silu,
    /// `max(x, 0)`.
    Relu,
    /// `tanh x`.
    Tanh,
}

/// Applies `activation` to each element of `x`.
pub fn activate(pool: &Pool, activation: Activation, x: &mut [f32]) {
    activate_with(Isa::active(), pool, activation, x);
}

fn activate_with(isa: Isa, pool: &Pool, activation: Activation, x: &mut [f32]) {
    if activation != Activation::Identity {
        split_rows(pool, x, 1, 2, &|_, x| isa.run(Activate { activation, x }));
    }
}

struct Activate<'a> {
    activation: Activation,
    x: &'a mut [f32],
}

impl Kernel for Activate<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        apply(s, self.activation, self.x);
    }
}

/// `activation` of each lane.
#[inline(always)]
pub(crate) fn of<S: Simd>(s: S, activation: Activation, x: S::V) -> S::V {
    match activation {
        Activation::Identity => x,
        Activation::GeluErf => math::gelu_erf(s, x),
        Activation::GeluTanh => math::gelu_tanh(s, x),
        Activation::Silu => math::silu(s, x),
        Activation::Relu => s.max(s.zero(), x),
        Activation::Tanh => math::tanh(s, x),
    }
}

#[inline(always)]
fn apply<S: Simd>(s: S, activation: Activation, x: &mut [f32]) {
    for part in x.chunks_mut(S::LANES) {
        let v = of(s, activation, s.read(part));
        s.write(part, v);
    }
}
