//! The variants of x86-64.

use super::{differing, rows};
use std::arch::x86_64::*;

/// With the instruction that counts the bits of 64.
#[target_feature(enable = "avx2,popcnt")]
pub(super) fn count_popcnt(codes: &[u8], query: &[u8], out: &mut [f32], score: impl Fn(u32) -> f32) {
    rows(codes, query.len(), out, |row| score(differing(row, query)));
}

/// With the instruction that counts the bits of eight times 64.
#[target_feature(enable = "avx512f,avx512bw,avx512vpopcntdq,popcnt")]
pub(super) fn count_vpopcnt(codes: &[u8], query: &[u8], out: &mut [f32], score: impl Fn(u32) -> f32) {
    rows(codes, query.len(), out, |row| {
        let mut sum = _mm512_setzero_si512();
        for (a, b) in row.chunks(64).zip(query.chunks(64)) {
            let differing = _mm512_xor_si512(first_64(a), first_64(b));
            sum = _mm512_add_epi64(sum, _mm512_popcnt_epi64(differing));
        }
        score(_mm512_reduce_add_epi64(sum) as u32)
    });
}

/// With products of 16-bit integers, whose sums of two never leave 32 bits.
#[target_feature(enable = "avx2")]
pub(super) fn multiply_avx2(codes: &[u8], factors: &[i8], flip: u8, out: &mut [f32], score: impl Fn(i32) -> f32) {
    let flips = _mm_set1_epi8(flip.cast_signed());
    rows(codes, factors.len(), out, |row| {
        let (row, rest) = row.as_chunks::<16>();
        let (whole, rest_factors) = factors.as_chunks::<16>();
        let mut sum = _mm256_setzero_si256();
        for (codes, factors) in row.iter().zip(whole) {
            // SAFETY: 16 bytes of each.
            let (codes, factors) =
                unsafe { (_mm_loadu_si128(codes.as_ptr().cast()), _mm_loadu_si128(factors.as_ptr().cast())) };
            let codes = _mm256_cvtepu8_epi16(_mm_xor_si128(codes, flips));
            sum = _mm256_add_epi32(sum, _mm256_madd_epi16(codes, _mm256_cvtepi8_epi16(factors)));
        }
        let half = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
        let quarter = _mm_add_epi32(half, _mm_shuffle_epi32::<0b01_00_11_10>(half));
        let one = _mm_add_epi32(quarter, _mm_shuffle_epi32::<0b10_11_00_01>(quarter));
        score(_mm_cvtsi128_si32(one) + super::product(rest, rest_factors, flip))
    });
}

/// With the instruction that multiplies and adds four bytes in each of sixteen lanes.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn multiply_vnni(codes: &[u8], factors: &[i8], flip: u8, out: &mut [f32], score: impl Fn(i32) -> f32) {
    let flips = _mm512_set1_epi8(flip.cast_signed());
    rows(codes, factors.len(), out, |row| {
        let mut sum = _mm512_setzero_si512();
        for (codes, factors) in row.chunks(64).zip(factors.chunks(64)) {
            // Behind the last byte a factor is 0, whatever the code has become.
            sum = _mm512_dpbusd_epi32(sum, _mm512_xor_si512(first_64(codes), flips), first_64(factors));
        }
        score(_mm512_reduce_add_epi32(sum))
    });
}

/// Up to 64 bytes, and 0 behind them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn first_64<T: Byte>(bytes: &[T]) -> __m512i {
    let mask = if bytes.len() < 64 { (1 << bytes.len()) - 1 } else { !0 };
    // SAFETY: only bytes that the slice has are read.
    unsafe { _mm512_maskz_loadu_epi8(mask, bytes.as_ptr().cast()) }
}

/// Types of one byte.
trait Byte: Copy {}
impl Byte for u8 {}
impl Byte for i8 {}
