//! Advanced SIMD: eight lanes in two registers of four, 32 registers.

use super::{Kernel, Simd};
use std::arch::aarch64::*;

/// Proof that the machine has the instructions.
#[derive(Clone, Copy)]
pub(crate) struct Neon(());

/// Compiles `kernel` with the instructions.
#[target_feature(enable = "neon")]
pub(super) fn run<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Neon(()))
}

/// Two registers.
#[derive(Clone, Copy)]
pub(crate) struct Pair(float32x4_t, float32x4_t);

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

// SAFETY of every block below: a `Neon` exists only inside `run`, so the machine has the instructions; what pointers point at is the
// caller's promise in the contract of the trait.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one reason for all, above")]
impl Simd for Neon {
    type V = Pair;
    const LANES: usize = 8;
    const TILE: usize = 6;

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
