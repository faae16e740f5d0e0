//! Scores of vectors of one bit or one byte a component with one query: what a search reads all of them for.
//!
//! Each byte is read once. Over 192 MB of codes in rows of 32 to 768 bytes a core of a Zen 5 scores 16 to 28 GB/s and two score 22 to 36,
//! where a loop that only sums the bytes takes 28 to 36 with one core: a search over more than the caches hold takes about the time of
//! reading it. Integers are summed exactly: every variant gives the same bits.

#[cfg(target_arch = "x86_64")]
mod x86;

use crate::parts::split_rows;
use crate::{Isa, Pool};

/// The most bytes of a row of [`byte_scores`], so that a sum of products below 255 * 128 fits 32 bits.
pub const MOST_BYTES: usize = 1 << 16;

/// `out[i] = 1 - 2 h / dim`, `h` being the bits in which row `i` of `codes` differs from `query`: the cosine of two vectors of `dim`
/// signs. `codes` is `[out.len(), query.len()]`. Bits that are no component are alike in all rows.
///
/// # Panics
/// Where `codes` is not of that size.
pub fn bit_scores(pool: &Pool, codes: &[u8], query: &[u8], dim: usize, out: &mut [f32]) {
    bit_scores_by(Counting::of(Isa::active())[0], pool, codes, query, dim, out);
}

fn bit_scores_by(by: Counting, pool: &Pool, codes: &[u8], query: &[u8], dim: usize, out: &mut [f32]) {
    let score = |differing: u32| 1.0 - 2.0 * differing as f32 / dim as f32;
    each_block(pool, codes, query.len(), out, &|codes, out| match by {
        Counting::Portable => rows(codes, query.len(), out, |row| score(differing(row, query))),
        // SAFETY: the machine has the instruction, by `Counting::of`.
        #[cfg(target_arch = "x86_64")]
        Counting::Popcnt => unsafe { x86::count_popcnt(codes, query, out, score) },
        // SAFETY: the machine has the instructions, by `Counting::of`.
        #[cfg(target_arch = "x86_64")]
        Counting::Avx512Vpopcnt => unsafe { x86::count_vpopcnt(codes, query, out, score) },
    });
}

/// What 8 bits of a vector stand for: `base + scale Σ factors[c] u[c]`, `u[c]` being byte `c` with the bits of `flip` changed, 0 to
/// 255.
#[derive(Clone, Copy, Debug)]
pub struct Bytes<'a> {
    /// What the bytes are multiplied with, one a component.
    pub factors: &'a [i8],
    /// What is changed in every byte: 0x80 for signed ones.
    pub flip: u8,
    /// What the sum of products is multiplied with.
    pub scale: f32,
    /// What is added.
    pub base: f32,
}

/// The score of each row of `codes`, `[out.len(), query.factors.len()]`.
///
/// # Panics
/// Where `codes` is not of that size, or a row has more than [`MOST_BYTES`].
pub fn byte_scores(pool: &Pool, codes: &[u8], query: &Bytes<'_>, out: &mut [f32]) {
    byte_scores_by(Multiplying::of(Isa::active())[0], pool, codes, query, out);
}

fn byte_scores_by(by: Multiplying, pool: &Pool, codes: &[u8], query: &Bytes<'_>, out: &mut [f32]) {
    let Bytes { factors, flip, scale, base } = *query;
    assert!(factors.len() <= MOST_BYTES, "a row has at most {MOST_BYTES} bytes, found {}", factors.len());
    let score = |sum: i32| base + scale * sum as f32;
    each_block(pool, codes, factors.len(), out, &|codes, out| match by {
        Multiplying::Portable => rows(codes, factors.len(), out, |row| score(product(row, factors, flip))),
        // SAFETY: the machine has the instructions, by `Multiplying::of`.
        #[cfg(target_arch = "x86_64")]
        Multiplying::Avx2 => unsafe { x86::multiply_avx2(codes, factors, flip, out, score) },
        // SAFETY: the machine has the instructions, by `Multiplying::of`.
        #[cfg(target_arch = "x86_64")]
        Multiplying::Avx512Vnni => unsafe { x86::multiply_vnni(codes, factors, flip, out, score) },
    });
}

