//! Elementary functions on vectors: range reduction and minimax polynomials. Errors are against f64, pinned by the tests of
//! `op::activation`.

use crate::simd::Simd;

/// `c[0] + c[1] x + ...`
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(s: S, x: S::V, c: [f32; N]) -> S::V {
    let mut sum = s.splat(c[N - 1]);
    for k in (0..N - 1).rev() {
        sum = s.fma(sum, x, s.splat(c[k]));
    }
    sum
}

/// 2^x within 1.5 ulp; 0 below -150, infinite from 128.
#[inline(always)]
pub(crate) fn exp2<S: Simd>(s: S, x: S::V) -> S::V {
    // On [-1/2, 1/2], relative error 1.9e-9.
    const C: [f32; 7] =
        [1.0, std::f32::consts::LN_2, 0.240_226_46, 0.055_503_286, 0.009_618_489, 0.001_339_993_1, 0.000_153_458_08];
    let x = s.max(s.splat(-160.0), s.min(s.splat(160.0), x));
    let n = s.round(x);
    s.scale(polynomial(s, s.sub(x, n), C), n)
}

/// e^x within 2 ulp; 0 below -104, infinite above 88.73.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    // On ±ln(2)/2, relative error 1.9e-9.
    const C: [f32; 7] = [1.0, 1.0, 0.499_999_9, 0.166_664_2, 0.041_668_225, 0.008_374_816, 0.001_383_684_2];
    // ln 2 in two parts: the first has 9 bits, so that its product with a whole number of 8 bits is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = s.max(s.splat(-120.0), s.min(s.splat(120.0), x));
    let n = s.round(s.mul(x, s.splat(std::f32::consts::LOG2_E)));
    let r = s.fma(n, s.splat(-LN2_HIGH), x);
    let r = s.fma(n, s.splat(-LN2_LOW), r);
    s.scale(polynomial(s, r, C), n)
}

/// `x Φ(x)`, absolute error below 1e-7 max(1, |x|).
///
/// `x Φ(x) = max(x, 0) - |x| Φ(-|x|)`, and `log2 Φ(-t)` is smooth: a polynomial of degree 10 on [0, 8], fitted so that the error of
/// `t Φ(-t)` is even, gives it within 5.4e-9 before rounding. From 8 on the second term is below 5e-15.
#[inline(always)]
pub(crate) fn gelu_erf<S: Simd>(s: S, x: S::V) -> S::V {
    const C: [f32; 11] = [
        -0.999_999_17,
        -1.151_118,
        -0.459_147_96,
        -0.052_619_416,
        0.007_182_573_4,
        -0.000_182_789_84,
        -0.000_193_239_68,
        5.137_300_5e-5,
        -6.627_793e-6,
        4.502_259e-7,
        -1.277_915e-8,
    ];
    let t = s.min(s.splat(8.0), s.abs(x));
    let tail = s.mul(t, exp2(s, polynomial(s, t, C)));
    s.sub(s.max(s.zero(), x), tail)
}

/// `x Φ(x)`, absolute error below 8e-5 max(1, |x|): for results that are rounded to bf16 or 8 bits at once, in less than half of
/// the time.
///
/// `Φ(x) - 1/2` is odd: x times a polynomial of x², fitted so that the largest error of the product is least, on ±4.2, where it is
/// made to be 1/2.
#[inline(always)]
pub(crate) fn gelu_erf_coarse<S: Simd>(s: S, x: S::V) -> S::V {
    const END: f32 = 4.2;
    const C: [f32; 8] = [
        0.398_465_87,
        -0.065_528_214,
        0.009_298_232,
        -0.000_950_657_9,
        6.689_072_3e-5,
        -3.037_932_4e-6,
        7.941_34e-8,
        -9.017_530e-10,
    ];
    let t = s.max(s.splat(-END), s.min(s.splat(END), x));
    s.mul(x, s.fma(t, polynomial(s, s.mul(t, t), C), s.splat(0.5)))
}

/// `x / (1 + e^-x)`.
#[inline(always)]
pub(crate) fn silu<S: Simd>(s: S, x: S::V) -> S::V {
    s.div(x, s.add(s.splat(1.0), exp(s, s.sub(s.zero(), x))))
}

/// `x/2 (1 + tanh(u)) = x / (1 + e^-2u)` with `u = √(2/π) (x + 0.044715 x³)`.
#[inline(always)]
pub(crate) fn gelu_tanh<S: Simd>(s: S, x: S::V) -> S::V {
    const MINUS_TWO_ROOT: f32 = -1.595_769_2;
    let square = s.mul(x, x);
    let u = s.mul(s.fma(square, s.splat(MINUS_TWO_ROOT * 0.044_715), s.splat(MINUS_TWO_ROOT)), x);
    s.div(x, s.add(s.splat(1.0), exp(s, u)))
}

/// tanh x within 3 ulp: an odd polynomial below 5/8, else `1 - 2 / (e^2|x| + 1)`.
#[inline(always)]
pub(crate) fn tanh<S: Simd>(s: S, x: S::V) -> S::V {
    // (tanh √y - √y) / √y³ on [0, (5/8)²], absolute error 4.2e-9.
    const C: [f32; 5] = [-0.333_332_84, 0.133_314_9, -0.053_743_497, 0.020_650_579, -0.005_717_037];
    let t = s.abs(x);
    let square = s.mul(x, x);
    let near = s.fma(s.mul(polynomial(s, square, C), square), x, x);
    let one = s.splat(1.0);
    let far = s.sub(one, s.div(s.splat(2.0), s.add(exp(s, s.add(t, t)), one)));
    s.where_less(t, s.splat(0.625), near, s.copysign(far, x))
}

/// The sum of `f(x)` over a slice, in four chains, in an order that its length alone fixes.
macro_rules! sum_of {
    ($s:expr, $S:ty, $x:expr, |$v:ident| $term:expr) => {{
        let (s, x): ($S, &[f32]) = ($s, $x);
        let mut sums = [s.zero(); 4];
        let mut fours = x.chunks_exact(4 * <$S>::LANES);
        for four in &mut fours {
            for (j, sum) in sums.iter_mut().enumerate() {
                let $v = s.read(&four[j * <$S>::LANES..(j + 1) * <$S>::LANES]);
                *sum = s.add(*sum, $term);
            }
        }
        let mut ones = fours.remainder().chunks_exact(<$S>::LANES);
        for one in &mut ones {
            let $v = s.read(one);
            sums[0] = s.add(sums[0], $term);
        }
        let rest = ones.remainder();
        if !rest.is_empty() {
            let $v = s.read(rest);
            // Lanes behind the end hold the term of 0, which need not be 0.
            let mut last = [0.0; 16];
            s.write(&mut last[..<$S>::LANES], $term);
            sums[0] = s.add(sums[0], s.read(&last[..rest.len()]));
        }
        s.sum(s.add(s.add(sums[0], sums[2]), s.add(sums[1], sums[3])))
    }};
}
pub(crate) use sum_of;
