//! The variants of x86-64. What is left of a row behind its whole vectors is done in smaller steps: a load under a mask costs tens of
//! nanoseconds on a Zen 5.

use super::{differing, product};
use std::arch::x86_64::*;

/// With the instruction that counts the bits of 64.
#[target_feature(enable = "popcnt")]
pub(super) fn count_popcnt(codes: &[u8], query: &[u8], out: &mut [f32], score: impl Fn(u32) -> f32) {
    // The bits of 256, 384, 512 and 768 components: the sum of a row is a few instructions where their number is known.
    match query.len() {
        32 => count_words::<4>(codes, query, out, score),
        48 => count_words::<6>(codes, query, out, score),
        64 => count_words::<8>(codes, query, out, score),
        96 => count_words::<12>(codes, query, out, score),
        width => {
            for (i, out) in out.iter_mut().enumerate() {
                *out = score(differing(&codes[i * width..(i + 1) * width], query));
            }
        }
    }
}

/// Of rows of `WORDS` times 64 bits.
#[target_feature(enable = "popcnt")]
fn count_words<const WORDS: usize>(codes: &[u8], query: &[u8], out: &mut [f32], score: impl Fn(u32) -> f32) {
    let words = |row: &[u8]| -> [u64; WORDS] {
        let (words, _) = row.as_chunks::<8>();
        std::array::from_fn(|i| u64::from_le_bytes(words[i]))
    };
    let query = words(query);
    for (row, out) in codes.chunks_exact(8 * WORDS).zip(out) {
        let row = words(row);
        *out = score((0..WORDS).map(|i| (row[i] ^ query[i]).count_ones()).sum());
    }
}

/// With the instruction that counts the bits of eight times 64.
#[target_feature(enable = "avx512f,avx512vpopcntdq,popcnt")]
pub(super) fn count_vpopcnt(codes: &[u8], query: &[u8], out: &mut [f32], score: impl Fn(u32) -> f32) {
    let width = query.len();
    if width <= 96 {
        return count_popcnt(codes, query, out, score);
    }
    let whole = width / 64 * 64;
    for (i, out) in out.iter_mut().enumerate() {
        let row = &codes[i * width..(i + 1) * width];
        let mut sum = _mm512_setzero_si512();
        for at in (0..whole).step_by(64) {
            // SAFETY: row and query have 64 bytes from `at` on.
            let (a, b) = unsafe {
                (_mm512_loadu_si512(row.as_ptr().add(at).cast()), _mm512_loadu_si512(query.as_ptr().add(at).cast()))
            };
            sum = _mm512_add_epi64(sum, _mm512_popcnt_epi64(_mm512_xor_si512(a, b)));
        }
        *out = score(_mm512_reduce_add_epi64(sum) as u32 + differing(&row[whole..], &query[whole..]));
    }
}

/// With products of 16-bit integers, whose sums of two never leave 32 bits.
#[target_feature(enable = "avx2")]
pub(super) fn multiply_avx2(codes: &[u8], factors: &[i8], flip: u8, out: &mut [f32], score: impl Fn(i32) -> f32) {
    let width = factors.len();
    for (i, out) in out.iter_mut().enumerate() {
        *out = score(product_avx2(&codes[i * width..(i + 1) * width], factors, flip));
    }
}

/// With the instruction that multiplies and adds four bytes in each of sixteen lanes.
#[target_feature(enable = "avx512f,avx512vnni,avx2")]
pub(super) fn multiply_vnni(codes: &[u8], factors: &[i8], flip: u8, out: &mut [f32], score: impl Fn(i32) -> f32) {
    let width = factors.len();
    let whole = width / 64 * 64;
    let flips = _mm512_set1_epi8(flip.cast_signed());
    for (i, out) in out.iter_mut().enumerate() {
        let row = &codes[i * width..(i + 1) * width];
        let mut sum = _mm512_setzero_si512();
        for at in (0..whole).step_by(64) {
            // SAFETY: row and factors have 64 bytes from `at` on.
            let (codes, factors) = unsafe {
                (_mm512_loadu_si512(row.as_ptr().add(at).cast()), _mm512_loadu_si512(factors.as_ptr().add(at).cast()))
            };
            sum = _mm512_dpbusd_epi32(sum, _mm512_xor_si512(codes, flips), factors);
        }
        *out = score(_mm512_reduce_add_epi32(sum) + product_avx2(&row[whole..], &factors[whole..], flip));
    }
}

/// [`product`] in steps of 16 bytes.
#[inline]
#[target_feature(enable = "avx2")]
fn product_avx2(row: &[u8], factors: &[i8], flip: u8) -> i32 {
    let flips = _mm_set1_epi8(flip.cast_signed());
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
    _mm_cvtsi128_si32(one) + product(rest, rest_factors, flip)
}
