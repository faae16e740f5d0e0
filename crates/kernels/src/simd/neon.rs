//! Advanced SIMD: eight lanes in two registers of four, 32 registers.

use super::{Kernel, Simd};
use std::arch::aarch64::*;

/// Proof that the machine has the instructions, and `DOTS` beside them.
#[derive(Clone, Copy)]
pub(crate) struct Neon<const DOTS: u8>(());

const NONE: u8 = 0;
const BF16: u8 = 1;
const DOTPROD: u8 = 2;

/// Compiles `kernel` with the instructions.
#[target_feature(enable = "neon")]
pub(super) fn run<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Neon::<NONE>(()))
}

/// Compiles `kernel` with the instructions and those for bf16.
#[target_feature(enable = "neon,bf16")]
pub(super) fn run_bf16<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Neon::<BF16>(()))
}

/// Compiles `kernel` with the instructions and those for 8-bit integers.
#[target_feature(enable = "neon,dotprod")]
pub(super) fn run_dotprod<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Neon::<DOTPROD>(()))
}

/// Two registers.
#[derive(Clone, Copy)]
pub(crate) struct Pair(float32x4_t, float32x4_t);

/// Two registers of words.
#[derive(Clone, Copy)]
pub(crate) struct Words(uint32x4_t, uint32x4_t);

