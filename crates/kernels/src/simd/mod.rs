//! Vectors of f32 as one trait, one implementation an instruction set.
//!
//! A kernel is written once, as a [`Kernel`] that is generic over [`Simd`], and [`Isa::run`] compiles it once for each level inside a
//! function with that level's target features; everything below must therefore be inlined (`#[inline(always)]`, no closures that
//! take vectors). A value of an implementing type is the proof that this machine has the instructions: the types cannot be made
//! outside this module, and only `Isa::run` makes them, after detection.
//!
//! One body for all levels, and not a table of variants in each op, because the variants differ in nothing but the width of a vector
//! and the size of a tile; a new level is one file here, and every op and every sweep has it. A body that only one level can have
//! goes behind a method of the trait.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;

use crate::Isa;
use crate::isa::Dots;

/// The vector instructions of one level.
pub(crate) trait Simd: Copy {
    /// A vector of [`Simd::LANES`] values.
    type V: Copy;
    /// Values in a vector, a power of two, at most 16.
    const LANES: usize;
    /// `LANES` words of 32 bits: pairs of bf16, quads of 8-bit integers, or integers.
    type W: Copy;
    /// Rows of the largest tile whose accumulators, two vectors a row, fit into the registers beside what they are made from.
    const TILE: usize;
    /// [`Simd::TILE`] of products of bf16.
    const TILE_BF16: usize;
    /// [`Simd::TILE`] of products of 8-bit integers.
    const TILE_INT8: usize;
    /// Words that hold four activations of 8 bits: 1 where an instruction multiplies bytes, 2 where it multiplies 16-bit integers.
    const WORDS_INT8: usize;
    /// What is taken from an activation of 8 bits, 0 to 255, before it is stored: 128 where the instruction wants it signed.
    const OFFSET_INT8: u8;

    fn splat(self, x: f32) -> Self::V;
    /// Asks for the cache line at `p`, which may point anywhere.
    fn prefetch<T>(self, p: *const T);
    /// # Safety
    /// `LANES` values can be read at `p`.
    unsafe fn load(self, p: *const f32) -> Self::V;
    /// # Safety
    /// `LANES` values can be written at `p`.
    unsafe fn store(self, p: *mut f32, v: Self::V);
    /// `count < LANES` values, the lanes behind them 0.
    /// # Safety
    /// `count` values can be read at `p`.
    unsafe fn load_first(self, p: *const f32, count: usize) -> Self::V;
    /// The first `count < LANES` lanes.
    /// # Safety
    /// `count` values can be written at `p`.
    unsafe fn store_first(self, p: *mut f32, count: usize, v: Self::V);
    /// `LANES` half-precision numbers.
    /// # Safety
    /// `LANES` values can be read at `p`.
    unsafe fn load_f16(self, p: *const u16) -> Self::V;
    /// `LANES` 8-bit integers.
    /// # Safety
    /// `LANES` values can be read at `p`.
    unsafe fn load_i8(self, p: *const i8) -> Self::V;
    /// A square of `LANES` rows: `to[c * to_stride + r] = from[r * from_stride + c]`.
    /// # Safety
    /// `LANES` rows can be read at `from` and written at `to`.
    unsafe fn transpose(self, from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize);

