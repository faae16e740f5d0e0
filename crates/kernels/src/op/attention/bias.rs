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

    /// Adds to the scores, to base 2, of one query.
    fn add<S: Simd>(self, s: S, place: &Place<'_>, scores: &mut [f32]);
}

/// Of which query and which keys some scores are.
pub(super) struct Place<'a> {
    pub(super) shape: &'a AttentionShape,
    /// The rows of `qkv` from the first of the sequence on.
    pub(super) rows: &'a [f32],
    pub(super) head: usize,
    /// The place of the query in the sequence.
    pub(super) query: usize,
    /// The place of the first key.
    pub(super) first: usize,
}

/// Nothing.
#[derive(Clone, Copy)]
pub(super) struct NoBias;

impl Bias for NoBias {
    const SOME: bool = false;
    fn check(self, _: &AttentionShape) {}
    #[inline(always)]
    fn add<S: Simd>(self, _: S, _: &Place<'_>, _: &mut [f32]) {}
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
    fn add<S: Simd>(self, s: S, place: &Place<'_>, scores: &mut [f32]) {
        let &Place { head, query, first, .. } = place;
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

/// The disentangled attention of DeBERTa: each distance has a row with a key for the query, and a query for the key.
#[derive(Clone, Copy, Debug)]
pub struct RelativeBias<'a> {
    /// Keys of distances, `[rows, heads · dim]`: `scale · q · keys[row]` is added to a score.
    pub keys: Option<&'a [f32]>,
    /// Queries of distances, `[rows, heads · dim]`: `scale · k · queries[row]` is added to a score.
    pub queries: Option<&'a [f32]>,
    /// The row of each distance, `[2 reach + 1]`, by the place of the key less that of the query, from `-reach` on; the ends stand for
    /// all beyond.
    pub distances: &'a [u32],
}

impl Bias for RelativeBias<'_> {
    const SOME: bool = true;

    fn check(self, shape: &AttentionShape) {
        let width = shape.out_width();
        let rows = self.distances.iter().max().map_or(0, |&row| row as usize + 1);
        let fit =
            |table: Option<&[f32]>| table.is_none_or(|t| t.len().is_multiple_of(width) && t.len() >= rows * width);
        assert!(self.distances.len() % 2 == 1, "{} is no odd number of distances", self.distances.len());
        assert!(fit(self.keys) && fit(self.queries), "a table has at least {rows} rows of {width}");
    }

    #[inline(always)]
    fn add<S: Simd>(self, s: S, place: &Place<'_>, scores: &mut [f32]) {
        let &Place { shape, rows, head, query, first } = place;
        let (dim, width, reach) = (shape.dim, shape.qkv_width(), self.distances.len() / 2);
        let key_column = (shape.heads + head / (shape.heads / shape.kv_heads)) * dim;
        let q = &rows[query * width + head * dim..][..dim];
        let factor = shape.scale * LOG2_E;
        for (i, score) in scores.iter_mut().enumerate() {
            let key = first + i;
            let row = self.distances[(key + reach).saturating_sub(query).min(2 * reach)] as usize;
            let mut sum = s.zero();
            let pairs = [(q, self.keys), (&rows[key * width + key_column..][..dim], self.queries)];
            for (own, table) in pairs {
                let Some(table) = table else { continue };
                let other = &table[row * shape.out_width() + head * dim..][..dim];
                for (a, b) in own.chunks(S::LANES).zip(other.chunks(S::LANES)) {
                    sum = s.fma(s.read(a), s.read(b), sum);
                }
            }
            *score += s.sum(sum) * factor;
        }
    }
}
