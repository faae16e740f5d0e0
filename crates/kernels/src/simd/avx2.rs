//! AVX2, FMA and F16C: eight lanes, 16 registers.

use super::{Kernel, Simd};
use std::arch::x86_64::*;

/// Proof that the machine has the instructions.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

/// Compiles `kernel` with the instructions.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn run<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx2(()))
}

/// All ones in the first `count` lanes.
#[inline(always)]
unsafe fn first(count: usize) -> __m256i {
    // SAFETY: called from the methods of `Avx2` only.
    unsafe { _mm256_cmpgt_epi32(_mm256_set1_epi32(count as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)) }
}

/// 2^n for integral -126 <= n <= 127.
#[inline(always)]
unsafe fn power(n: __m256i) -> __m256 {
    // SAFETY: called from the methods of `Avx2` only.
    unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(n, _mm256_set1_epi32(127)))) }
}

// SAFETY of every block below: an `Avx2` exists only inside `run`, so the machine has the instructions; what pointers point at is
// the caller's promise in the contract of the trait.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one reason for all, above")]
impl Simd for Avx2 {
    type V = __m256;
    const LANES: usize = 8;
    const TILE: usize = 6;

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    fn prefetch<T>(self, p: *const T) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m256 {
        unsafe { _mm256_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m256) {
        unsafe { _mm256_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn load_first(self, p: *const f32, count: usize) -> __m256 {
        unsafe { _mm256_maskload_ps(p, first(count)) }
    }
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, count: usize, v: __m256) {
        unsafe { _mm256_maskstore_ps(p, first(count), v) }
    }
    #[inline(always)]
    unsafe fn load_f16(self, p: *const u16) -> __m256 {
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(p.cast())) }
    }
    #[inline(always)]
    unsafe fn load_i8(self, p: *const i8) -> __m256 {
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast()))) }
    }
    #[inline(always)]
    unsafe fn transpose(self, from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        unsafe {
            let mut t = [self.zero(); 8];
            for i in 0..2 {
                let p = from.add(4 * i * from_stride);
                let (a, b) = (_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(from_stride)));
                let (c, d) = (_mm256_loadu_ps(p.add(2 * from_stride)), _mm256_loadu_ps(p.add(3 * from_stride)));
                let ab_low = _mm256_castps_pd(_mm256_unpacklo_ps(a, b));
                let ab_high = _mm256_castps_pd(_mm256_unpackhi_ps(a, b));
                let cd_low = _mm256_castps_pd(_mm256_unpacklo_ps(c, d));
                let cd_high = _mm256_castps_pd(_mm256_unpackhi_ps(c, d));
                t[4 * i] = _mm256_castpd_ps(_mm256_unpacklo_pd(ab_low, cd_low));
                t[4 * i + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(ab_low, cd_low));
                t[4 * i + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(ab_high, cd_high));
                t[4 * i + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(ab_high, cd_high));
            }
            for j in 0..4 {
                self.store(to.add(j * to_stride), _mm256_permute2f128_ps::<0x20>(t[j], t[4 + j]));
                self.store(to.add((4 + j) * to_stride), _mm256_permute2f128_ps::<0x31>(t[j], t[4 + j]));
            }
        }
    }
    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_div_ps(a, b) }
    }
    #[inline(always)]
    fn fma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_max_ps(a, b) }
    }
    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_min_ps(a, b) }
    }
    #[inline(always)]
    fn abs(self, a: __m256) -> __m256 {
        unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), a) }
    }
    #[inline(always)]
    fn copysign(self, a: __m256, b: __m256) -> __m256 {
        unsafe {
            let sign = _mm256_set1_ps(-0.0);
            _mm256_or_ps(_mm256_andnot_ps(sign, a), _mm256_and_ps(sign, b))
        }
    }
    #[inline(always)]
    fn round(self, a: __m256) -> __m256 {
        unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }
    #[inline(always)]
    fn scale(self, a: __m256, n: __m256) -> __m256 {
        unsafe {
            // In three steps, none of which leaves the range of exponents; the first two are exact unless the result is infinite.
            let third = _mm256_cvttps_epi32(_mm256_mul_ps(n, _mm256_set1_ps(1.0 / 3.0)));
            let rest = _mm256_sub_epi32(_mm256_cvttps_epi32(n), _mm256_add_epi32(third, third));
            _mm256_mul_ps(_mm256_mul_ps(_mm256_mul_ps(a, power(third)), power(third)), power(rest))
        }
    }
    #[inline(always)]
    fn where_less(self, a: __m256, b: __m256, x: __m256, y: __m256) -> __m256 {
        unsafe { _mm256_blendv_ps(y, x, _mm256_cmp_ps::<_CMP_LT_OQ>(a, b)) }
    }
    #[inline(always)]
    fn keep(self, a: __m256, count: usize, rest: __m256) -> __m256 {
        unsafe { _mm256_blendv_ps(rest, a, _mm256_castsi256_ps(first(count))) }
    }
    #[inline(always)]
    fn sum(self, a: __m256) -> f32 {
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }
    #[inline(always)]
    fn largest(self, a: __m256) -> f32 {
        unsafe {
            let four = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }
}
