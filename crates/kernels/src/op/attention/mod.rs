//! Attention over packed sequences: `softmax(scale · Q Kᵀ) V`, one fused kernel for a head and a block of queries.
//!
//! A task copies the keys of its (sequence, key head) transposed into panels and the values into panels, then takes the queries
//! tile by tile: the scores of a tile, `[tile rows, keys]`, the softmax in place, the product with the values. Nothing is ever
//! `[n, n]`.

use crate::math::exp2;
use crate::parts::Parts;
use crate::scratch::{self, Buffer, LINE};
use crate::simd::{Kernel, Simd};
use crate::tile::{self, DEPTH, F32, MAX_TILE, STRIDE, Tiles, block_index, blocks_len};
use crate::{Isa, Pool};
use std::cell::Cell;

/// Heads and their widths.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionShape {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; each serves `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub dim: usize,
    /// What the scores are multiplied by.
    pub scale: f32,
    /// Whether a query sees only itself and what is before it.
    pub causal: bool,
}

impl AttentionShape {
    /// The width of a row of `q | k | v`.
    pub fn qkv_width(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.dim
    }

    /// The width of a row of the result.
    pub fn out_width(&self) -> usize {
        self.heads * self.dim
    }

    pub(crate) fn check(&self) {
        assert!(
            self.dim > 0 && self.kv_heads > 0 && self.heads > 0 && self.heads.is_multiple_of(self.kv_heads),
            "{} heads of {} on {} key heads",
            self.heads,
            self.dim,
            self.kv_heads
        );
    }
}

/// Queries of one task: what makes up for copying the keys and values again.
const QUERIES: usize = 512;
/// What copying and storing a row of a head costs, in multiplications for each of its values.
const ROW_WORK: usize = 160;
/// Multiplications a task does at least, about 2 µs.
const TASK_WORK: usize = 1 << 18;
/// Tasks a thread gets, where there is work for them: the last one of another thread is waited for.
const TASKS_PER_THREAD: usize = 8;
/// Up to this length the rows of the next head are asked for while one is computed: they stay in the second cache.
const ASK_AHEAD: usize = 512;

/// `softmax(scale · Q Kᵀ) V` of each sequence and head. `qkv` is `[rows, qkv_width]`, a row being all queries, all keys, all
/// values; `out` is `[rows, out_width]`; sequence `i` is the rows `offsets[i]..offsets[i + 1]`.
///
/// # Panics
/// Where a buffer has another size, the offsets are no offsets, or `heads` is no multiple of `kv_heads`.
pub fn attention(pool: &Pool, qkv: &[f32], offsets: &[u32], shape: &AttentionShape, out: &mut [f32]) {
    attention_with(Isa::active(), pool, qkv, offsets, shape, out);
}

fn attention_with(isa: Isa, pool: &Pool, qkv: &[f32], offsets: &[u32], shape: &AttentionShape, out: &mut [f32]) {
    shape.check();
    let rows = out.len() / shape.out_width();
    assert_eq!(out.len(), rows * shape.out_width(), "out is [rows, {}]", shape.out_width());
    assert_eq!(qkv.len(), rows * shape.qkv_width(), "qkv is [{rows}, {}]", shape.qkv_width());
    let sequences = super::sequences(offsets, rows);
    let length = |i: usize| (offsets[i + 1] - offsets[i]) as usize;
    // Consecutive heads of a short sequence make one task, because their rows are neighbours in memory; a long sequence has one
    // for each head and block of queries.
    let work_of = |n: usize| (2 * n.min(QUERIES) + ROW_WORK) * n * shape.dim * shape.heads / shape.kv_heads;
    let all_work: usize = (0..sequences).map(|i| (2 * length(i) + ROW_WORK) * length(i) * shape.out_width()).sum();
    let task_work = TASK_WORK.max(all_work / (pool.threads() * TASKS_PER_THREAD));
    let plan = |n: usize| {
        let heads = (task_work / work_of(n).max(1)).clamp(1, shape.kv_heads);
        (heads, shape.kv_heads.div_ceil(heads), n.div_ceil(QUERIES))
    };
    let mut starts = STARTS.take();
    starts.clear();
    let mut tasks = 0;
    for i in 0..sequences {
        starts.push(tasks);
        let (_, groups, blocks) = plan(length(i));
        tasks += groups * blocks;
    }
    let parts = Parts::new(out);
    pool.run(tasks, &|task| {
        // The last sequence that starts at or before the task: an empty one starts where the next one does.
        let sequence = starts.partition_point(|&start| start <= task) - 1;
        let (heads, _, blocks) = plan(length(sequence));
        let within = task - starts[sequence];
        let (group, block) = (within / blocks, within % blocks);
        let n = length(sequence);
        let queries = block * n / blocks..(block + 1) * n / blocks;
        let end = shape.kv_heads.min((group + 1) * heads);
        let first_row = offsets[sequence] as usize;
        scratch::with(|scratch| {
            scratch.holds = (0, 0);
            for kv_head in group * heads..end {
                let (queries, more) = (queries.clone(), kv_head + 1 < end && n <= ASK_AHEAD);
                let memory = &mut scratch.buffer;
                isa.run(Head { qkv, out: &parts, shape, first_row, n, queries, kv_head, more, memory });
            }
        });
    });
    STARTS.set(starts);
}

