//! AVX2, FMA and F16C: eight lanes, 16 registers.

use super::{Kernel, Simd};
use std::arch::x86_64::*;

/// Proof that the machine has the instructions, and those of AVX-VNNI where `VNNI` says so.
#[derive(Clone, Copy)]
pub(crate) struct Avx2<const VNNI: bool>(());

/// Compiles `kernel` with the instructions.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn run<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx2::<false>(()))
}

/// Compiles `kernel` with the instructions and those for 8-bit integers.
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
pub(super) fn run_vnni<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx2::<true>(()))
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

// SAFETY of every block below: an `Avx2` exists only inside `run` and `run_vnni`, so the machine has the instructions; what pointers point at is
// the caller's promise in the contract of the trait.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one reason for all, above")]
impl<const VNNI: bool> Simd for Avx2<VNNI> {
    type V = __m256;
    type W = __m256i;
    const LANES: usize = 8;
    const TILE: usize = 6;
    // The parts of a word and of two vectors of weights take registers too.
    const TILE_BF16: usize = 4;
    const TILE_INT8: usize = if VNNI { 6 } else { 4 };
    const WORDS_INT8: usize = if VNNI { 1 } else { 2 };
    const OFFSET_INT8: u8 = 0;

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
    unsafe fn store_bf16(self, p: *mut u16, v: __m256) {
        unsafe {
            let bits = _mm256_castps_si256(v);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
            let rounded = _mm256_srli_epi32::<16>(rounded);
            let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
            let rounded = _mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7fc0), nan);
            let (low, high) = (_mm256_castsi256_si128(rounded), _mm256_extracti128_si256::<1>(rounded));
            _mm_storeu_si128(p.cast(), _mm_packus_epi32(low, high));
        }
    }
    #[inline(always)]
    unsafe fn load_words(self, p: *const f32) -> __m256i {
        unsafe { _mm256_loadu_si256(p.cast()) }
    }
    #[inline(always)]
    unsafe fn store_words(self, p: *mut f32, w: __m256i) {
        unsafe { _mm256_storeu_si256(p.cast(), w) }
    }
    #[inline(always)]
    unsafe fn splat_word(self, p: *const f32) -> __m256i {
        unsafe { _mm256_set1_epi32(*p.cast::<i32>()) }
    }
    #[inline(always)]
    fn words_to_f32(self, w: __m256i) -> __m256 {
        unsafe { _mm256_cvtepi32_ps(w) }
    }
    #[inline(always)]
    fn zero_words(self) -> __m256i {
        unsafe { _mm256_setzero_si256() }
    }
    #[inline(always)]
    fn dot_bf16(self, a: __m256i, b: __m256i, sum: __m256) -> __m256 {
        unsafe {
            let high = _mm256_set1_epi32(0xffff_0000_u32 as i32);
            let (a0, a1) = (_mm256_slli_epi32::<16>(a), _mm256_and_si256(a, high));
            let (b0, b1) = (_mm256_slli_epi32::<16>(b), _mm256_and_si256(b, high));
            let sum = _mm256_fmadd_ps(_mm256_castsi256_ps(a0), _mm256_castsi256_ps(b0), sum);
            _mm256_fmadd_ps(_mm256_castsi256_ps(a1), _mm256_castsi256_ps(b1), sum)
        }
    }
    #[inline(always)]
    fn spread_int8(self, b: __m256i) -> [__m256i; 2] {
        if VNNI {
            return [b, b];
        }
        // Even and odd bytes, as signed 16-bit integers: `vpmaddubsw` on bytes would saturate.
        unsafe { [_mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(b)), _mm256_srai_epi16::<8>(b)] }
    }
    #[inline(always)]
    unsafe fn splat_int8(self, p: *const f32) -> [__m256i; 2] {
        unsafe {
            let first = self.splat_word(p);
            [first, if VNNI { first } else { self.splat_word(p.add(1)) }]
        }
    }
    #[inline(always)]
    fn dot_int8(self, a: [__m256i; 2], b: [__m256i; 2], sum: __m256i) -> __m256i {
        unsafe {
            if VNNI {
                return _mm256_dpbusd_avx_epi32(sum, a[0], b[0]);
            }
            let sum = _mm256_add_epi32(sum, _mm256_madd_epi16(a[0], b[0]));
            _mm256_add_epi32(sum, _mm256_madd_epi16(a[1], b[1]))
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
