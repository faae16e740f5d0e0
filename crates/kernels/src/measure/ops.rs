//! Each op at a level that is named.

use super::{Timed, Variant, fastest, numbers, timed};
use crate::op::activation::{Activation, activate_with};
use crate::op::attention::{AttentionShape, attention_at};
use crate::op::bag::{Bag, Table, bag_with};
use crate::op::embed::{EmbedTables, Positions, embed_with};
use crate::op::gemm::{Epilogue, PackedMatrix, Precision, Residual, gemm};
use crate::op::norm::{Norm, NormKind, norm_with};
use crate::op::pooling::{Pooling, pool_rows_with};
use crate::op::rope::{Rope, head_norm_with, rope_with};
use crate::op::similarity::dot_matrix_with;
use crate::{Isa, Pool};
use std::time::Duration;

const VALUE: usize = size_of::<f32>();

/// A linear layer and what follows it in the same pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Layer {
    /// Values of a row that is multiplied.
    pub inputs: usize,
    /// Values of a row of the result.
    pub outputs: usize,
    /// Whether there are as many gates beside the outputs.
    pub gated: bool,
    /// The function of the outputs, or of the gates.
    pub activation: Activation,
    /// Whether the result is added to what its buffer holds.
    pub adds: bool,
}

/// Packed rows: `count` of `width` values, in sequences of `length` and a shorter last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    /// All rows.
    pub count: usize,
    /// Values of a row.
    pub width: usize,
    /// Rows of a sequence, at least 1.
    pub length: usize,
}

impl Rows {
    fn offsets(&self) -> Vec<u32> {
        offsets(self.count, self.length)
    }

    fn bytes(&self) -> usize {
        self.count * self.width * VALUE
    }
}

fn offsets(rows: usize, length: usize) -> Vec<u32> {
    (0..rows).step_by(length).chain([rows]).map(|row| row as u32).collect()
}

/// Ids all over a table of `vocab` rows.
fn ids(count: usize, vocab: usize) -> Vec<u32> {
    (0..count as u64).map(|i| (i * 2_654_435_769 % vocab as u64) as u32).collect()
}

/// [`gemm`] over each number of rows, with weights that are packed once; in additions and multiplications.
pub fn product(pool: &Pool, variant: Variant, layer: &Layer, rows: &[usize], budget: Duration) -> Vec<Timed> {
    let _busy = pool.busy();
    let &Layer { inputs: k, outputs: n, gated, activation, adds } = layer;
    let weights = numbers(n * k);
    let (level, precision) = (variant.level(), variant.precision);
    let (w, columns) = if gated {
        (PackedMatrix::pack_gated_for(level, precision, n, k, &weights, &weights), 2 * n)
    } else {
        (PackedMatrix::pack_for(level, precision, n, k, &weights), n)
    };
    let bias = numbers(columns);
    let residual = if adds { Residual::InPlace } else { Residual::None };
    let e = Epilogue { bias: Some(&bias), activation, residual };
    let time = |&rows: &usize| {
        let (a, mut out) = (numbers(rows * k), numbers(rows * n));
        let ops = (2 * rows * k * columns) as f64;
        fastest(budget, ops, || timed(|| gemm(pool, &a, rows, &w, &e, &mut out)))
    };
    rows.iter().map(time).collect()
}

/// [`attention`](crate::op::attention::attention) over `rows` in sequences of `length`; in the additions and multiplications of its
/// two products, for what its mask shows.
///
/// # Panics
/// Where the variant is one of 8-bit integers, which attention has not.
pub fn attention(
    pool: &Pool,
    variant: Variant,
    shape: &AttentionShape,
    (rows, length): (usize, usize),
    budget: Duration,
) -> Timed {
    assert!(variant.precision != Precision::Int8, "attention is of f32 or bf16");
    let _busy = pool.busy();
    let (qkv, offsets) = (numbers(rows * shape.qkv_width()), offsets(rows, length));
    let mut out = numbers(rows * shape.out_width());
    let seen = |n: usize| (0..n).map(|i| shape.mask.visible(i, n).len()).sum::<usize>();
    let pairs: usize = offsets.windows(2).map(|ends| seen((ends[1] - ends[0]) as usize)).sum();
    let ops = (4 * pairs * shape.out_width()) as f64;
    let bf16 = variant.precision == Precision::Bf16;
    fastest(budget, ops, || {
        timed(|| attention_at(variant.level(), bf16, pool, &qkv, offsets[..].into(), shape, &mut out))
    })
}

/// [`norm_in_place`](crate::op::norm::norm_in_place); in bytes, each value read and written once.
pub fn norm(pool: &Pool, isa: Isa, rows: &Rows, kind: NormKind, budget: Duration) -> Timed {
    let _busy = pool.busy();
    let (mut x, gamma) = (numbers(rows.count * rows.width), vec![1.0; rows.width]);
    let n = Norm { kind, gamma: &gamma, beta: (kind == NormKind::Layer).then_some(&gamma), eps: 1e-12 };
    fastest(budget, (2 * rows.bytes()) as f64, || timed(|| norm_with(isa, pool, None, &n, &mut x)))
}