    /// The lanes rounded to bf16, to nearest and ties to even; a subnormal number may become 0.
    /// # Safety
    /// `LANES` values can be written at `p`.
    unsafe fn store_bf16(self, p: *mut u16, v: Self::V);
    /// # Safety
    /// `LANES` words can be read at `p`.
    unsafe fn load_words(self, p: *const f32) -> Self::W;
    /// # Safety
    /// `LANES` words can be written at `p`.
    unsafe fn store_words(self, p: *mut f32, w: Self::W);
    /// One word in all lanes.
    /// # Safety
    /// A word can be read at `p`.
    unsafe fn splat_word(self, p: *const f32) -> Self::W;
    /// Integers to floats, rounded to nearest.
    fn words_to_f32(self, w: Self::W) -> Self::V;
    fn zero_words(self) -> Self::W;
    /// `sum + a0 b0 + a1 b1` for the two bf16 of each lane.
    fn dot_bf16(self, a: Self::W, b: Self::W, sum: Self::V) -> Self::V;
    /// Weights of 8 bits in the form in which they are multiplied, which several rows then share.
    fn spread_int8(self, b: Self::W) -> [Self::W; 2];
    /// Four activations in all lanes, from [`Simd::WORDS_INT8`] words.
    /// # Safety
    /// As many words can be read at `p`.
    unsafe fn splat_int8(self, p: *const f32) -> [Self::W; 2];
    /// `sum + Σ a b` for the four 8-bit integers of each lane: exact.
    fn dot_int8(self, a: [Self::W; 2], b: [Self::W; 2], sum: Self::W) -> Self::W;

    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`; whether it rounds once or twice is the level's affair.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The larger; `b` where `b` is not a number.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// The smaller; `b` where `b` is not a number.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    fn abs(self, a: Self::V) -> Self::V;
    /// `|a|` with the sign of `b`.
    fn copysign(self, a: Self::V, b: Self::V) -> Self::V;
    /// The nearest integer, ties to even; |a| < 2^22.
    fn round(self, a: Self::V) -> Self::V;
    /// `a * 2^n`, rounded once, for integral `n` in -300 ..= 300.
    fn scale(self, a: Self::V, n: Self::V) -> Self::V;
    /// Lane by lane `if a < b { x } else { y }`; a comparison with NaN is false.
    fn where_less(self, a: Self::V, b: Self::V, x: Self::V, y: Self::V) -> Self::V;
    /// The first `count < LANES` lanes of `a`, the lanes behind them of `rest`.
    fn keep(self, a: Self::V, count: usize, rest: Self::V) -> Self::V;
    /// The sum of the lanes, in a fixed order.
    fn sum(self, a: Self::V) -> f32;
    /// The largest lane.
    fn largest(self, a: Self::V) -> f32;

    #[inline(always)]
    fn zero(self) -> Self::V {
        self.splat(0.0)
    }

    /// The first `min(LANES, x.len())` values of `x`, the lanes behind them 0.
    #[inline(always)]
    fn read(self, x: &[f32]) -> Self::V {
        // SAFETY: the slice has what is read.
        unsafe { if x.len() >= Self::LANES { self.load(x.as_ptr()) } else { self.load_first(x.as_ptr(), x.len()) } }
    }

    /// The first `min(LANES, out.len())` lanes into `out`.
    #[inline(always)]
    fn write(self, out: &mut [f32], v: Self::V) {
        // SAFETY: the slice has what is written.
        unsafe {
            if out.len() >= Self::LANES {
                self.store(out.as_mut_ptr(), v);
            } else {
                self.store_first(out.as_mut_ptr(), out.len(), v);
            }
        }
    }
}

/// Something to compute with the vectors of whichever level is in use. `run` must be `#[inline(always)]`.
pub(crate) trait Kernel {
    /// What comes out.
    type Output;
    /// Computes it.
    fn run<S: Simd>(self, s: S) -> Self::Output;
}

impl Isa {
    /// Runs `kernel` with the instructions of this level.
    ///
    /// # Panics
    /// Where the machine does not have them.
    #[inline]
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        assert!(self.is_available(), "this machine has no {}", self.name());
        match self {
            Self::Scalar => kernel.run(scalar::Scalar),
            // SAFETY: the assertion above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { avx2::run(kernel) },
            // SAFETY: the assertion above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { avx512::run(kernel) },
            // SAFETY: the assertion above.
            #[cfg(target_arch = "aarch64")]
            Self::Neon => unsafe { neon::run(kernel) },
            #[allow(unreachable_patterns, reason = "which levels are left depends on the architecture")]
            _ => unreachable!("an available level belongs to this architecture"),
        }
    }

    /// Runs `kernel` with the instructions of this level and, where `dots` says so, those instructions beside it. Without
    /// them the same products are made of other instructions.
    ///
    /// # Panics
    /// Where the machine does not have them.
    #[inline]
    pub(crate) fn run_with<K: Kernel>(self, dots: Option<Dots>, kernel: K) -> K::Output {
        let Some(dots) = dots else { return self.run(kernel) };
        assert!(self.is_available() && self.dots(dots.of()) == Some(dots), "this machine has no {dots:?}");
        match dots {
            // SAFETY: the assertion above.
            #[cfg(target_arch = "x86_64")]
            Dots::Avx512Bf16 => unsafe { avx512::run_bf16(kernel) },
            // SAFETY: the assertion above.
            #[cfg(target_arch = "x86_64")]
            Dots::Avx512Vnni => unsafe { avx512::run_vnni(kernel) },
            // SAFETY: the assertion above.
            #[cfg(target_arch = "x86_64")]
            Dots::AvxVnni => unsafe { avx2::run_vnni(kernel) },
            // SAFETY: the assertion above.
            #[cfg(target_arch = "aarch64")]
            Dots::NeonBf16 => unsafe { neon::run_bf16(kernel) },
            // SAFETY: the assertion above.
            #[cfg(target_arch = "aarch64")]
            Dots::NeonDotprod => unsafe { neon::run_dotprod(kernel) },
            #[allow(unreachable_patterns, reason = "which instructions are left depends on the architecture")]
            _ => unreachable!("an available instruction belongs to this architecture"),
        }
    }

    /// Values in a vector.
    #[cfg(test)]
    pub(crate) fn lanes(self) -> usize {
        self.run(Lanes)
    }
}

#[cfg(test)]
struct Lanes;

#[cfg(test)]
impl Kernel for Lanes {
    type Output = usize;
    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> usize {
        S::LANES
    }
}

/// What the levels without an instruction for it do: the values of a word, low bits first.
#[inline(always)]
fn bf16_of(word: u32) -> [f32; 2] {
    [f32::from_bits(word << 16), f32::from_bits(word & 0xffff_0000)]
}

/// The nearest bf16, ties to even; NaN stays NaN.
#[inline(always)]
pub(crate) fn to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16;
    if x.is_nan() { 0x7fc0 } else { rounded }
}

/// Half precision to single: exact.
#[inline]
pub(crate) fn f16_to_f32(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let magnitude = u32::from(bits & 0x7fff);
    let value = match magnitude >> 10 {
        // Subnormal: a multiple of 2^-24.
        0 => magnitude as f32 * f32::from_bits(0x3380_0000),
        31 => f32::from_bits(0x7f80_0000 | (magnitude & 0x3ff) << 13),
        // The exponent bias grows from 15 to 127.
        _ => f32::from_bits((magnitude << 13) + (112 << 23)),
    };
    f32::from_bits(value.to_bits() | sign)
}
