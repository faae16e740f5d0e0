//! AVX-512 F, BW, VL and DQ: sixteen lanes, 32 registers.

use super::{Kernel, Simd};
use std::arch::x86_64::*;

/// Proof that the machine has the instructions, and `DOTS` beside them.
#[derive(Clone, Copy)]
pub(crate) struct Avx512<const DOTS: u8>(());

const NONE: u8 = 0;
const BF16: u8 = 1;
const VNNI: u8 = 2;

/// Compiles `kernel` with the instructions.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")]
pub(super) fn run<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx512::<NONE>(()))
}

/// Compiles `kernel` with the instructions and those for bf16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx2,fma,f16c")]
pub(super) fn run_bf16<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx512::<BF16>(()))
}

/// Compiles `kernel` with the instructions and those for 8-bit integers.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
pub(super) fn run_vnni<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx512::<VNNI>(()))
}

#[inline(always)]
fn first(count: usize) -> __mmask16 {
    ((1_u32 << count) - 1) as __mmask16
}

// SAFETY of every block below: an `Avx512` exists only inside the functions above, so the machine has the instructions; what pointers point at is
// the caller's promise in the contract of the trait.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one reason for all, above")]
impl<const DOTS: u8> Simd for Avx512<DOTS> {
    type V = __m512;
    type W = __m512i;
    const LANES: usize = 16;
    const TILE: usize = 14;
    const TILE_BF16: usize = if DOTS == BF16 { 14 } else { 12 };
    const TILE_INT8: usize = if DOTS == VNNI { 14 } else { 12 };
    const WORDS_INT8: usize = if DOTS == VNNI { 1 } else { 2 };
    const OFFSET_INT8: u8 = 0;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    fn prefetch<T>(self, p: *const T) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m512) {
        unsafe { _mm512_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn load_first(self, p: *const f32, count: usize) -> __m512 {
        unsafe { _mm512_maskz_loadu_ps(first(count), p) }
    }
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, count: usize, v: __m512) {
        unsafe { _mm512_mask_storeu_ps(p, first(count), v) }
    }
    #[inline(always)]
    unsafe fn load_f16(self, p: *const u16) -> __m512 {
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) }
    }
    #[inline(always)]
    unsafe fn load_i8(self, p: *const i8) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast()))) }
    }
    #[inline(always)]
    unsafe fn transpose(self, from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        unsafe {
            let mut r = [self.zero(); 16];
            for (i, row) in r.iter_mut().enumerate() {
                *row = _mm512_loadu_ps(from.add(i * from_stride));
            }
            // Squares of 4 within each 128-bit quarter, then two rounds that exchange quarters.
            let mut t = [self.zero(); 16];
            for i in 0..4 {
                let (a, b, c, d) = (r[4 * i], r[4 * i + 1], r[4 * i + 2], r[4 * i + 3]);
                let ab_low = _mm512_castps_pd(_mm512_unpacklo_ps(a, b));
                let ab_high = _mm512_castps_pd(_mm512_unpackhi_ps(a, b));
                let cd_low = _mm512_castps_pd(_mm512_unpacklo_ps(c, d));
                let cd_high = _mm512_castps_pd(_mm512_unpackhi_ps(c, d));
                t[4 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(ab_low, cd_low));
                t[4 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(ab_low, cd_low));
                t[4 * i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(ab_high, cd_high));
                t[4 * i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(ab_high, cd_high));
            }
            for j in 0..4 {
                let (a, b, c, d) = (t[j], t[4 + j], t[8 + j], t[12 + j]);
                let ab_even = _mm512_shuffle_f32x4::<0x88>(a, b);
                let ab_odd = _mm512_shuffle_f32x4::<0xdd>(a, b);
                let cd_even = _mm512_shuffle_f32x4::<0x88>(c, d);
                let cd_odd = _mm512_shuffle_f32x4::<0xdd>(c, d);
                self.store(to.add(j * to_stride), _mm512_shuffle_f32x4::<0x88>(ab_even, cd_even));
                self.store(to.add((4 + j) * to_stride), _mm512_shuffle_f32x4::<0x88>(ab_odd, cd_odd));
                self.store(to.add((8 + j) * to_stride), _mm512_shuffle_f32x4::<0xdd>(ab_even, cd_even));
                self.store(to.add((12 + j) * to_stride), _mm512_shuffle_f32x4::<0xdd>(ab_odd, cd_odd));
            }
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut u16, v: __m512) {
        unsafe {
            if DOTS == BF16 {
                // The intrinsic's own type: a vector of 16 bf16, the same bits.
                _mm256_storeu_si256(p.cast(), std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(v)));
                return;
            }
            let bits = _mm512_castps_si512(v);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
            let rounded = _mm512_srli_epi32::<16>(rounded);
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v);
            let rounded = _mm512_mask_blend_epi32(nan, rounded, _mm512_set1_epi32(0x7fc0));
            _mm256_storeu_si256(p.cast(), _mm512_cvtepi32_epi16(rounded));
        }
    }
    #[inline(always)]
    unsafe fn load_words(self, p: *const f32) -> __m512i {
        unsafe { _mm512_loadu_si512(p.cast()) }
    }
    #[inline(always)]
    unsafe fn store_words(self, p: *mut f32, w: __m512i) {
        unsafe { _mm512_storeu_si512(p.cast(), w) }
    }
    #[inline(always)]
    unsafe fn splat_word(self, p: *const f32) -> __m512i {
        unsafe { _mm512_set1_epi32(*p.cast::<i32>()) }
    }
    #[inline(always)]
    fn words_to_f32(self, w: __m512i) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(w) }
    }
    #[inline(always)]
    fn zero_words(self) -> __m512i {
        unsafe { _mm512_setzero_si512() }
    }
    #[inline(always)]
    fn dot_bf16(self, a: __m512i, b: __m512i, sum: __m512) -> __m512 {
        unsafe {
            if DOTS == BF16 {
                // The intrinsic's own types: vectors of 32 bf16, the same bits.
                return _mm512_dpbf16_ps(
                    sum,
                    std::mem::transmute::<__m512i, __m512bh>(a),
                    std::mem::transmute::<__m512i, __m512bh>(b),
                );
            }
            let high = _mm512_set1_epi32(0xffff_0000_u32 as i32);
            let (a0, a1) = (_mm512_slli_epi32::<16>(a), _mm512_and_si512(a, high));
            let (b0, b1) = (_mm512_slli_epi32::<16>(b), _mm512_and_si512(b, high));
            let sum = _mm512_fmadd_ps(_mm512_castsi512_ps(a0), _mm512_castsi512_ps(b0), sum);
            _mm512_fmadd_ps(_mm512_castsi512_ps(a1), _mm512_castsi512_ps(b1), sum)
        }
    }
    #[inline(always)]
    fn spread_int8(self, b: __m512i) -> [__m512i; 2] {
        if DOTS == VNNI {
            return [b, b];
        }
        // Even and odd bytes, as signed 16-bit integers.
        unsafe { [_mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(b)), _mm512_srai_epi16::<8>(b)] }
    }
    #[inline(always)]
    unsafe fn splat_int8(self, p: *const f32) -> [__m512i; 2] {
        unsafe {
            let first = self.splat_word(p);
            [first, if DOTS == VNNI { first } else { self.splat_word(p.add(1)) }]
        }
    }
    #[inline(always)]
    fn dot_int8(self, a: [__m512i; 2], b: [__m512i; 2], sum: __m512i) -> __m512i {
        unsafe {
            if DOTS == VNNI {
                return _mm512_dpbusd_epi32(sum, a[0], b[0]);
            }
            let sum = _mm512_add_epi32(sum, _mm512_madd_epi16(a[0], b[0]));
            _mm512_add_epi32(sum, _mm512_madd_epi16(a[1], b[1]))
        }
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    fn abs(self, a: __m512) -> __m512 {
        unsafe { _mm512_abs_ps(a) }
    }
    #[inline(always)]
    fn copysign(self, a: __m512, b: __m512) -> __m512 {
        unsafe {
            let sign = _mm512_set1_ps(-0.0);
            _mm512_or_ps(_mm512_andnot_ps(sign, a), _mm512_and_ps(sign, b))
        }
    }
    #[inline(always)]
    fn round(self, a: __m512) -> __m512 {
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }
    #[inline(always)]
    fn scale(self, a: __m512, n: __m512) -> __m512 {
        unsafe { _mm512_scalef_ps(a, n) }
    }
    #[inline(always)]
    fn where_less(self, a: __m512, b: __m512, x: __m512, y: __m512) -> __m512 {
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), y, x) }
    }
    #[inline(always)]
    fn keep(self, a: __m512, count: usize, rest: __m512) -> __m512 {
        unsafe { _mm512_mask_blend_ps(first(count), rest, a) }
    }
    #[inline(always)]
    fn sum(self, a: __m512) -> f32 {
        unsafe { _mm512_reduce_add_ps(a) }
    }
    #[inline(always)]
    fn largest(self, a: __m512) -> f32 {
        unsafe { _mm512_reduce_max_ps(a) }
    }
}