/// How bits are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counting {
    /// As the compiler does it: on AArch64 with `cnt`.
    Portable,
    #[cfg(target_arch = "x86_64")]
    Popcnt,
    #[cfg(target_arch = "x86_64")]
    Avx512Vpopcnt,
}

impl Counting {
    /// What this machine has at a level, best first.
    fn of(isa: Isa) -> Vec<Self> {
        let mut ways = Vec::new();
        #[cfg(target_arch = "x86_64")]
        if isa >= Isa::Avx2 && isa.is_available() && is_x86_feature_detected!("popcnt") {
            if isa == Isa::Avx512 && is_x86_feature_detected!("avx512vpopcntdq") {
                ways.push(Self::Avx512Vpopcnt);
            }
            ways.push(Self::Popcnt);
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = isa;
        ways.push(Self::Portable);
        ways
    }
}

/// How bytes are multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Multiplying {
    /// As the compiler does it: on AArch64 with `smlal`.
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
}

impl Multiplying {
    /// What this machine has at a level, best first.
    fn of(isa: Isa) -> Vec<Self> {
        let mut ways = Vec::new();
        #[cfg(target_arch = "x86_64")]
        if isa >= Isa::Avx2 && isa.is_available() {
            if isa.dots(crate::Numbers::Int8) == Some(crate::Dots::Avx512Vnni) {
                ways.push(Self::Avx512Vnni);
            }
            ways.push(Self::Avx2);
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = isa;
        ways.push(Self::Portable);
        ways
    }
}

/// Calls `f` with blocks of rows and their scores, in parallel.
///
/// # Panics
/// Where there is not a row of `width` bytes for each of `out`.
fn each_block(pool: &Pool, codes: &[u8], width: usize, out: &mut [f32], f: &(dyn Fn(&[u8], &mut [f32]) + Sync)) {
    assert_eq!(Some(codes.len()), width.checked_mul(out.len()), "a row of {width} bytes for each score");
    // A byte is an eighth of the work of a number.
    split_rows(pool, out, 1, width.div_ceil(8), &|first, out| {
        f(&codes[first * width..(first + out.len()) * width], out);
    });
}

/// `score` of each row of `width` bytes.
#[inline(always)]
fn rows(codes: &[u8], width: usize, out: &mut [f32], score: impl Fn(&[u8]) -> f32) {
    for (i, out) in out.iter_mut().enumerate() {
        *out = score(&codes[i * width..(i + 1) * width]);
    }
}

/// The number of bits that differ.
#[inline(always)]
fn differing(a: &[u8], b: &[u8]) -> u32 {
    let (a, rest_a) = a.as_chunks::<8>();
    let (b, rest_b) = b.as_chunks::<8>();
    let words = a.iter().zip(b).map(|(&a, &b)| (u64::from_le_bytes(a) ^ u64::from_le_bytes(b)).count_ones());
    words.sum::<u32>() + rest_a.iter().zip(rest_b).map(|(a, b)| (a ^ b).count_ones()).sum::<u32>()
}

/// `Σ factors[c] (row[c] ^ flip)`.
#[inline(always)]
fn product(row: &[u8], factors: &[i8], flip: u8) -> i32 {
    row.iter().zip(factors).map(|(&b, &f)| i32::from(b ^ flip) * i32::from(f)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::{bits, each_isa, pools};
    use embral_testkit::oracle;

    fn bytes(seed: u64, count: usize) -> Vec<u8> {
        oracle::numbers(seed, count).iter().map(|x| (x.to_bits() >> 9) as u8).collect()
    }

    /// Every tail of 8, 16, 32 and 64 bytes, and the widths of common models.
    fn widths() -> impl Iterator<Item = usize> {
        (0..=130).chain([256, 384, 768, 1024])
    }

    #[test]
    fn every_way_counts_the_bits_that_differ() {
        each_isa("bit scores", |isa| {
            for width in widths() {
                let (codes, query) = (bytes(1, 9 * width), bytes(2, width));
                let dim = 8 * width.max(1);
                let wanted: Vec<f32> = (0..9)
                    .map(|row| {
                        let differing = |bit: usize| {
                            let of = |bytes: &[u8]| bytes[bit / 8] >> (bit % 8) & 1;
                            of(&codes[row * width..(row + 1) * width]) != of(&query)
                        };
                        1.0 - 2.0 * (0..8 * width).filter(|&bit| differing(bit)).count() as f32 / dim as f32
                    })
                    .collect();
                for by in Counting::of(isa) {
                    let mut out = vec![f32::NAN; 9];
                    bit_scores_by(by, &Pool::shared(Some(1)), &codes, &query, dim, &mut out);
                    assert_eq!(bits(&out), bits(&wanted), "{by:?} {width}");
                }
            }
        });
    }

    #[test]
    fn every_way_sums_the_products_exactly() {
        each_isa("byte scores", |isa| {
            for (flip, extreme) in [(0, false), (0x80, false), (0, true), (0x80, true)] {
                for width in widths().chain([MOST_BYTES]) {
                    let (mut codes, mut factors) = (bytes(3, 3 * width), bytes(4, width));
                    if extreme {
                        codes.fill(255 ^ flip);
                        factors.fill(128);
                    }
                    let factors: Vec<i8> = factors.into_iter().map(u8::cast_signed).collect();
                    let query = Bytes { factors: &factors, flip, scale: 0.5, base: 2.0 };
                    let wanted: Vec<f32> = (0..3)
                        .map(|row| {
                            let row = &codes[row * width..(row + 1) * width];
                            let sum: i64 =
                                row.iter().zip(&factors).map(|(b, &f)| i64::from(b ^ flip) * i64::from(f)).sum();
                            2.0 + 0.5 * sum as f32
                        })
                        .collect();
                    for by in Multiplying::of(isa) {
                        let mut out = vec![f32::NAN; 3];
                        byte_scores_by(by, &Pool::shared(Some(1)), &codes, &query, &mut out);
                        assert_eq!(bits(&out), bits(&wanted), "{by:?} {width} {flip} {extreme}");
                    }
                }
            }
        });
    }

    #[test]
    fn a_row_has_its_score_at_any_place_and_thread_count() {
        let (width, count) = (48, 9000);
        let (codes, query) = (bytes(5, count * width), bytes(6, width));
        let factors: Vec<i8> = query.iter().map(|b| b.cast_signed()).collect();
        let eight = Bytes { factors: &factors, flip: 0x80, scale: 0.1, base: -3.0 };
        for pool in pools() {
            let mut out = [vec![0.0; count], vec![0.0; count]];
            bit_scores(&pool, &codes, &query, 8 * width, &mut out[0]);
            byte_scores(&pool, &codes, &eight, &mut out[1]);
            for row in [0, 1, 4321, count - 1] {
                let mut alone = [[0.0], [0.0]];
                bit_scores(&pool, &codes[row * width..(row + 1) * width], &query, 8 * width, &mut alone[0]);
                byte_scores(&pool, &codes[row * width..(row + 1) * width], &eight, &mut alone[1]);
                assert_eq!(alone, [[out[0][row]], [out[1][row]]]);
            }
        }
    }

    #[test]
    #[should_panic(expected = "a row of 3 bytes for each score")]
    fn codes_of_another_size_are_refused() {
        bit_scores(&Pool::shared(Some(1)), &[0; 7], &[0; 3], 24, &mut [0.0; 2]);
    }

    #[test]
    #[should_panic(expected = "at most 65536 bytes")]
    fn rows_whose_sums_would_not_fit_are_refused() {
        let query = Bytes { factors: &[0; MOST_BYTES + 1], flip: 0, scale: 1.0, base: 0.0 };
        byte_scores(&Pool::shared(Some(1)), &[], &query, &mut []);
    }
}
