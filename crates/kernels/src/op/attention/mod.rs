//! Attention over packed sequences: `softmax(scale · Q Kᵀ) V`, one fused kernel for a head and a block of queries.
//!
//! A task takes the keys it sees in chunks: it copies the keys of a chunk transposed into panels and the values into panels, then
//! takes the queries tile by tile: the scores of a tile, `[tile rows, chunk]`, the softmax in place, the product with the values.
//! Over several chunks the softmax is the online one. Nothing is ever `[n, n]`, and what a window does not show is not computed.

mod bias;
mod head;
mod operand;
mod softmax;

use super::gemm::Level;
use crate::isa::{Dots, Numbers};
use crate::parts::Parts;
use crate::scratch;
use crate::tile::{Bf16, DEPTH, F32};
use crate::{Isa, Pool};
use bias::{Bias, NoBias};
pub use bias::{DistanceBias, RelativeBias};
use head::Head;
use operand::Operand;
use std::cell::Cell;
use std::marker::PhantomData;

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
    /// Which keys a query sees.
    pub mask: Mask,
}

/// Which keys of its sequence a query sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// All.
    Full,
    /// Itself and what is before it.
    Causal,
    /// Those at most so many places away, on either side.
    Window(usize),
    /// Itself and those at most so many places before it.
    CausalWindow(usize),
}

impl Mask {
    /// The keys that query `i` of a sequence of `n` sees.
    pub(crate) fn visible(self, i: usize, n: usize) -> std::ops::Range<usize> {
        match self {
            Self::Full => 0..n,
            Self::Causal => 0..i + 1,
            Self::Window(reach) => i.saturating_sub(reach)..i.saturating_add(reach).saturating_add(1).min(n),
            Self::CausalWindow(reach) => i.saturating_sub(reach)..i + 1,
        }
    }

    /// Keys that a query sees at most.
    fn span(self, n: usize) -> usize {
        match self {
            Self::Full | Self::Causal => n,
            Self::Window(reach) => reach.saturating_mul(2).saturating_add(1).min(n),
            Self::CausalWindow(reach) => reach.saturating_add(1).min(n),
        }
    }
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

/// Keys of a chunk: a tile of their scores is one block of rows, and stays in the first cache.
const KEYS: usize = DEPTH;
/// Queries of one task, over all heads of a key head: what makes up for copying the keys and values again.
const QUERIES: usize = 2048;
/// What copying and storing a row of a head costs, in multiplications for each of its values.
const ROW_WORK: usize = 160;
/// Multiplications a task does at least, about 2 µs.
const TASK_WORK: usize = 1 << 18;
/// Tasks a thread gets, where there is work for them: the last one of another thread is waited for.
const TASKS_PER_THREAD: usize = 8;
/// Up to this length the rows of the next head are asked for while one is computed: they stay in the second cache.
const ASK_AHEAD: usize = 512;

/// Where sequences lie, and which of their rows are keys.
#[derive(Clone, Copy, Debug)]
pub struct Sequences<'a> {
    /// Sequence `i` is the rows `offsets[i]..offsets[i + 1]`.
    pub offsets: &'a [u32],
    /// How many rows of each sequence are keys, the first ones, one at least; all where it is empty. The others look on: they are
    /// queries, which no row sees, not even they themselves.
    pub seen: &'a [u32],
}

impl<'a> From<&'a [u32]> for Sequences<'a> {
    /// Every row is a key.
    fn from(offsets: &'a [u32]) -> Self {
        Self { offsets, seen: &[] }
    }
}

/// `softmax(scale · Q Kᵀ) V` of each sequence and head. `qkv` is `[rows, qkv_width]`, a row being all queries, all keys, all
/// values; `out` is `[rows, out_width]`; sequence `i` is the rows `offsets[i]..offsets[i + 1]`. Memory beside the buffers is
/// bounded, whatever the length.
///
/// # Panics
/// Where a buffer has another size, the offsets are no offsets, or `heads` is no multiple of `kv_heads`.
pub fn attention(pool: &Pool, qkv: &[f32], offsets: &[u32], shape: &AttentionShape, out: &mut [f32]) {
    attention_among(pool, qkv, offsets.into(), shape, false, out);
}

/// As [`attention`], with products of bf16 where the machine has an instruction for them, else of f32, which is then the faster.
///
/// # Panics
/// As [`attention`].
pub fn attention_bf16(pool: &Pool, qkv: &[f32], offsets: &[u32], shape: &AttentionShape, out: &mut [f32]) {
    attention_among(pool, qkv, offsets.into(), shape, true, out);
}

/// As [`attention`] or, with `bf16`, [`attention_bf16`], of sequences some rows of which only look on.
///
/// # Panics
/// As [`attention`], and where there are numbers of keys, but not one a sequence, or one that its sequence does not have.
pub fn attention_among(
    pool: &Pool,
    qkv: &[f32],
    sequences: Sequences<'_>,
    shape: &AttentionShape,
    bf16: bool,
    out: &mut [f32],
) {
    attention_by(pool, qkv, sequences, shape, NoBias, bf16, out);
}

