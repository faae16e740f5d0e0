//! The numbers a product is made of: how they lie in words of 32 bits, and how a word is multiplied.
//!
//! A word is one f32, two bf16 or four 8-bit integers, neighbours in `k`. So blocks of rows and panels of weights have one layout
//! for all formats, `k` counted in words, and the micro-kernel differs in nothing but the instruction.

use super::{DEPTH, STRIDE};
use crate::simd::{Simd, to_bf16};

/// A format.
pub(crate) trait Format: Copy + Send + Sync + 'static {
    /// Values of `k` in a word.
    const VALUES: usize;
    /// Whether a function of the result need be no more exact than 1e-4: what reads it rounds it to fewer digits.
    const COARSE: bool = true;
    /// Sums of a vector of columns.
    type Sum<S: Simd>: Copy;
    /// A word of a row, in all lanes.
    type Left<S: Simd>: Copy;
    /// A word of each column of a vector.
    type Right<S: Simd>: Copy;

    /// Rows of the largest tile.
    fn tile<S: Simd>() -> usize;
    /// Words of a row for each word of a column.
    fn spread<S: Simd>() -> usize {
        1
    }
    fn zero<S: Simd>(s: S) -> Self::Sum<S>;
    /// # Safety
    /// `spread` words can be read at `p`.
    unsafe fn left<S: Simd>(s: S, p: *const f32) -> Self::Left<S>;
    /// # Safety
    /// A vector can be read at `p`.
    unsafe fn right<S: Simd>(s: S, p: *const f32) -> Self::Right<S>;
    fn add_product<S: Simd>(s: S, a: Self::Left<S>, b: Self::Right<S>, sum: Self::Sum<S>) -> Self::Sum<S>;
    /// # Safety
    /// A vector can be written at `p`.
    unsafe fn store<S: Simd>(s: S, p: *mut f32, sum: Self::Sum<S>);

    /// Copies row `row` of a tile of `rows` to its blocks.
    ///
    /// # Safety
    /// `to` has the blocks of a row of `x.len()` values, and `row < rows`.
    unsafe fn pack_row<S: Simd>(s: S, x: &[f32], rows: usize, row: usize, to: *mut f32) -> Scale;

    /// What was stored.
    ///
    /// # Safety
    /// A vector can be read at `p`.
    unsafe fn load<S: Simd>(s: S, p: *const f32) -> Self::Sum<S>;
    /// A sum plus `bias`, as f32. `columns` are the steps of the columns, and the sums of their weights.
    fn value<S: Simd>(s: S, sum: Self::Sum<S>, row: Scale, columns: [S::V; 2], bias: S::V) -> S::V;
}

/// What the integers of a row stand for: `x = step (q + shift)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scale {
    pub(crate) step: f32,
    pub(crate) shift: f32,
}

impl Scale {
    const ONE: Self = Self { step: 1.0, shift: 0.0 };
}

/// Words that a row of `k` values takes in the blocks.
pub(crate) fn row_words<S: Simd, F: Format>(k: usize) -> usize {
    k.div_ceil(F::VALUES) * F::spread::<S>()
}

/// Single precision.
#[derive(Clone, Copy)]
pub(crate) struct F32;

impl Format for F32 {
    const VALUES: usize = 1;
    const COARSE: bool = false;
    type Sum<S: Simd> = S::V;
    type Left<S: Simd> = S::V;
    type Right<S: Simd> = S::V;

    #[inline(always)]
    fn tile<S: Simd>() -> usize {
        S::TILE
    }
    #[inline(always)]
    fn zero<S: Simd>(s: S) -> S::V {
        s.zero()
    }
    #[inline(always)]
    unsafe fn left<S: Simd>(s: S, p: *const f32) -> S::V {
        // SAFETY: the caller's promise.
        s.splat(unsafe { *p })
    }
    #[inline(always)]
    unsafe fn right<S: Simd>(s: S, p: *const f32) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { s.load(p) }
    }
    #[inline(always)]
    fn add_product<S: Simd>(s: S, a: S::V, b: S::V, sum: S::V) -> S::V {
        s.fma(a, b, sum)
    }
    #[inline(always)]
    unsafe fn store<S: Simd>(s: S, p: *mut f32, sum: S::V) {
        // SAFETY: the caller's promise.
        unsafe { s.store(p, sum) }
    }
    #[inline(always)]
    unsafe fn pack_row<S: Simd>(_: S, x: &[f32], rows: usize, row: usize, to: *mut f32) -> Scale {
        for (block, part) in x.chunks(DEPTH).enumerate() {
            // SAFETY: block and row are within what the caller promised.
            unsafe { std::ptr::copy_nonoverlapping(part.as_ptr(), to.add((block * rows + row) * STRIDE), part.len()) }
        }
        Scale::ONE
    }
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const f32) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { s.load(p) }
    }
    #[inline(always)]
    fn value<S: Simd>(s: S, sum: S::V, _: Scale, _: [S::V; 2], bias: S::V) -> S::V {
        s.add(sum, bias)
    }
}

