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
        let x = self.x;
        match self.activation {
            Activation::Identity => {}
            Activation::GeluErf => apply::<S, GeluErf>(s, x),
            Activation::GeluTanh => apply::<S, GeluTanh>(s, x),
            Activation::Silu => apply::<S, Silu>(s, x),
            Activation::Relu => apply::<S, Relu>(s, x),
            Activation::Tanh => apply::<S, Tanh>(s, x),
        }
    }
}

/// An activation as a type, so that a loop is compiled for each.
pub(crate) trait Function {
    fn of<S: Simd>(s: S, x: S::V) -> S::V;
}

macro_rules! functions {
    ($($(#[$about:meta])* $name:ident: $function:expr;)*) => {
        $(
            $(#[$about])*
            pub(crate) struct $name;
            impl Function for $name {
                #[inline(always)]
                fn of<S: Simd>(s: S, x: S::V) -> S::V {
                    $function(s, x)
                }
            }
        )*
    };
}

functions! {
    Identity: |_, x| x;
    GeluErf: math::gelu_erf;
    /// [`GeluErf`] within 8e-5.
    GeluErfCoarse: math::gelu_erf_coarse;
    GeluTanh: math::gelu_tanh;
    Silu: math::silu;
    Relu: |s: S, x| s.max(s.zero(), x);
    Tanh: math::tanh;
}

#[inline(always)]
fn apply<S: Simd, F: Function>(s: S, x: &mut [f32]) {
    for part in x.chunks_mut(S::LANES) {
        let v = F::of(s, s.read(part));
        s.write(part, v);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::{Misaligned, bits, each_isa, sizes};
    use embral_testkit::oracle;

    /// Absolute error of the exact GELU, times max(1, |x|); measured 6.4e-8.
    const GELU_ERROR: f64 = 1e-7;
    /// Absolute error of the other functions, times max(1, |x|); measured 1.2e-7, from the exponential and a division.
    const NEAR_X: f64 = 2e-7;
    /// Relative error of exp, in units of 2^-23; the reduction keeps 1 and the polynomial less.
    const EXP_ULP: f64 = 2.0;
    /// The distance of two subnormal numbers.
    const SUBNORMAL: f64 = 1.5e-45;

    /// One of the exponentials, of each value.
    struct Exponential<'a> {
        base2: bool,
        x: &'a mut [f32],
    }

    impl Kernel for Exponential<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            for part in self.x.chunks_mut(S::LANES) {
                let v = s.read(part);
                let v = if self.base2 { math::exp2(s, v) } else { math::exp(s, v) };
                s.write(part, v);
            }
        }
    }

    /// A grid over [-from, from] that no table step divides, and numbers of every magnitude below it.
    fn inputs(from: f32) -> Vec<f32> {
        let grid = (0..20_011).map(|i| from * (i as f32 / 10_005.0 - 1.0));
        let magnitudes = (0..149).flat_map(|e| [-1.0, 1.0].map(|sign| sign * 0.7 * (-(e as f32)).exp2()));
        grid.chain(magnitudes).collect()
    }

    #[test]
    fn exponentials_are_within_two_ulp_and_saturate() {
        each_isa("exp", |isa| {
            for base2 in [false, true] {
                let (name, exact) = if base2 { ("exp2", f64::exp2 as fn(f64) -> f64) } else { ("exp", f64::exp as _) };
                let input = inputs(if base2 { 125.9 } else { 87.0 });
                let mut x = input.clone();
                isa.run(Exponential { base2, x: &mut x });
                for (&x, &y) in input.iter().zip(&x) {
                    let wanted = exact(f64::from(x));
                    let ulp = (f64::from(y) / wanted - 1.0).abs() * f64::from(1 << 23);
                    assert!(ulp <= EXP_ULP, "{} {name}({x}) = {y}, {ulp} ulp off {wanted}", isa.name());
                }
                let mut edges = [f32::NEG_INFINITY, -1e30, -200.0, f32::INFINITY, 1e30, 200.0, f32::NAN, -100.0, 0.0];
                isa.run(Exponential { base2, x: &mut edges });
                assert_eq!(edges[..6], [0.0, 0.0, 0.0, f32::INFINITY, f32::INFINITY, f32::INFINITY], "{name}");
                assert!(edges[6].is_nan() && edges[8] == 1.0);
                let small = exact(-100.0);
                assert!((f64::from(edges[7]) - small).abs() <= SUBNORMAL.max(small * 3e-7), "{}", edges[7]);
            }
        });
    }

    #[test]
    fn functions_are_those_of_f64() {
        type Exact = fn(f64) -> f64;
        let cases: [(Activation, Exact); 6] = [
            (Activation::Identity, |x| x),
            (Activation::GeluErf, oracle::gelu_erf),
            (Activation::GeluTanh, oracle::gelu_tanh),
            (Activation::Silu, oracle::silu),
            (Activation::Relu, |x| x.max(0.0)),
            (Activation::Tanh, f64::tanh),
        ];
        let pool = Pool::shared(Some(1));
        each_isa("activation", |isa| {
            for (activation, wanted) in cases {
                let input = inputs(12.0);
                let mut x = Misaligned::of(&input);
                activate_with(isa, &pool, activation, &mut x);
                let mut worst = 0.0_f64;
                for (&x, &y) in input.iter().zip(&*x) {
                    let error = (f64::from(y) - wanted(f64::from(x))).abs() / f64::from(x.abs()).max(1.0);
                    worst = worst.max(error);
                    let bound = if activation == Activation::GeluErf { GELU_ERROR } else { NEAR_X };
                    assert!(error <= bound, "{} {activation:?}({x}) = {y}, {error:e} off", isa.name());
                }
                println!("{} {activation:?}: largest error {worst:.2e} max(1, |x|)", isa.name());
            }
        });
    }

    struct Coarse<'a>(&'a mut [f32]);

    impl Kernel for Coarse<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            apply::<S, GeluErfCoarse>(s, self.0);
        }
    }

    #[test]
    fn the_coarse_gelu_is_off_by_less_than_bf16_rounds() {
        each_isa("coarse gelu", |isa| {
            let input: Vec<f32> = (-40_000..=40_000).map(|i| i as f32 / 2000.0).collect();
            let mut x = input.clone();
            isa.run(Coarse(&mut x));
            let error = |(&x, &y): (&f32, &f32)| {
                (f64::from(y) - oracle::gelu_erf(f64::from(x))).abs() / f64::from(x.abs()).max(1.0)
            };
            let worst = input.iter().zip(&x).map(error).fold(0.0, f64::max);
            assert!(worst <= 8e-5, "{}: {worst:e}", isa.name());
            let mut nan = [f32::NAN];
            isa.run(Coarse(&mut nan));
            assert!(nan[0].is_nan());
        });
    }

    #[test]
    fn every_size_gives_what_a_whole_vector_gives() {
        each_isa("activation sizes", |isa| {
            for n in sizes(isa) {
                let input = oracle::numbers(7, n);
                let mut all = input.clone();
                activate_with(isa, &Pool::shared(Some(1)), Activation::GeluErf, &mut all);
                for (i, &x) in input.iter().enumerate() {
                    let mut alone = [x];
                    activate_with(isa, &Pool::shared(Some(1)), Activation::GeluErf, &mut alone);
                    assert_eq!(bits(&alone), bits(&all[i..=i]));
                }
            }
        });
    }

    #[test]
    fn infinities_and_nan_stay_what_they_are() {
        each_isa("activation edges", |isa| {
            let run = |activation, x: f32| {
                let mut x = [x];
                activate_with(isa, &Pool::shared(Some(1)), activation, &mut x);
                x[0]
            };
            use Activation::*;
            for activation in [Identity, GeluErf, GeluTanh, Silu, Relu, Tanh] {
                assert!(run(activation, f32::NAN).is_nan(), "{activation:?}");
                let high = if activation == Tanh { 1.0 } else { f32::INFINITY };
                assert_eq!(run(activation, f32::INFINITY), high, "{activation:?}");
                assert!(run(activation, 1e-40).abs() <= 1e-40);
            }
            assert_eq!(run(Tanh, f32::NEG_INFINITY), -1.0);
            assert_eq!(run(Relu, f32::NEG_INFINITY), 0.0);
            assert!(run(GeluErf, -1e30).abs() < 1e-13);
            assert!(run(Silu, -1e30).abs() < 1e-13 && run(GeluTanh, -1e9).abs() < 1e-13);
        });
    }
}
