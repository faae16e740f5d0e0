//! What is added to the scores by the places of query and key.

use super::AttentionShape;
use crate::simd::Simd;
use std::f32::consts::LOG2_E;

/// Something that is added to scores.
pub(super) trait Bias: Copy + Sync {
    /// Whether there is anything to add; without, no code is left of it.
    const SOME: bool;

    /// Fits the shape.
    ///
    /// # Panics
    /// Where it does not.
    fn check(self, shape: &AttentionShape);

    /// Adds to the scores, to base 2, of a query of `head` at place `query`; they are those of the keys from place `first` on.
    fn add<S: Simd>(self, s: S, head: usize, query: usize, first: usize, scores: &mut [f32]);
}

/// Nothing.
#[derive(Clone, Copy)]
pub(super) struct NoBias;

impl Bias for NoBias {
    const SOME: bool = false;
    fn check(self, _: &AttentionShape) {}
    #[inline(always)]
    fn add<S: Simd>(self, _: S, _: usize, _: usize, _: usize, _: &mut [f32]) {}
}

/// A number for each head and distance.
#[derive(Clone, Copy, Debug)]
pub struct DistanceBias<'a> {
    /// `[heads][2 reach + 1]`, by the place of the key less that of the query, from `-reach` on; the ends stand for all beyond.
    pub values: &'a [f32],
    /// Query heads.
    pub heads: usize,
}

impl Bias for DistanceBias<'_> {
    const SOME: bool = true;

    fn check(self, shape: &AttentionShape) {
        let (all, heads) = (self.values.len(), self.heads);
        assert!(
            heads == shape.heads && all.is_multiple_of(heads) && (all / heads) % 2 == 1,
            "{all} values are no odd number for each of {} heads",
            shape.heads
        );
    }

    #[inline(always)]
    fn add<S: Simd>(self, s: S, head: usize, query: usize, first: usize, scores: &mut [f32]) {
        let width = self.values.len() / self.heads;
        let (row, reach) = (&self.values[head * width..(head + 1) * width], width / 2);
        let near = query.saturating_sub(reach).max(first) - first;
        let (before, rest) = scores.split_at_mut(near.min(scores.len()));
        let first = first + before.len();
        let (near, after) = rest.split_at_mut((query + reach + 1).saturating_sub(first).min(rest.len()));
        let log = s.splat(LOG2_E);
        for (scores, end) in [(before, row[0]), (after, row[2 * reach])] {
            let end = s.splat(end * LOG2_E);
            for part in scores.chunks_mut(S::LANES) {
                s.write(part, s.add(s.read(part), end));
            }
        }
        if near.is_empty() {
            return;
        }
        let row = &row[first + reach - query..][..near.len()];
        for (part, bias) in near.chunks_mut(S::LANES).zip(row.chunks(S::LANES)) {
            s.write(part, s.fma(s.read(bias), log, s.read(part)));
        }
    }
}
