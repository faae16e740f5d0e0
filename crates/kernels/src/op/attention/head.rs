//! The queries of one key head over the keys that they see.

use super::bias::{Bias, Place};
use super::operand::{Operand, Rows};
use super::softmax::{largest_of, weights};
use super::{AttentionShape, KEYS};
use crate::math::exp2;
use crate::parts::Parts;
use crate::scratch::{Buffer, LINE};
use crate::simd::{Kernel, Simd};
use crate::tile::{self, MAX_TILE, STRIDE, Tiles, blocks_len, row_words};
use std::marker::PhantomData;
use std::ops::Range;

/// The queries of the heads that share one key head.
pub(super) struct Head<'a, F, B> {
    pub(super) qkv: &'a [f32],
    pub(super) out: &'a Parts<'a>,
    pub(super) shape: &'a AttentionShape,
    pub(super) first_row: usize,
    /// Rows of the sequence.
    pub(super) n: usize,
    /// Rows of the sequence that are keys, the first ones.
    pub(super) keys: usize,
    pub(super) queries: Range<usize>,
    pub(super) kv_head: usize,
    /// Whether this thread takes the next head.
    pub(super) more: bool,
    pub(super) memory: &'a mut Buffer,
    pub(super) format: PhantomData<F>,
    pub(super) bias: B,
}

/// Parts of a thread's memory.
struct Memory<'a> {
    keys: &'a mut [f32],
    values: &'a mut [f32],
    queries: &'a mut [f32],
    scores: &'a mut [f32],
    /// Empty where the weights take the place of the scores.
    weights: &'a mut [f32],
    product: &'a mut [f32],
    line: &'a mut [f32],
    /// Of each head and query: the sum of weighted values, `[heads][queries][columns of all panels]`.
    sums: &'a mut [f32],
    /// Of each head and query: the largest score and the sum of the weights.
    state: &'a mut [f32],
}

/// Cuts `memory` into parts of `sizes`.
macro_rules! parts {
    ($memory:expr, $($name:ident: $size:expr),* $(,)?) => {{
        let sizes = [$($size),*];
        let mut rest = $memory.at_least(sizes.iter().map(|size| size.next_multiple_of(LINE)).sum());
        $(
            let $name;
            ($name, rest) = rest.split_at_mut($size.next_multiple_of(LINE));
            let $name = &mut $name[..$size];
        )*
        let _ = rest;
        Memory { $($name),* }
    }};
}