thread_local! {
    /// The number of the first task of each sequence, kept for its memory.
    static STARTS: Cell<Vec<usize>> = const { Cell::new(Vec::new()) };
}

/// The queries of the heads that share one key head, over their sequence.
struct Head<'a> {
    qkv: &'a [f32],
    out: &'a Parts<'a>,
    shape: &'a AttentionShape,
    first_row: usize,
    n: usize,
    queries: std::ops::Range<usize>,
    kv_head: usize,
    /// Whether this thread takes the next head.
    more: bool,
    memory: &'a mut Buffer,
}

impl Kernel for Head<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { qkv, out, shape, first_row, n, queries, kv_head, more, memory } = self;
        let (dim, width) = (shape.dim, shape.qkv_width());
        let panel = 2 * S::LANES;
        let keys = if shape.causal { queries.end } else { n };
        let key_panels = keys.div_ceil(panel);
        let value_panels = dim.div_ceil(panel);
        let tiles = Tiles::new(queries.len(), S::TILE);
        // A row of queries and one of probabilities are packed as the micro-kernel wants its rows; a panel of keys is stored as a
        // whole, so that probabilities need the space of whole panels.
        let sizes = [
            key_panels * dim * panel,
            value_panels * keys * panel,
            blocks_len(MAX_TILE, dim),
            blocks_len(MAX_TILE, key_panels * panel),
            MAX_TILE * panel,
        ];
        let memory = memory.at_least(sizes.iter().sum());
        let (key_memory, memory) = memory.split_at_mut(sizes[0]);
        let (value_memory, memory) = memory.split_at_mut(sizes[1]);
        let (query_memory, memory) = memory.split_at_mut(sizes[2]);
        let (scores, product) = memory.split_at_mut(sizes[3]);
        let key_column = (shape.heads + kv_head) * dim;
        let value_column = (shape.heads + shape.kv_heads + kv_head) * dim;
        pack_keys(s, &qkv[first_row * width + key_column..], (width, keys, dim), key_memory);
        pack_values(s, &qkv[first_row * width + value_column..], (width, keys, dim), value_memory);
        let group = shape.heads / shape.kv_heads;
        for head in kv_head * group..(kv_head + 1) * group {
            for tile in 0..tiles.count {
                let start = queries.start + tiles.start(tile);
                let end = queries.start + tiles.start(tile + 1);
                let rows = end - start;
                // base 2: e^x = 2^(x log2 e), and the factor is free here.
                let factor = s.splat(shape.scale * std::f32::consts::LOG2_E);
                for row in start..end {
                    let query = &qkv[(first_row + row) * width + head * dim..][..dim];
                    for (i, part) in query.chunks(S::LANES).enumerate() {
                        let to = block_index(rows, row - start, i * S::LANES);
                        s.write(&mut query_memory[to..to + part.len()], s.mul(s.read(part), factor));
                    }
                }
                if more && head % group == 0 {
                    for row in start..end {
                        for column in
                            [head + group, shape.heads + kv_head + 1, shape.heads + shape.kv_heads + kv_head + 1]
                        {
                            let ahead = &qkv[(first_row + row) * width + column * dim..][..dim];
                            for line in ahead.chunks(LINE) {
                                s.prefetch(line.as_ptr());
                            }
                        }
                    }
                }
                let seen = if shape.causal { end } else { n };
                for p in 0..seen.div_ceil(panel) {
                    let b = &key_memory[p * dim * panel..(p + 1) * dim * panel];
                    let to = &mut scores[block_index(rows, 0, p * panel)..][..(rows - 1) * STRIDE + panel];
                    // SAFETY: the blocks of `rows` queries of `dim`, a panel of `dim`, and room for `rows` rows.
                    unsafe {
                        tile::multiply::<S, F32>(
                            s,
                            rows,
                            query_memory.as_ptr(),
                            dim,
                            b.as_ptr(),
                            to.as_mut_ptr(),
                            STRIDE,
                        );
                    }
                }
                // Row by row in each of the passes, so that the processor overlaps rows where one waits for its lanes.
                let mut largest = [0.0; MAX_TILE];
                let mut sums = [s.zero(); MAX_TILE];
                let mut inverse = [0.0; MAX_TILE];
                let visible = |row: usize| if shape.causal { start + row + 1 } else { n };
                for (row, largest) in largest.iter_mut().enumerate().take(rows) {
                    *largest = largest_of(s, scores, rows, row, visible(row));
                }
                for (row, sum) in sums.iter_mut().enumerate().take(rows) {
                    *sum = exponentials(s, scores, (rows, row), visible(row), seen, largest[row]);
                }
                for (inverse, sum) in inverse.iter_mut().zip(sums).take(rows) {
                    *inverse = 1.0 / s.sum(sum);
                }
                for p in 0..value_panels {
                    let b = &value_memory[p * keys * panel..(p + 1) * keys * panel];
                    assert!(scores.len() >= blocks_len(rows, seen) && product.len() >= rows * panel);
                    // SAFETY: the blocks of `rows` rows of `seen <= keys`, a panel of `keys`, and room for `rows` rows.
                    unsafe {
                        tile::multiply::<S, F32>(
                            s,
                            rows,
                            scores.as_ptr(),
                            seen,
                            b.as_ptr(),
                            product.as_mut_ptr(),
                            panel,
                        );
                    }
                    let columns = panel.min(dim - p * panel);
                    for row in 0..rows {
                        let at = (first_row + start + row) * shape.out_width() + head * dim + p * panel;
                        // SAFETY: these rows of this head are this task's alone.
                        let to = unsafe { out.get(at, columns) };
                        let from = &product[row * panel..row * panel + columns];
                        for (to, from) in to.chunks_mut(S::LANES).zip(from.chunks(S::LANES)) {
                            s.write(to, s.mul(s.read(from), s.splat(inverse[row])));
                        }
                    }
                }
            }
        }
    }
}

