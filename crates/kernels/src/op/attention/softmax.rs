//! The softmax of one row of a tile of scores.

use super::operand::Operand;
use crate::simd::Simd;
use std::ops::Range;

/// The largest of some scores; -∞ of none.
#[inline(always)]
pub(super) fn largest_of<S: Simd>(s: S, scores: &[f32]) -> f32 {
    let least = s.splat(f32::NEG_INFINITY);
    let mut largest = least;
    let whole = scores.chunks_exact(S::LANES);
    let last = whole.remainder();
    for part in whole {
        largest = s.max(largest, s.read(part));
    }
    if !last.is_empty() {
        largest = s.max(largest, s.keep(s.read(last), last.len(), least));
    }
    s.largest(largest)
}

/// Writes `2^(score - largest)` of the `visible` scores as weights, 0 for the others of `computed`, and returns their sum by lanes.
///
/// # Safety
/// `scores` can be read over `visible`, and `to` written over `computed`, both to the end of their last vector.
#[inline(always)]
pub(super) unsafe fn weights<S: Simd, F: Operand>(
    s: S,
    scores: *const f32,
    to: *mut f32,
    visible: Range<usize>,
    computed: Range<usize>,
    largest: f32,
) -> S::V {
    let largest = s.splat(largest);
    let mut sum = s.zero();
    let mut k = visible.start;
    while k + S::LANES <= visible.end {
        // SAFETY: the caller's promise.
        unsafe {
            let v = F::exp2(s, s.sub(s.load(scores.add(k)), largest));
            sum = s.add(sum, v);
            F::put(s, to, k, v);
        }
        k += S::LANES;
    }
    if k < visible.end {
        // SAFETY: the caller's promise.
        unsafe {
            let count = visible.end - k;
            let v = s.keep(F::exp2(s, s.sub(s.load(scores.add(k)), largest)), count, s.zero());
            sum = s.add(sum, v);
            F::put(s, to, k, v);
        }
        k += S::LANES;
    }
    // SAFETY: the caller's promise.
    unsafe {
        F::clear(to, computed.start, visible.start);
        F::clear(to, k, computed.end);
    }
    sum
}
