//! Keys, values and weights of the softmax as operands of the micro-kernel.

use crate::math::{exp2, exp2_coarse};
use crate::simd::{Simd, to_bf16};
use crate::tile::{self, Bf16, F32, Format};

/// A format that attention computes in.
pub(super) trait Operand: Format {
    /// Whether the weights of the softmax take the place of the scores.
    const IN_PLACE: bool;

    /// `count` rows of `dim` values, `width` apart, to panels `[words of dim][2 LANES]` of keys; keys behind the last one are 0.
    /// `line` takes what the rows are as words.
    fn pack_keys<S: Simd>(s: S, from: Rows<'_>, to: &mut [f32], line: &mut [f32]);

    /// The same rows to panels `[words of count][2 LANES]` of columns.
    fn pack_values<S: Simd>(s: S, from: Rows<'_>, to: &mut [f32]);

    /// `2^x` for `x <= 0`, as exact as the format is.
    fn exp2<S: Simd>(s: S, x: S::V) -> S::V;

    /// Writes weights from value `k` of the row at `to` on.
    ///
    /// # Safety
    /// A vector can be written there.
    unsafe fn put<S: Simd>(s: S, to: *mut f32, k: usize, v: S::V);

    /// Writes `0` to values `from..end` of the row at `to`.
    ///
    /// # Safety
    /// They can be written there.
    unsafe fn clear(to: *mut f32, from: usize, end: usize);
}

/// Rows in a wider matrix.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) from: &'a [f32],
    pub(super) width: usize,
    pub(super) count: usize,
    pub(super) dim: usize,
}

/// Rows of words, `width` apart, to panels of columns.
#[inline(always)]
fn pack_key_words<S: Simd>(s: S, (from, width): (&[f32], usize), count: usize, words: usize, to: &mut [f32]) {
    let panel = 2 * S::LANES;
    for first in (0..count.next_multiple_of(panel)).step_by(S::LANES) {
        let to = &mut to[first / panel * words * panel + first % panel..];
        let some = count.saturating_sub(first).min(S::LANES);
        let rows = if some == 0 { &from[..0] } else { &from[first * width..] };
        tile::pack_columns(s, (rows, width, some), words, (to, panel));
    }
}

impl Operand for F32 {
    const IN_PLACE: bool = true;

    #[inline(always)]
    fn pack_keys<S: Simd>(s: S, rows: Rows<'_>, to: &mut [f32], _: &mut [f32]) {
        pack_key_words(s, (rows.from, rows.width), rows.count, rows.dim, to);
    }

    #[inline(always)]
    fn pack_values<S: Simd>(s: S, rows: Rows<'_>, to: &mut [f32]) {
        let panel = 2 * S::LANES;
        for (p, to) in to.chunks_exact_mut(rows.count * panel).enumerate() {
            let columns = panel.min(rows.dim - p * panel);
            for (row, to) in to.chunks_exact_mut(panel).enumerate() {
                let source = &rows.from[row * rows.width + p * panel..][..columns];
                let (low, high) = source.split_at(columns.min(S::LANES));
                s.write(&mut to[..S::LANES], s.read(low));
                s.write(&mut to[S::LANES..], s.read(high));
            }
        }
    }

    #[inline(always)]
    fn exp2<S: Simd>(s: S, x: S::V) -> S::V {
        exp2(s, x)
    }

    #[inline(always)]
    unsafe fn put<S: Simd>(s: S, to: *mut f32, k: usize, v: S::V) {
        // SAFETY: the caller's promise.
        unsafe { s.store(to.add(k), v) }
    }

    #[inline(always)]
    unsafe fn clear(to: *mut f32, from: usize, end: usize) {
        for k in from..end {
            // SAFETY: the caller's promise.
            unsafe { *to.add(k) = 0.0 }
        }
    }
}

impl Operand for Bf16 {
    const IN_PLACE: bool = false;

    #[inline(always)]
    fn pack_keys<S: Simd>(s: S, rows: Rows<'_>, to: &mut [f32], line: &mut [f32]) {
        let words = rows.dim.div_ceil(2);
        for (row, to) in line.chunks_exact_mut(words).enumerate().take(rows.count) {
            let from = &rows.from[row * rows.width..][..rows.dim];
            // SAFETY: one row, in a tile of one, of `words` words; `words` is at most a block.
            unsafe { Self::pack_row(s, from, 1, 0, to.as_mut_ptr()) };
        }
        pack_key_words(s, (line, words), rows.count, words, to);
    }

    #[inline(always)]
    fn pack_values<S: Simd>(_: S, rows: Rows<'_>, to: &mut [f32]) {
        let panel = 2 * S::LANES;
        let zeros = [0.0; 32];
        for (p, to) in to.chunks_exact_mut(rows.count.div_ceil(2) * panel).enumerate() {
            let columns = panel.min(rows.dim - p * panel);
            for (pair, to) in to.chunks_exact_mut(panel).enumerate() {
                let at = |row: usize| row * rows.width + p * panel;
                let first = &rows.from[at(2 * pair)..][..columns];
                let second = if 2 * pair + 1 < rows.count {
                    &rows.from[at(2 * pair + 1)..][..columns]
                } else {
                    &zeros[..columns]
                };
                for ((to, &a), &b) in to.iter_mut().zip(first).zip(second) {
                    *to = f32::from_bits(u32::from(to_bf16(a)) | u32::from(to_bf16(b)) << 16);
                }
                to[columns..].fill(0.0);
            }
        }
    }

    #[inline(always)]
    fn exp2<S: Simd>(s: S, x: S::V) -> S::V {
        exp2_coarse(s, x)
    }

    #[inline(always)]
    unsafe fn put<S: Simd>(s: S, to: *mut f32, k: usize, v: S::V) {
        // SAFETY: the caller's promise.
        unsafe { s.store_bf16(to.cast::<u16>().add(k), v) }
    }

    #[inline(always)]
    unsafe fn clear(to: *mut f32, from: usize, end: usize) {
        for k in from..end {
            // SAFETY: the caller's promise.
            unsafe { *to.cast::<u16>().add(k) = 0 }
        }
    }
}