/// `bfdot`, whose intrinsic is not in stable Rust.
///
/// # Safety
/// The machine has bf16.
#[inline(always)]
unsafe fn bfdot(mut sum: float32x4_t, a: uint32x4_t, b: uint32x4_t) -> float32x4_t {
    // SAFETY: the caller's promise; it touches nothing but its operands.
    unsafe {
        std::arch::asm!(
            ".arch_extension bf16",
            "bfdot {0:v}.4s, {1:v}.8h, {2:v}.8h",
            inout(vreg) sum, in(vreg) a, in(vreg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// `sdot`, whose intrinsic is not in stable Rust.
///
/// # Safety
/// The machine has dotprod.
#[inline(always)]
unsafe fn sdot(mut sum: uint32x4_t, a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
    // SAFETY: the caller's promise; it touches nothing but its operands.
    unsafe {
        std::arch::asm!(
            ".arch_extension dotprod",
            "sdot {0:v}.4s, {1:v}.16b, {2:v}.16b",
            inout(vreg) sum, in(vreg) a, in(vreg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// What `sdot` computes, of products of 16 bits that are added in pairs.
#[inline(always)]
fn dot_of_products(sum: uint32x4_t, a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
    // SAFETY: called from the methods of `Neon` only.
    unsafe {
        let (a, b) = (vreinterpretq_s8_u32(a), vreinterpretq_s8_u32(b));
        let low = vpaddlq_s16(vmull_s8(vget_low_s8(a), vget_low_s8(b)));
        let high = vpaddlq_s16(vmull_high_s8(a, b));
        vaddq_u32(sum, vreinterpretq_u32_s32(vpaddq_s32(low, high)))
    }
}

/// `sum + a0 b0 + a1 b1` with the values of bf16 widened.
#[inline(always)]
fn dot_of_widened(sum: float32x4_t, a: uint32x4_t, b: uint32x4_t) -> float32x4_t {
    // SAFETY: called from the methods of `Neon` only.
    unsafe {
        let high = vdupq_n_u32(0xffff_0000);
        let (a0, b0) = (vshlq_n_u32::<16>(a), vshlq_n_u32::<16>(b));
        let (a1, b1) = (vandq_u32(a, high), vandq_u32(b, high));
        let sum = vfmaq_f32(sum, vreinterpretq_f32_u32(a0), vreinterpretq_f32_u32(b0));
        vfmaq_f32(sum, vreinterpretq_f32_u32(a1), vreinterpretq_f32_u32(b1))
    }
}

/// `Pair` of one intrinsic applied to both halves of its arguments.
macro_rules! halves {
    ($function:ident($($argument:expr),*)) => {
        // SAFETY: a `Neon` exists only inside `run`, so the machine has the instructions.
        unsafe { Pair($function($($argument.0),*), $function($($argument.1),*)) }
    };
}

/// 2^n for integral -126 <= n <= 127.
#[inline(always)]
fn power(n: int32x4_t) -> float32x4_t {
    // SAFETY: called from the methods of `Neon` only.
    unsafe { vreinterpretq_f32_s32(vshlq_n_s32::<23>(vaddq_s32(n, vdupq_n_s32(127)))) }
}

/// `a * 2^n`, in three steps, none of which leaves the range of exponents; the first two are exact unless the result is infinite.
#[inline(always)]
fn scaled(a: float32x4_t, n: float32x4_t) -> float32x4_t {
    // SAFETY: called from the methods of `Neon` only.
    unsafe {
        let third = vcvtq_s32_f32(vmulq_n_f32(n, 1.0 / 3.0));
        let rest = vsubq_s32(vcvtq_s32_f32(n), vaddq_s32(third, third));
        vmulq_f32(vmulq_f32(vmulq_f32(a, power(third)), power(third)), power(rest))
    }
}

/// The larger; `b` where `b` is not a number, as the trait says and the instruction does not.
#[inline(always)]
fn larger(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    // SAFETY: called from the methods of `Neon` only.
    unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) }
}

#[inline(always)]
fn smaller(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    // SAFETY: called from the methods of `Neon` only.
    unsafe { vbslq_f32(vcltq_f32(a, b), a, b) }
}

#[inline(always)]
fn signed(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    // SAFETY: called from the methods of `Neon` only.
    unsafe { vbslq_f32(vdupq_n_u32(1 << 31), b, a) }
}

/// A square of 4.
#[inline(always)]
unsafe fn transpose_4(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
    // SAFETY: called from `Neon::transpose` only, with quarters of what its caller promised.
    unsafe {
        let (a, b) = (vld1q_f32(from), vld1q_f32(from.add(from_stride)));
        let (c, d) = (vld1q_f32(from.add(2 * from_stride)), vld1q_f32(from.add(3 * from_stride)));
        let (ab_even, ab_odd) = (vtrn1q_f32(a, b), vtrn2q_f32(a, b));
        let (cd_even, cd_odd) = (vtrn1q_f32(c, d), vtrn2q_f32(c, d));
        let (ab_even, ab_odd) = (vreinterpretq_f64_f32(ab_even), vreinterpretq_f64_f32(ab_odd));
        let (cd_even, cd_odd) = (vreinterpretq_f64_f32(cd_even), vreinterpretq_f64_f32(cd_odd));
        vst1q_f32(to, vreinterpretq_f32_f64(vtrn1q_f64(ab_even, cd_even)));
        vst1q_f32(to.add(to_stride), vreinterpretq_f32_f64(vtrn1q_f64(ab_odd, cd_odd)));
        vst1q_f32(to.add(2 * to_stride), vreinterpretq_f32_f64(vtrn2q_f64(ab_even, cd_even)));
        vst1q_f32(to.add(3 * to_stride), vreinterpretq_f32_f64(vtrn2q_f64(ab_odd, cd_odd)));
    }
}

// SAFETY of every block below: a `Neon` exists only inside the functions above, so the machine has the instructions; what pointers point at is the
// caller's promise in the contract of the trait.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one reason for all, above")]
impl<const DOTS: u8> Simd for Neon<DOTS> {
    type V = Pair;
    type W = Words;
    const LANES: usize = 8;
    const TILE: usize = 6;
    const TILE_BF16: usize = if DOTS == BF16 { 6 } else { 4 };
    const TILE_INT8: usize = if DOTS == DOTPROD { 6 } else { 4 };
    const WORDS_INT8: usize = 1;
    const OFFSET_INT8: u8 = 128;

    #[inline(always)]
    fn splat(self, x: f32) -> Pair {
        let half = unsafe { vdupq_n_f32(x) };
        Pair(half, half)
    }
    #[inline(always)]
    fn prefetch<T>(self, p: *const T) {
        // SAFETY: a hint that reads nothing, whatever the address.
        unsafe { std::arch::asm!("prfm pldl1keep, [{}]", in(reg) p, options(nostack, readonly, preserves_flags)) }
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Pair {
        unsafe { Pair(vld1q_f32(p), vld1q_f32(p.add(4))) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: Pair) {
        unsafe {
            vst1q_f32(p, v.0);
            vst1q_f32(p.add(4), v.1);
        }
    }
    #[inline(always)]
    unsafe fn load_first(self, p: *const f32, count: usize) -> Pair {
        let mut lanes = [0.0; 8];
        unsafe {
            std::ptr::copy_nonoverlapping(p, lanes.as_mut_ptr(), count);
            self.load(lanes.as_ptr())
        }
    }
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, count: usize, v: Pair) {
        let mut lanes = [0.0; 8];
        unsafe {
            self.store(lanes.as_mut_ptr(), v);
            std::ptr::copy_nonoverlapping(lanes.as_ptr(), p, count);
        }
    }
    #[inline(always)]
    unsafe fn load_f16(self, p: *const u16) -> Pair {
        // The conversion instructions of half precision are not in stable Rust; tables of f16 are not a hot path here.
        unsafe {
            let lanes = p.cast::<[u16; 8]>().read_unaligned().map(super::f16_to_f32);
            self.load(lanes.as_ptr())
        }
    }
    #[inline(always)]
    unsafe fn load_i8(self, p: *const i8) -> Pair {
        unsafe {
            let wide = vmovl_s8(vld1_s8(p));
            let (low, high) = (vmovl_s16(vget_low_s16(wide)), vmovl_s16(vget_high_s16(wide)));
            Pair(vcvtq_f32_s32(low), vcvtq_f32_s32(high))
        }
    }
    #[inline(always)]
    unsafe fn transpose(self, from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        unsafe {
            transpose_4(from, from_stride, to, to_stride);
            transpose_4(from.add(4), from_stride, to.add(4 * to_stride), to_stride);
            let (from, to) = (from.add(4 * from_stride), to.add(4));
            transpose_4(from, from_stride, to, to_stride);
            transpose_4(from.add(4), from_stride, to.add(4 * to_stride), to_stride);
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut u16, v: Pair) {
        unsafe {
            let round = |v: float32x4_t| {
                let bits = vreinterpretq_u32_f32(v);
                let odd = vandq_u32(vshrq_n_u32::<16>(bits), vdupq_n_u32(1));
                let rounded = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
                // Not a number: equal to nothing.
                vshrn_n_u32::<16>(vbslq_u32(vceqq_f32(v, v), rounded, vdupq_n_u32(0x7fc0_0000)))
            };
            vst1q_u16(p, vcombine_u16(round(v.0), round(v.1)));
        }
    }
    #[inline(always)]
    unsafe fn load_words(self, p: *const f32) -> Words {
        unsafe { Words(vld1q_u32(p.cast()), vld1q_u32(p.cast::<u32>().add(4))) }
    }
    #[inline(always)]
    unsafe fn store_words(self, p: *mut f32, w: Words) {
        unsafe {
            vst1q_u32(p.cast(), w.0);
            vst1q_u32(p.cast::<u32>().add(4), w.1);
        }
    }
    #[inline(always)]
    unsafe fn splat_word(self, p: *const f32) -> Words {
        let half = unsafe { vld1q_dup_u32(p.cast()) };
        Words(half, half)
    }
    #[inline(always)]
    fn words_to_f32(self, w: Words) -> Pair {
        unsafe { Pair(vcvtq_f32_s32(vreinterpretq_s32_u32(w.0)), vcvtq_f32_s32(vreinterpretq_s32_u32(w.1))) }
    }
    #[inline(always)]
    fn zero_words(self) -> Words {
        let half = unsafe { vdupq_n_u32(0) };
        Words(half, half)
    }
    #[inline(always)]
    fn dot_bf16(self, a: Words, b: Words, sum: Pair) -> Pair {
        if DOTS == BF16 {
            return unsafe { Pair(bfdot(sum.0, a.0, b.0), bfdot(sum.1, a.1, b.1)) };
        }
        Pair(dot_of_widened(sum.0, a.0, b.0), dot_of_widened(sum.1, a.1, b.1))
    }
    #[inline(always)]
    fn spread_int8(self, b: Words) -> [Words; 2] {
        [b, b]
    }
    #[inline(always)]
    unsafe fn splat_int8(self, p: *const f32) -> [Words; 2] {
        [unsafe { self.splat_word(p) }; 2]
    }
    #[inline(always)]
    fn dot_int8(self, a: [Words; 2], b: [Words; 2], sum: Words) -> Words {
        let (a, b) = (a[0], b[0]);
        if DOTS == DOTPROD {
            return unsafe { Words(sdot(sum.0, a.0, b.0), sdot(sum.1, a.1, b.1)) };
        }
        Words(dot_of_products(sum.0, a.0, b.0), dot_of_products(sum.1, a.1, b.1))
    }
    #[inline(always)]
    fn add(self, a: Pair, b: Pair) -> Pair {
        halves!(vaddq_f32(a, b))
    }
    #[inline(always)]
    fn sub(self, a: Pair, b: Pair) -> Pair {
        halves!(vsubq_f32(a, b))
    }
    #[inline(always)]
    fn mul(self, a: Pair, b: Pair) -> Pair {
        halves!(vmulq_f32(a, b))
    }
    #[inline(always)]
    fn div(self, a: Pair, b: Pair) -> Pair {
        halves!(vdivq_f32(a, b))
    }
    #[inline(always)]
    fn fma(self, a: Pair, b: Pair, c: Pair) -> Pair {
        halves!(vfmaq_f32(c, a, b))
    }
    #[inline(always)]
    fn max(self, a: Pair, b: Pair) -> Pair {
        Pair(larger(a.0, b.0), larger(a.1, b.1))
    }
    #[inline(always)]
    fn min(self, a: Pair, b: Pair) -> Pair {
        Pair(smaller(a.0, b.0), smaller(a.1, b.1))
    }
    #[inline(always)]
    fn abs(self, a: Pair) -> Pair {
        halves!(vabsq_f32(a))
    }
    #[inline(always)]
    fn copysign(self, a: Pair, b: Pair) -> Pair {
        Pair(signed(a.0, b.0), signed(a.1, b.1))
    }
    #[inline(always)]
    fn round(self, a: Pair) -> Pair {
        halves!(vrndnq_f32(a))
    }
    #[inline(always)]
    fn scale(self, a: Pair, n: Pair) -> Pair {
        Pair(scaled(a.0, n.0), scaled(a.1, n.1))
    }
    #[inline(always)]
    fn where_less(self, a: Pair, b: Pair, x: Pair, y: Pair) -> Pair {
        unsafe { Pair(vbslq_f32(vcltq_f32(a.0, b.0), x.0, y.0), vbslq_f32(vcltq_f32(a.1, b.1), x.1, y.1)) }
    }
    #[inline(always)]
    fn keep(self, a: Pair, count: usize, rest: Pair) -> Pair {
        const INDEX: [u32; 8] = [0, 1, 2, 3, 4, 5, 6, 7];
        unsafe {
            let count = vdupq_n_u32(count as u32);
            let (low, high) = (vld1q_u32(INDEX.as_ptr()), vld1q_u32(INDEX.as_ptr().add(4)));
            Pair(vbslq_f32(vcltq_u32(low, count), a.0, rest.0), vbslq_f32(vcltq_u32(high, count), a.1, rest.1))
        }
    }
    #[inline(always)]
    fn sum(self, a: Pair) -> f32 {
        unsafe { vaddvq_f32(vaddq_f32(a.0, a.1)) }
    }
    #[inline(always)]
    fn largest(self, a: Pair) -> f32 {
        unsafe { vmaxvq_f32(vmaxq_f32(a.0, a.1)) }
    }
}