/// `[n][width]`, `dim` columns of it, to panels `[n / panel][dim][panel]`, keys behind the last one 0.
#[inline(always)]
fn pack_keys<S: Simd>(s: S, from: &[f32], (width, n, dim): (usize, usize, usize), to: &mut [f32]) {
    let panel = 2 * S::LANES;
    for first in (0..n.next_multiple_of(panel)).step_by(S::LANES) {
        let to = &mut to[first / panel * dim * panel + first % panel..];
        let count = n.saturating_sub(first).min(S::LANES);
        let rows = if count == 0 { &from[..0] } else { &from[first * width..] };
        tile::pack_columns(s, (rows, width, count), dim, (to, panel));
    }
}

/// `[n][width]`, `dim` columns of it, to panels `[dim / panel][n][panel]`.
#[inline(always)]
fn pack_values<S: Simd>(s: S, from: &[f32], (width, n, dim): (usize, usize, usize), to: &mut [f32]) {
    let panel = 2 * S::LANES;
    for (p, to) in to.chunks_exact_mut(n * panel).enumerate() {
        let columns = panel.min(dim - p * panel);
        for (row, to) in to.chunks_exact_mut(panel).enumerate() {
            let source = &from[row * width + p * panel..][..columns];
            let (low, high) = source.split_at(columns.min(S::LANES));
            s.write(&mut to[..S::LANES], s.read(low));
            s.write(&mut to[S::LANES..], s.read(high));
        }
    }
}

/// The largest of the first `visible` scores of one row of a tile.
#[inline(always)]
fn largest_of<S: Simd>(s: S, scores: &[f32], rows: usize, row: usize, visible: usize) -> f32 {
    let least = s.splat(f32::NEG_INFINITY);
    let mut largest = least;
    let mut k = 0;
    while k < visible {
        let count = DEPTH.min(visible - k);
        let part = &scores[block_index(rows, row, k)..][..count.next_multiple_of(S::LANES)];
        let (whole, last) = part.split_at(count / S::LANES * S::LANES);
        for four in whole.chunks_exact(S::LANES) {
            largest = s.max(largest, s.read(four));
        }
        if !last.is_empty() {
            largest = s.max(largest, s.keep(s.read(last), count % S::LANES, least));
        }
        k += count;
    }
    s.largest(largest)
}

/// Turns the scores of one row of a tile into `2^(score - largest)`, 0 from `visible` to `seen`, and returns their sum by lanes.
#[inline(always)]
fn exponentials<S: Simd>(
    s: S,
    scores: &mut [f32],
    (rows, row): (usize, usize),
    visible: usize,
    seen: usize,
    largest: f32,
) -> S::V {
    let largest = s.splat(largest);
    let mut sum = s.zero();
    let mut k = 0;
    while k < visible {
        let count = DEPTH.min(visible - k);
        let part = &mut scores[block_index(rows, row, k)..][..count.next_multiple_of(S::LANES)];
        let (whole, last) = part.split_at_mut(count / S::LANES * S::LANES);
        for four in whole.chunks_exact_mut(S::LANES) {
            let v = exp2(s, s.sub(s.read(four), largest));
            sum = s.add(sum, v);
            s.write(four, v);
        }
        if !last.is_empty() {
            let v = s.keep(exp2(s, s.sub(s.read(last), largest)), count % S::LANES, s.zero());
            sum = s.add(sum, v);
            s.write(last, v);
        }
        k += count;
    }
    let mut hidden = visible.next_multiple_of(S::LANES);
    while hidden < seen {
        let count = (DEPTH - hidden % DEPTH).min(seen - hidden);
        scores[block_index(rows, row, hidden)..][..count].fill(0.0);
        hidden += count;
    }
    sum
}

#[cfg(test)]
mod tests;