/// bf16, summed in f32.
#[derive(Clone, Copy)]
pub(crate) struct Bf16;

impl Format for Bf16 {
    const VALUES: usize = 2;
    type Sum<S: Simd> = S::V;
    type Left<S: Simd> = S::W;
    type Right<S: Simd> = S::W;

    #[inline(always)]
    fn tile<S: Simd>() -> usize {
        S::TILE_BF16
    }
    #[inline(always)]
    fn zero<S: Simd>(s: S) -> S::V {
        s.zero()
    }
    #[inline(always)]
    unsafe fn left<S: Simd>(s: S, p: *const f32) -> S::W {
        // SAFETY: the caller's promise.
        unsafe { s.splat_word(p) }
    }
    #[inline(always)]
    unsafe fn right<S: Simd>(s: S, p: *const f32) -> S::W {
        // SAFETY: the caller's promise.
        unsafe { s.load_words(p) }
    }
    #[inline(always)]
    fn add_product<S: Simd>(s: S, a: S::W, b: S::W, sum: S::V) -> S::V {
        s.dot_bf16(a, b, sum)
    }
    #[inline(always)]
    unsafe fn store<S: Simd>(s: S, p: *mut f32, sum: S::V) {
        // SAFETY: the caller's promise.
        unsafe { s.store(p, sum) }
    }
    #[inline(always)]
    unsafe fn pack_row<S: Simd>(s: S, x: &[f32], rows: usize, row: usize, to: *mut f32) -> Scale {
        for (block, part) in x.chunks(DEPTH * Self::VALUES).enumerate() {
            // SAFETY: block and row are within what the caller promised, and a part is at most DEPTH words.
            let words = unsafe { to.add((block * rows + row) * STRIDE) };
            // SAFETY: as above; every word of the part is written before its halves are borrowed.
            let halves = unsafe {
                *words.add((part.len() - 1) / Self::VALUES) = 0.0;
                std::slice::from_raw_parts_mut(words.cast::<u16>(), part.len())
            };
            let (whole, last) = part.split_at(part.len() / S::LANES * S::LANES);
            for (to, from) in halves.chunks_exact_mut(S::LANES).zip(whole.chunks_exact(S::LANES)) {
                // SAFETY: a vector of each.
                unsafe { s.store_bf16(to.as_mut_ptr(), s.load(from.as_ptr())) };
            }
            for (to, &x) in halves[whole.len()..].iter_mut().zip(last) {
                *to = to_bf16(x);
            }
        }
        Scale::ONE
    }
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const f32) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { s.load(p) }
    }
    #[inline(always)]
    fn value<S: Simd>(s: S, sum: S::V, _: Scale, _: [S::V; 2], bias: S::V) -> S::V {
        s.add(sum, bias)
    }
}

/// 8-bit integers, summed in 32 bits: a row has its own step and zero, a column of weights its own step.
#[derive(Clone, Copy)]
pub(crate) struct Int8;

/// Added to a float below 2^22, leaves its nearest integer in the low bits.
const ROUND: f32 = 12_582_912.0;

impl Format for Int8 {
    const VALUES: usize = 4;
    type Sum<S: Simd> = S::W;
    type Left<S: Simd> = [S::W; 2];
    type Right<S: Simd> = [S::W; 2];