/// [`activate`](crate::op::activation::activate); in bytes, each value read and written once.
pub fn activation(pool: &Pool, isa: Isa, rows: &Rows, activation: Activation, budget: Duration) -> Timed {
    let _busy = pool.busy();
    let input = numbers(rows.count * rows.width);
    let mut x = numbers(input.len());
    fastest(budget, (2 * rows.bytes()) as f64, || {
        // Not again of its own result, which ends in denormal numbers.
        x.copy_from_slice(&input);
        timed(|| activate_with(isa, pool, activation, &mut x))
    })
}

/// [`embed`](crate::op::embed::embed) of ids all over a table of `vocab` rows, with positions and a layer norm; in bytes: the rows of
/// both tables and of the result.
pub fn embed(pool: &Pool, isa: Isa, rows: &Rows, vocab: usize, budget: Duration) -> Timed {
    let _busy = pool.busy();
    let width = rows.width;
    let (word, position) = (numbers(vocab * width), numbers(rows.length * width));
    let (ids, offsets, gamma) = (ids(rows.count, vocab), rows.offsets(), vec![1.0; width]);
    let places = Positions { table: &position, first: 0, padding: None };
    let tables = EmbedTables { word: &word, position: Some(places), kind: Some((&position, &[])), width, scale: 1.0 };
    let n = Norm { kind: NormKind::Layer, gamma: &gamma, beta: Some(&gamma), eps: 1e-12 };
    let mut out = numbers(rows.count * width);
    fastest(budget, (3 * rows.bytes()) as f64, || {
        timed(|| embed_with(isa, pool, &ids, &offsets, &tables, Some(&n), &mut out))
    })
}

/// [`pool_rows`](crate::op::pooling::pool_rows) with normalisation; in bytes read and written.
pub fn pooling(pool: &Pool, isa: Isa, rows: &Rows, how: Pooling, budget: Duration) -> Timed {
    let _busy = pool.busy();
    let (x, offsets, width) = (numbers(rows.count * rows.width), rows.offsets(), rows.width);
    let mut out = numbers((offsets.len() - 1) * width);
    let bytes = rows.bytes() + size_of_val(&out[..]);
    fastest(budget, bytes as f64, || timed(|| pool_rows_with(isa, pool, &x, &offsets, width, how, true, &mut out)))
}

/// [`bag`](crate::op::bag::bag) of ids all over a table of `vocab` rows of 8-bit integers, with weights and normalisation; in bytes
/// of the rows read and written.
pub fn bag(pool: &Pool, isa: Isa, rows: &Rows, vocab: usize, budget: Duration) -> Timed {
    let _busy = pool.busy();
    let table: Vec<i8> = ids(vocab * rows.width, 256).iter().map(|&i| i as u8 as i8).collect();
    let (ids, offsets, weights) = (ids(rows.count, vocab), rows.offsets(), numbers(vocab));
    let all = Bag { table: Table::I8(&table), width: rows.width, weights: Some(&weights), mapping: None };
    let mut out = numbers((offsets.len() - 1) * rows.width);
    let bytes = rows.count * rows.width + size_of_val(&out[..]);
    fastest(budget, bytes as f64, || timed(|| bag_with(isa, pool, &ids, &offsets, &all, true, &mut out)))
}

/// [`rope`](crate::op::rope::rope) over `rows` in sequences of `length`; in bytes of queries and keys, read and written.
pub fn rope(
    pool: &Pool,
    isa: Isa,
    shape: &AttentionShape,
    (rows, length): (usize, usize),
    how: &Rope<'_>,
    budget: Duration,
) -> Timed {
    let _busy = pool.busy();
    let (mut qkv, offsets) = (numbers(rows * shape.qkv_width()), offsets(rows, length));
    fastest(budget, query_and_key_bytes(shape, rows), || timed(|| rope_with(isa, pool, &mut qkv, &offsets, shape, how)))
}

/// [`head_norm`](crate::op::rope::head_norm) over `rows`; in bytes of queries and keys, read and written.
pub fn head_norm(pool: &Pool, isa: Isa, shape: &AttentionShape, rows: usize, budget: Duration) -> Timed {
    let _busy = pool.busy();
    let (mut qkv, gamma) = (numbers(rows * shape.qkv_width()), vec![1.0; shape.dim]);
    let n = Norm { kind: NormKind::Rms, gamma: &gamma, beta: None, eps: 1e-6 };
    fastest(budget, query_and_key_bytes(shape, rows), || timed(|| head_norm_with(isa, pool, &mut qkv, shape, &n, &n)))
}

fn query_and_key_bytes(shape: &AttentionShape, rows: usize) -> f64 {
    (2 * rows * (shape.heads + shape.kv_heads) * shape.dim * VALUE) as f64
}

/// [`dot_matrix`](crate::op::similarity::dot_matrix) of one row with `rows`; in additions and multiplications.
pub fn similarity(pool: &Pool, isa: Isa, rows: usize, width: usize, budget: Duration) -> Timed {
    let _busy = pool.busy();
    let (a, b) = (numbers(width), numbers(rows * width));
    let mut out = numbers(rows);
    fastest(budget, (2 * rows * width) as f64, || timed(|| dot_matrix_with(isa, pool, &a, &b, width, &mut out)))
}