/// `softmax(scale · Q Kᵀ + bias) V`; `bf16`, and for the rest, as [`attention_among`]. A distance is one of places, also to a row
/// that only looks on.
///
/// # Panics
/// As [`attention_among`], and where the bias is for another number of heads.
pub fn attention_biased(
    pool: &Pool,
    qkv: &[f32],
    sequences: Sequences<'_>,
    shape: &AttentionShape,
    bias: DistanceBias<'_>,
    bf16: bool,
    out: &mut [f32],
) {
    attention_by(pool, qkv, sequences, shape, bias, bf16, out);
}

/// `softmax(scale · (Q Kᵀ + products with rows of distances)) V`, those products being of f32; `bf16`, which says how the others are,
/// and for the rest, as [`attention_among`].
///
/// # Panics
/// As [`attention_among`], and where a table has another width or fewer rows than `distances` speaks of.
pub fn attention_relative(
    pool: &Pool,
    qkv: &[f32],
    sequences: Sequences<'_>,
    shape: &AttentionShape,
    bias: RelativeBias<'_>,
    bf16: bool,
    out: &mut [f32],
) {
    attention_by(pool, qkv, sequences, shape, bias, bf16, out);
}

fn attention_by<B: Bias>(
    pool: &Pool,
    qkv: &[f32],
    sequences: Sequences<'_>,
    shape: &AttentionShape,
    bias: B,
    bf16: bool,
    out: &mut [f32],
) {
    let isa = Isa::active();
    let dots = bf16_dots(isa, shape).filter(|_| bf16);
    let attend = if dots.is_some() { attention_with::<Bf16, B> } else { attention_with::<F32, B> };
    attend(Level { isa, dots }, pool, qkv, sequences, shape, bias, out);
}

/// The instructions that [`attention_bf16`] takes; without them it is of f32.
pub(crate) fn bf16_dots(isa: Isa, shape: &AttentionShape) -> Option<Dots> {
    // A key is copied as one block of words.
    isa.dots(Numbers::Bf16).filter(|_| shape.dim <= DEPTH)
}

/// Attention with these instructions, in bf16 or in f32.
pub(crate) fn attention_at(
    level: Level,
    bf16: bool,
    pool: &Pool,
    qkv: &[f32],
    sequences: Sequences<'_>,
    shape: &AttentionShape,
    out: &mut [f32],
) {
    let attend = if bf16 { attention_with::<Bf16, _> } else { attention_with::<F32, _> };
    attend(level, pool, qkv, sequences, shape, NoBias, out);
}

fn attention_with<F: Operand, B: Bias>(
    level: Level,
    pool: &Pool,
    qkv: &[f32],
    sequences: Sequences<'_>,
    shape: &AttentionShape,
    bias: B,
    out: &mut [f32],
) {
    shape.check();
    bias.check(shape);
    let rows = out.len() / shape.out_width();
    assert_eq!(out.len(), rows * shape.out_width(), "out is [rows, {}]", shape.out_width());
    assert_eq!(qkv.len(), rows * shape.qkv_width(), "qkv is [{rows}, {}]", shape.qkv_width());
    let Sequences { offsets, seen } = sequences;
    let sequences = super::sequences(offsets, rows);
    assert!(seen.is_empty() || seen.len() == sequences, "{} numbers of keys of {sequences} sequences", seen.len());
    let length = |i: usize| (offsets[i + 1] - offsets[i]) as usize;
    // Consecutive heads of a short sequence make one task, because their rows are neighbours in memory; a long sequence has one
    // for each head and block of queries.
    let group = shape.heads / shape.kv_heads;
    let block_queries = (QUERIES / group).max(KEYS);
    let row_work = |n: usize| (2 * shape.mask.span(n) + ROW_WORK) * shape.dim;
    let work_of = |n: usize| row_work(n) * n.min(block_queries) * group;
    let all_work: usize = (0..sequences).map(|i| row_work(length(i)) * length(i) * shape.heads).sum();
    let task_work = TASK_WORK.max(all_work / (pool.threads() * TASKS_PER_THREAD));
    let plan = |n: usize| {
        let heads = (task_work / work_of(n).max(1)).clamp(1, shape.kv_heads);
        (heads, shape.kv_heads.div_ceil(heads), n.div_ceil(block_queries))
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
        let keys = seen.get(sequence).map_or(n, |&seen| seen as usize);
        assert!((1..=n).contains(&keys), "{keys} keys of {n} rows");
        let queries = block * n / blocks..(block + 1) * n / blocks;
        let end = shape.kv_heads.min((group + 1) * heads);
        let first_row = offsets[sequence] as usize;
        scratch::with(|scratch| {
            scratch.holds = (0, 0);
            for kv_head in group * heads..end {
                let (queries, more) = (queries.clone(), kv_head + 1 < end && n <= ASK_AHEAD);
                let (memory, format) = (&mut scratch.buffer, PhantomData::<F>);
                level.isa.run_with(
                    level.dots,
                    Head { qkv, out: &parts, shape, first_row, n, keys, queries, kv_head, more, memory, format, bias },
                );
            }
        });
    });
    STARTS.set(starts);
}

thread_local! {
    /// The number of the first task of each sequence, kept for its memory.
    static STARTS: Cell<Vec<usize>> = const { Cell::new(Vec::new()) };
}

#[cfg(test)]
mod tests;