    #[inline(always)]
    fn tile<S: Simd>() -> usize {
        S::TILE_INT8
    }
    #[inline(always)]
    fn spread<S: Simd>() -> usize {
        S::WORDS_INT8
    }
    #[inline(always)]
    fn zero<S: Simd>(s: S) -> S::W {
        s.zero_words()
    }
    #[inline(always)]
    unsafe fn left<S: Simd>(s: S, p: *const f32) -> [S::W; 2] {
        // SAFETY: the caller's promise.
        unsafe { s.splat_int8(p) }
    }
    #[inline(always)]
    unsafe fn right<S: Simd>(s: S, p: *const f32) -> [S::W; 2] {
        // SAFETY: the caller's promise.
        s.spread_int8(unsafe { s.load_words(p) })
    }
    #[inline(always)]
    fn add_product<S: Simd>(s: S, a: [S::W; 2], b: [S::W; 2], sum: S::W) -> S::W {
        s.dot_int8(a, b, sum)
    }
    #[inline(always)]
    unsafe fn store<S: Simd>(s: S, p: *mut f32, sum: S::W) {
        // SAFETY: the caller's promise.
        unsafe { s.store_words(p, sum) }
    }
    #[inline(always)]
    unsafe fn pack_row<S: Simd>(s: S, x: &[f32], rows: usize, row: usize, to: *mut f32) -> Scale {
        let (scale, inverse) = range(s, x);
        let shift = ROUND - scale.shift;
        let block_words = DEPTH / S::WORDS_INT8;
        for (block, part) in x.chunks(block_words * Self::VALUES).enumerate() {
            // SAFETY: block and row are within what the caller promised, and a part is at most DEPTH words.
            let words = unsafe { to.add((block * rows + row) * STRIDE) };
            let count = part.len().div_ceil(Self::VALUES);
            // SAFETY: as above; the last word is written before the bytes are borrowed.
            let bytes = unsafe {
                *words.add(count - 1) = 0.0;
                std::slice::from_raw_parts_mut(words.cast::<u8>(), part.len())
            };
            for (to, &x) in bytes.iter_mut().zip(part) {
                *to = (x * inverse + shift).to_bits() as u8 ^ S::OFFSET_INT8;
            }
            if S::WORDS_INT8 == 2 {
                // From the last to the first, so that none is overwritten before it is read.
                for i in (0..count).rev() {
                    // SAFETY: 2 count words are at most DEPTH.
                    unsafe {
                        let word = *words.add(i).cast::<u32>();
                        *words.add(2 * i).cast::<u32>() = word & 0x00ff_00ff;
                        *words.add(2 * i + 1).cast::<u32>() = word >> 8 & 0x00ff_00ff;
                    }
                }
            }
        }
        Scale { step: scale.step, shift: scale.shift + f32::from(S::OFFSET_INT8) }
    }
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const f32) -> S::W {
        // SAFETY: the caller's promise.
        unsafe { s.load_words(p) }
    }
    /// `(Σ q w + shift Σ w) step_row step_column + bias`.
    #[inline(always)]
    fn value<S: Simd>(s: S, sum: S::W, row: Scale, [steps, sums]: [S::V; 2], bias: S::V) -> S::V {
        let sum = s.words_to_f32(sum);
        s.fma(s.fma(s.splat(row.shift), sums, sum), s.mul(steps, s.splat(row.step)), bias)
    }
}

/// The step and the shift that map a row to 0 ..= 255, 0 being one of the values, and `1 / step`. A row that is not finite gives a
/// step that is not.
#[inline(always)]
fn range<S: Simd>(s: S, x: &[f32]) -> (Scale, f32) {
    // Two of each, so that a step waits for the one before the last: a row of 384 values takes 24 steps.
    let (mut least, mut largest, mut poison) = ([s.zero(); 2], [s.zero(); 2], [s.zero(); 2]);
    let mut add = |v: S::V, to: usize| {
        least[to] = s.min(v, least[to]);
        largest[to] = s.max(v, largest[to]);
        poison[to] = s.fma(v, s.zero(), poison[to]);
    };
    let (pairs, last) = x.split_at(x.len() / (2 * S::LANES) * (2 * S::LANES));
    for pair in pairs.chunks_exact(2 * S::LANES) {
        add(s.read(&pair[..S::LANES]), 0);
        add(s.read(&pair[S::LANES..]), 1);
    }
    for part in last.chunks(S::LANES) {
        add(s.read(part), 0);
    }
    let least = s.min(least[0], least[1]);
    let largest = s.max(largest[0], largest[1]);
    let poison = s.add(poison[0], poison[1]);
    let least = -s.largest(s.sub(s.zero(), least));
    let largest = s.largest(largest);
    // 254 and not 255: zero and the largest value may both round up.
    let step = (largest - least) / 254.0;
    // A row of zeros, or of numbers whose inverse is not finite, is a row of zeros.
    if step < f32::MIN_POSITIVE {
        return (Scale { step: s.sum(poison), shift: 0.0 }, 0.0);
    }
    let inverse = 1.0 / step;
    let shift = (least * inverse + ROUND) - ROUND;
    (Scale { step: step + s.sum(poison), shift }, inverse)
}
