//! The portable level: four lanes in an array, multiplication and addition rounded separately, because a fused one without the
//! instruction is a library call.

use super::{Simd, bf16_of, f16_to_f32, to_bf16};

#[derive(Clone, Copy)]
pub(crate) struct Scalar;

const LANES: usize = 4;
type V = [f32; LANES];

#[inline(always)]
fn map2(a: V, b: V, f: impl Fn(f32, f32) -> f32) -> V {
    [f(a[0], b[0]), f(a[1], b[1]), f(a[2], b[2]), f(a[3], b[3])]
}

#[inline(always)]
fn map(a: V, f: impl Fn(f32) -> f32) -> V {
    [f(a[0]), f(a[1]), f(a[2]), f(a[3])]
}

/// 2^n for -126 <= n <= 127.
#[inline(always)]
fn power(n: i32) -> f32 {
    f32::from_bits(((n + 127) as u32) << 23)
}

impl Simd for Scalar {
    type V = V;
    type W = [u32; LANES];
    const LANES: usize = LANES;
    const TILE: usize = 4;
    const TILE_BF16: usize = 4;
    const TILE_INT8: usize = 4;
    const WORDS_INT8: usize = 1;
    const OFFSET_INT8: u8 = 0;

    #[inline(always)]
    fn splat(self, x: f32) -> V {
        [x; LANES]
    }
    #[inline(always)]
    fn prefetch<T>(self, _: *const T) {}
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> V {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<V>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: V) {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<V>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn load_first(self, p: *const f32, count: usize) -> V {
        let mut v = [0.0; LANES];
        for (i, x) in v.iter_mut().enumerate().take(count) {
            // SAFETY: the caller's promise; i < count.
            *x = unsafe { *p.add(i) };
        }
        v
    }
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, count: usize, v: V) {
        for (i, x) in v.into_iter().enumerate().take(count) {
            // SAFETY: the caller's promise; i < count.
            unsafe { *p.add(i) = x }
        }
    }
    #[inline(always)]
    unsafe fn load_f16(self, p: *const u16) -> V {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<[u16; LANES]>().read_unaligned() }.map(f16_to_f32)
    }
    #[inline(always)]
    unsafe fn load_i8(self, p: *const i8) -> V {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<[i8; LANES]>().read_unaligned() }.map(f32::from)
    }
    #[inline(always)]
    unsafe fn transpose(self, from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        for r in 0..LANES {
            for c in 0..LANES {
                // SAFETY: the caller's promise.
                unsafe { *to.add(c * to_stride + r) = *from.add(r * from_stride + c) }
            }
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut u16, v: V) {
        for (i, x) in v.into_iter().enumerate() {
            // SAFETY: the caller's promise; i < LANES.
            unsafe { *p.add(i) = to_bf16(x) };
        }
    }
    #[inline(always)]
    unsafe fn load_words(self, p: *const f32) -> [u32; LANES] {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<[u32; LANES]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store_words(self, p: *mut f32, w: [u32; LANES]) {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<[u32; LANES]>().write_unaligned(w) }
    }
    #[inline(always)]
    unsafe fn splat_word(self, p: *const f32) -> [u32; LANES] {
        // SAFETY: the caller's promise.
        [unsafe { *p.cast::<u32>() }; LANES]
    }
    #[inline(always)]
    fn words_to_f32(self, w: [u32; LANES]) -> V {
        w.map(|w| w as i32 as f32)
    }
    #[inline(always)]
    fn zero_words(self) -> [u32; LANES] {
        [0; LANES]
    }
    #[inline(always)]
    fn dot_bf16(self, a: [u32; LANES], b: [u32; LANES], mut sum: V) -> V {
        for (lane, sum) in sum.iter_mut().enumerate() {
            let ([a0, a1], [b0, b1]) = (bf16_of(a[lane]), bf16_of(b[lane]));
            *sum = *sum + a0 * b0 + a1 * b1;
        }
        sum
    }
    #[inline(always)]
    fn spread_int8(self, b: [u32; LANES]) -> [[u32; LANES]; 2] {
        [b, b]
    }
    #[inline(always)]
    unsafe fn splat_int8(self, p: *const f32) -> [[u32; LANES]; 2] {
        // SAFETY: the caller's promise.
        [unsafe { self.splat_word(p) }; 2]
    }
    #[inline(always)]
    fn dot_int8(self, a: [[u32; LANES]; 2], b: [[u32; LANES]; 2], mut sum: [u32; LANES]) -> [u32; LANES] {
        for (lane, sum) in sum.iter_mut().enumerate() {
            let products = a[0][lane].to_le_bytes().into_iter().zip(b[0][lane].to_le_bytes());
            let term: i32 = products.map(|(a, b)| i32::from(a) * i32::from(b as i8)).sum();
            *sum = sum.wrapping_add(term as u32);
        }
        sum
    }
    #[inline(always)]
    fn add(self, a: V, b: V) -> V {
        map2(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: V, b: V) -> V {
        map2(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: V, b: V) -> V {
        map2(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: V, b: V) -> V {
        map2(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn fma(self, a: V, b: V, c: V) -> V {
        self.add(self.mul(a, b), c)
    }
    #[inline(always)]
    fn max(self, a: V, b: V) -> V {
        map2(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, a: V, b: V) -> V {
        map2(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn abs(self, a: V) -> V {
        map(a, f32::abs)
    }
    #[inline(always)]
    fn copysign(self, a: V, b: V) -> V {
        map2(a, b, f32::copysign)
    }
    #[inline(always)]
    fn round(self, a: V) -> V {
        // 1.5 * 2^23: the sum has no fraction bits left.
        map(a, |a| (a + 12_582_912.0) - 12_582_912.0)
    }
    #[inline(always)]
    fn scale(self, a: V, n: V) -> V {
        // In three steps, none of which leaves the range of exponents; the first two are exact unless the result is infinite.
        map2(a, n, |a, n| {
            let n = n as i32;
            let third = n / 3;
            a * power(third) * power(third) * power(n - 2 * third)
        })
    }
    #[inline(always)]
    fn where_less(self, a: V, b: V, x: V, y: V) -> V {
        let pick = |i: usize| if a[i] < b[i] { x[i] } else { y[i] };
        [pick(0), pick(1), pick(2), pick(3)]
    }
    #[inline(always)]
    fn keep(self, a: V, count: usize, rest: V) -> V {
        let pick = |i: usize| if i < count { a[i] } else { rest[i] };
        [pick(0), pick(1), pick(2), pick(3)]
    }
    #[inline(always)]
    fn sum(self, a: V) -> f32 {
        (a[0] + a[2]) + (a[1] + a[3])
    }
    #[inline(always)]
    fn largest(self, a: V) -> f32 {
        let larger = |a: f32, b: f32| if a > b { a } else { b };
        larger(larger(a[0], a[2]), larger(a[1], a[3]))
    }
}
