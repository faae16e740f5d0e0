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

    struct Map<'a, F>(F, &'a mut [f32]);
    macro_rules! function {
        ($name:ident) => {
            struct $name;
            impl Kernel for Map<'_, $name> {
                type Output = ();
                #[inline(always)]
                fn run<S: Simd>(self, s: S) {
                    for part in self.1.chunks_mut(S::LANES) {
                        let v = $name::of(s, s.read(part));
                        s.write(part, v);
                    }
                }
            }
        };
    }
    function!(Exp);
    function!(Exp2);
    impl Exp {
        #[inline(always)]
        fn of<S: Simd>(s: S, x: S::V) -> S::V {
            math::exp(s, x)
        }
    }
    impl Exp2 {
        #[inline(always)]
        fn of<S: Simd>(s: S, x: S::V) -> S::V {
            math::exp2(s, x)
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
            for (name, wanted) in [("exp", f64::exp as fn(f64) -> f64), ("exp2", f64::exp2)] {
                let mut x = inputs(if name == "exp" { 87.0 } else { 125.9 });
                let input = x.clone();
                if name == "exp" { isa.run(Map(Exp, &mut x)) } else { isa.run(Map(Exp2, &mut x)) }
                for (&x, &y) in input.iter().zip(&x) {
                    let wanted = wanted(f64::from(x));
                    let ulp = (f64::from(y) / wanted - 1.0).abs() * f64::from(1 << 23);
                    assert!(ulp <= EXP_ULP, "{} {name}({x}) = {y}, {ulp} ulp off {wanted}", isa.name());
                }
                let mut edges = [f32::NEG_INFINITY, -1e30, -200.0, f32::INFINITY, 1e30, 200.0, f32::NAN, -100.0, 0.0];
                if name == "exp" { isa.run(Map(Exp, &mut edges)) } else { isa.run(Map(Exp2, &mut edges)) }
                assert_eq!(edges[..6], [0.0, 0.0, 0.0, f32::INFINITY, f32::INFINITY, f32::INFINITY], "{name}");
                assert!(edges[6].is_nan() && edges[8] == 1.0);
                let subnormal = if name == "exp" { (-100.0_f64).exp() } else { (-100.0_f64).exp2() };
                assert!((f64::from(edges[7]) - subnormal).abs() <= 1.5e-45_f64.max(subnormal * 3e-7), "{}", edges[7]);
            }
        });
    }

    #[test]
    fn functions_are_those_of_f64() {
        let cases: [(Activation, fn(f64) -> f64); 6] = [
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