impl<F: Operand, B: Bias> Kernel for Head<'_, F, B> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { qkv, out, shape, first_row, n, keys, queries, kv_head, more, memory, format: _, bias } = self;
        let (dim, width, panel) = (shape.dim, shape.qkv_width(), 2 * S::LANES);
        let group = shape.heads / shape.kv_heads;
        let visible = |row: usize| {
            let all = shape.mask.visible(row, n);
            all.start.min(keys)..all.end.min(keys)
        };
        let all_keys = visible(queries.start).start..visible(queries.end - 1).end;
        let chunk = all_keys.len().min(KEYS);
        let single = all_keys.len() <= KEYS;
        let (dim_words, chunk_words) = (row_words::<S, F>(dim), chunk.div_ceil(F::VALUES));
        let (key_panels, value_panels) = (chunk.div_ceil(panel), dim.div_ceil(panel));
        let value_width = value_panels * panel;
        let kept = if single { 0 } else { group * queries.len() };
        let m = parts!(memory,
            keys: key_panels * dim_words * panel,
            values: value_panels * chunk_words * panel,
            queries: blocks_len(MAX_TILE, dim_words),
            // A vector more: the last vector of the last row may end behind it.
            scores: blocks_len(MAX_TILE, KEYS) + panel,
            weights: if F::IN_PLACE { 0 } else { blocks_len(MAX_TILE, KEYS) + panel },
            product: MAX_TILE * panel,
            line: if F::IN_PLACE { 0 } else { chunk * dim_words }.max(dim),
            sums: kept * value_width,
            state: 2 * kept,
        );
        let key_column = (shape.heads + kv_head) * dim;
        let value_column = (shape.heads + shape.kv_heads + kv_head) * dim;
        let tiles = Tiles::new(queries.len(), F::tile::<S>());
        m.sums.fill(0.0);
        for state in m.state.chunks_exact_mut(2) {
            state.copy_from_slice(&[f32::NEG_INFINITY, 0.0]);
        }
        let factor = s.splat(shape.scale * std::f32::consts::LOG2_E);
        for first_key in all_keys.clone().step_by(KEYS) {
            let count = KEYS.min(all_keys.end - first_key);
            let at = |column: usize| &qkv[(first_row + first_key) * width + column..];
            F::pack_keys(s, Rows { from: at(key_column), width, count, dim }, m.keys, m.line);
            let values = &mut m.values[..value_panels * count.div_ceil(F::VALUES) * panel];
            F::pack_values(s, Rows { from: at(value_column), width, count, dim }, values);
            for head in kv_head * group..(kv_head + 1) * group {
                for tile in 0..tiles.count {
                    let start = queries.start + tiles.start(tile);
                    let end = queries.start + tiles.start(tile + 1);
                    let rows = end - start;
                    let seen = |row: usize| {
                        let all = visible(row);
                        let from = all.start.clamp(first_key, first_key + count);
                        from - first_key..all.end.clamp(from, first_key + count) - first_key
                    };
                    let computed = seen(start).start / panel * panel..seen(end - 1).end;
                    if computed.is_empty() {
                        continue;
                    }
                    // base 2: e^x = 2^(x log2 e), and the factor is free here.
                    for row in start..end {
                        let query = &qkv[(first_row + row) * width + head * dim..][..dim];
                        for (to, part) in m.line.chunks_mut(S::LANES).zip(query.chunks(S::LANES)) {
                            s.write(&mut to[..part.len()], s.mul(s.read(part), factor));
                        }
                        // SAFETY: the memory of the queries is the blocks of the largest tile.
                        unsafe { F::pack_row(s, &m.line[..dim], rows, row - start, m.queries.as_mut_ptr()) };
                    }
                    if more && head % group == 0 {
                        ask_for_next_head(
                            s,
                            qkv,
                            shape,
                            (head + group, kv_head + 1),
                            first_row + start..first_row + end,
                        );
                    }
                    for p in computed.start / panel..computed.end.div_ceil(panel) {
                        let b = &m.keys[p * dim_words * panel..(p + 1) * dim_words * panel];
                        let to = &mut m.scores[p * panel..][..(rows - 1) * STRIDE + panel];
                        // SAFETY: the blocks of `rows` queries, a panel that goes with them, and room for `rows` rows.
                        unsafe {
                            let words = dim.div_ceil(F::VALUES);
                            let (a, b) = (m.queries.as_ptr(), b.as_ptr());
                            tile::multiply::<S, F>(s, rows, a, words, b, to.as_mut_ptr(), STRIDE);
                        }
                    }
                    // Row by row in each of the passes, so that the processor overlaps rows where one waits for its lanes.
                    let mut largest = [0.0; MAX_TILE];
                    let mut old = [0.0; MAX_TILE];
                    let mut sums = [s.zero(); MAX_TILE];
                    let kept_row = (head % group) * queries.len() + start - queries.start;
                    for row in 0..rows {
                        let visible = seen(start + row);
                        if B::SOME && !visible.is_empty() {
                            let (query, first) = (start + row, first_key + visible.start);
                            let place = Place { shape, rows: &qkv[first_row * width..], head, query, first };
                            bias.add(s, &place, &mut m.scores[row * STRIDE..][visible.clone()]);
                        }
                        largest[row] = largest_of(s, &m.scores[row * STRIDE..][visible]);
                        if !single {
                            old[row] = m.state[2 * (kept_row + row)];
                            // A score that is not a number stays in its row: it is in the sum of the weights.
                            largest[row] = largest[row].max(old[row]);
                        }
                    }
                    for row in 0..rows {
                        // SAFETY: rows of a block, whose last vector ends within the memory.
                        unsafe {
                            let scores = m.scores.as_mut_ptr().add(row * STRIDE);
                            let to = if F::IN_PLACE { scores } else { m.weights.as_mut_ptr().add(row * STRIDE) };
                            let computed = computed.start..computed.end.next_multiple_of(F::VALUES);
                            sums[row] = weights::<S, F>(s, scores, to, seen(start + row), computed, largest[row]);
                        }
                    }
                    // What the sums so far are multiplied by, and what the result is.
                    let (mut keep, mut inverse) = ([0.0; MAX_TILE], [1.0; MAX_TILE]);
                    for row in 0..rows {
                        let sum = s.sum(sums[row]);
                        if single {
                            inverse[row] = 1.0 / sum;
                            continue;
                        }
                        // Equal where nothing changes, and where both are -∞.
                        keep[row] = if old[row] == largest[row] {
                            1.0
                        } else {
                            let mut lanes = [0.0; 16];
                            s.write(&mut lanes[..S::LANES], exp2(s, s.splat(old[row] - largest[row])));
                            lanes[0]
                        };
                        let state = &mut m.state[2 * (kept_row + row)..][..2];
                        state[0] = largest[row];
                        state[1] = state[1] * keep[row] + sum;
                    }
                    for p in 0..value_panels {
                        let words = count.div_ceil(F::VALUES);
                        let first = computed.start / F::VALUES;
                        let some = computed.end.div_ceil(F::VALUES) - first;
                        let b = &values[p * words * panel..(p + 1) * words * panel][first * panel..];
                        let a = if F::IN_PLACE { &*m.scores } else { &*m.weights };
                        assert!(a.len() >= blocks_len(rows, KEYS) && m.product.len() >= rows * panel);
                        assert!(b.len() >= some * panel);
                        // SAFETY: blocks of `rows` rows from word `first` on, as many words of a panel, and room for `rows` rows.
                        unsafe {
                            let (a, to) = (a.as_ptr().add(first), m.product.as_mut_ptr());
                            tile::multiply::<S, F>(s, rows, a, some, b.as_ptr(), to, panel);
                        }
                        for row in 0..rows {
                            let from = &m.product[row * panel..(row + 1) * panel];
                            if single {
                                let columns = panel.min(dim - p * panel);
                                let at = (first_row + start + row) * shape.out_width() + head * dim + p * panel;
                                // SAFETY: these rows of this head are this task's alone.
                                let to = unsafe { out.get(at, columns) };
                                scaled(s, to, &from[..columns], inverse[row]);
                            } else {
                                let to = &mut m.sums[(kept_row + row) * value_width + p * panel..][..panel];
                                for (to, from) in to.chunks_exact_mut(S::LANES).zip(from.chunks_exact(S::LANES)) {
                                    s.write(to, s.fma(s.read(to), s.splat(keep[row]), s.read(from)));
                                }
                            }
                        }
                    }
                }
            }
        }
        for kept_row in 0..kept {
            let (head, row) = (kv_head * group + kept_row / queries.len(), queries.start + kept_row % queries.len());
            let at = (first_row + row) * shape.out_width() + head * dim;
            // SAFETY: these rows of this head are this task's alone.
            let to = unsafe { out.get(at, dim) };
            scaled(s, to, &m.sums[kept_row * value_width..][..dim], 1.0 / m.state[2 * kept_row + 1]);
        }
    }
}

/// `to = from · factor`.
#[inline(always)]
fn scaled<S: Simd>(s: S, to: &mut [f32], from: &[f32], factor: f32) {
    for (to, from) in to.chunks_mut(S::LANES).zip(from.chunks(S::LANES)) {
        s.write(to, s.mul(s.read(from), s.splat(factor)));
    }
}

/// Asks for the rows that a thread reads next, which are neighbours of those that it reads now.
#[inline(always)]
fn ask_for_next_head<S: Simd>(
    s: S,
    qkv: &[f32],
    shape: &AttentionShape,
    (head, kv_head): (usize, usize),
    rows: Range<usize>,
) {
    let (dim, width) = (shape.dim, shape.qkv_width());
    for row in rows {
        for column in [head, shape.heads + kv_head, shape.heads + shape.kv_heads + kv_head] {
            for line in qkv[row * width + column * dim..][..dim].chunks(LINE) {
                s.prefetch(line.as_ptr());
            }
        }
    }
}
