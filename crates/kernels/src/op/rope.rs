//! Rotary position embeddings, and the normalisation of single heads that some models do before it.

use super::attention::AttentionShape;
use super::norm::{Norm, normalize};
use super::sequences;
use crate::parts::split_rows;
use crate::simd::{Kernel, Simd};
use crate::{Isa, Pool};
use std::sync::{Arc, Mutex, PoisonError};

/// How positions turn queries and keys: pair `i` by the angle `position · frequencies[i]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rope<'a> {
    /// One a pair; the first components of a head, twice as many, are turned.
    pub frequencies: &'a [f32],
    /// What sines and cosines are multiplied by.
    pub factor: f32,
    /// Whether a pair is two neighbours; otherwise it is `i` and `i + frequencies.len()`.
    pub interleaved: bool,
}

/// Turns the queries and keys of `qkv`, `[rows, qkv_width]`, by their positions within their sequences.
///
/// # Panics
/// Where a buffer has another size, or there are more pairs than a head has.
pub fn rope(pool: &Pool, qkv: &mut [f32], offsets: &[u32], shape: &AttentionShape, rope: &Rope<'_>) {
    rope_with(Isa::active(), pool, qkv, offsets, shape, rope);
}

pub(crate) fn rope_with(
    isa: Isa,
    pool: &Pool,
    qkv: &mut [f32],
    offsets: &[u32],
    shape: &AttentionShape,
    rope: &Rope<'_>,
) {
    shape.check();
    let width = shape.qkv_width();
    assert!(qkv.len().is_multiple_of(width), "{} values are no rows of {width}", qkv.len());
    let count = sequences(offsets, qkv.len() / width);
    let pairs = rope.frequencies.len();
    assert!(2 * pairs <= shape.dim, "{pairs} rotary pairs in a head of {}", shape.dim);
    if pairs == 0 {
        return;
    }
    let longest = (0..count).map(|i| offsets[i + 1] - offsets[i]).max().unwrap_or(0) as usize;
    let angles = Angles::of(rope, longest);
    split_rows(pool, qkv, width, 1, &|first, rows| {
        isa.run(Turn { rows, offsets, shape, rope, angles: &angles, first });
    });
}

/// Normalises the queries of each row with `q` and the keys with `k`: each head by itself where those are as wide as a head, or all
/// heads together where they are as wide as all.
///
/// # Panics
/// Where a buffer has another size, or a normalisation has another width.
pub fn head_norm(pool: &Pool, qkv: &mut [f32], shape: &AttentionShape, q: &Norm<'_>, k: &Norm<'_>) {
    head_norm_with(Isa::active(), pool, qkv, shape, q, k);
}

pub(crate) fn head_norm_with(
    isa: Isa,
    pool: &Pool,
    qkv: &mut [f32],
    shape: &AttentionShape,
    q: &Norm<'_>,
    k: &Norm<'_>,
) {
    shape.check();
    q.check();
    k.check();
    let fits = |norm: &Norm<'_>, heads: usize| [shape.dim, heads * shape.dim].contains(&norm.gamma.len());
    assert!(fits(q, shape.heads) && fits(k, shape.kv_heads), "the width of a head, or of all");
    let width = shape.qkv_width();
    assert!(qkv.len().is_multiple_of(width), "{} values are no rows of {width}", qkv.len());
    split_rows(pool, qkv, width, 1, &|_, rows| isa.run(Heads { rows, shape, q, k }));
}

/// Cosines and sines, `[positions, pairs]` each.
struct Angles {
    frequencies: Vec<f32>,
    factor: f32,
    positions: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Angles {
    /// Those of `rope` for at least `positions` positions; kept, so that a model computes them once.
    fn of(rope: &Rope<'_>, positions: usize) -> Arc<Self> {
        static KNOWN: Mutex<Vec<Arc<Angles>>> = Mutex::new(Vec::new());
        let same = |a: &Arc<Self>| a.frequencies == rope.frequencies && a.factor.to_bits() == rope.factor.to_bits();
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(angles) = known.iter().find(|a| same(a) && a.positions >= positions) {
            return Arc::clone(angles);
        }
        let angles = Arc::new(Self::new(rope, positions.next_power_of_two().max(512)));
        known.retain(|a| !same(a));
        known.push(Arc::clone(&angles));
        angles
    }

    /// The angle is rounded to f32, as the models were trained with; the functions of the angle are exact.
    fn new(rope: &Rope<'_>, positions: usize) -> Self {
        let angle = |position: usize, frequency: f32| f64::from(position as f32 * frequency);
        let factor = f64::from(rope.factor);
        let table = |f: fn(f64) -> f64| {
            (0..positions)
                .flat_map(|p| rope.frequencies.iter().map(move |&w| (factor * f(angle(p, w))) as f32))
                .collect()
        };
        let (cos, sin) = (table(f64::cos), table(f64::sin));
        Self { frequencies: rope.frequencies.to_vec(), factor: rope.factor, positions, cos, sin }
    }
}

struct Turn<'a> {
    rows: &'a mut [f32],
    offsets: &'a [u32],
    shape: &'a AttentionShape,
    rope: &'a Rope<'a>,
    angles: &'a Angles,
    first: usize,
}

impl Kernel for Turn<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { rows, offsets, shape, rope, angles, first } = self;
        let half = rope.frequencies.len();
        let turned = (shape.heads + shape.kv_heads) * shape.dim;
        let mut sequence = offsets.partition_point(|&start| start as usize <= first) - 1;
        for (i, row) in rows.chunks_exact_mut(shape.qkv_width()).enumerate() {
            while offsets[sequence + 1] as usize <= first + i {
                sequence += 1;
            }
            let position = first + i - offsets[sequence] as usize;
            let cos = &angles.cos[position * half..(position + 1) * half];
            let sin = &angles.sin[position * half..(position + 1) * half];
            for head in row[..turned].chunks_exact_mut(shape.dim) {
                let head = &mut head[..2 * half];
                if rope.interleaved {
                    for ((pair, &c), &n) in head.chunks_exact_mut(2).zip(cos).zip(sin) {
                        let (x, y) = (pair[0], pair[1]);
                        pair[0] = x * c - y * n;
                        pair[1] = y * c + x * n;
                    }
                    continue;
                }
                let (low, high) = head.split_at_mut(half);
                for (j, (low, high)) in low.chunks_mut(S::LANES).zip(high.chunks_mut(S::LANES)).enumerate() {
                    let at = j * S::LANES..j * S::LANES + low.len();
                    let (c, n) = (s.read(&cos[at.clone()]), s.read(&sin[at]));
                    let (x, y) = (s.read(low), s.read(high));
                    s.write(low, s.sub(s.mul(x, c), s.mul(y, n)));
                    s.write(high, s.add(s.mul(y, c), s.mul(x, n)));
                }
            }
        }
    }
}

struct Heads<'a> {
    rows: &'a mut [f32],
    shape: &'a AttentionShape,
    q: &'a Norm<'a>,
    k: &'a Norm<'a>,
}

impl Kernel for Heads<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { rows, shape, q, k } = self;
        for row in rows.chunks_exact_mut(shape.qkv_width()) {
            let (queries, rest) = row.split_at_mut(shape.heads * shape.dim);
            let keys = &mut rest[..shape.kv_heads * shape.dim];
            for (norm, heads) in [(q, queries), (k, keys)] {
                for part in heads.chunks_exact_mut(norm.gamma.len()) {
                    normalize(s, norm, part);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::attention::Mask;
    use crate::op::norm::NormKind;
    use crate::sweep::{bits, each_isa, pools};
    use embral_testkit::oracle;

    /// An angle of up to 40 rounded to f32 (2e-6), and two products.
    const ROPE_ERROR: f64 = 6e-6;
    /// As in `norm`.
    const NORM_ERROR: f64 = 2e-6;

    fn shape(dim: usize) -> AttentionShape {
        AttentionShape { heads: 4, kv_heads: 2, dim, scale: 1.0, mask: Mask::Full }
    }

    fn frequencies(dims: usize) -> Vec<f32> {
        (0..dims / 2).map(|i| 10_000f32.powf(-((2 * i) as f32) / dims as f32)).collect()
    }

    #[test]
    fn queries_and_keys_turn_and_values_do_not() {
        let offsets = [0, 3, 3, 43];
        each_isa("rope", |isa| {
            for (dim, rotary_dims) in [(2, 2), (8, 8), (24, 16), (34, 34), (64, 64), (64, 20), (128, 128)] {
                for interleaved in [false, true] {
                    let shape = shape(dim);
                    let x = oracle::numbers(dim as u64, 43 * shape.qkv_width());
                    let frequencies = frequencies(rotary_dims);
                    let r = Rope { frequencies: &frequencies, factor: 0.75, interleaved };
                    let mut got = x.clone();
                    rope_with(isa, &Pool::shared(Some(1)), &mut got, &offsets, &shape, &r);
                    let mut wanted = Vec::new();
                    for (row, values) in x.chunks(shape.qkv_width()).enumerate() {
                        let position = if row < 3 { row } else { row - 3 };
                        for (i, head) in values.chunks(dim).enumerate() {
                            let turned = if i < 6 { &frequencies[..] } else { &[] };
                            wanted.extend(oracle::rotate(head, position, turned, 0.75, interleaved));
                        }
                    }
                    let error = oracle::largest_difference(&got, &wanted);
                    assert!(error <= ROPE_ERROR, "{} dim {dim}, {r:?}: {error:e}", isa.name());
                    for pool in pools() {
                        let mut again = x.clone();
                        rope_with(isa, &pool, &mut again, &offsets, &shape, &r);
                        assert_eq!(bits(&again), bits(&got));
                    }
                }
            }
        });
    }

    #[test]
    fn all_heads_are_normalised_together_where_the_norm_is_as_wide() {
        each_isa("head norm, all", |isa| {
            let shape = shape(5);
            let x = oracle::numbers(3, 7 * shape.qkv_width());
            let weights = oracle::numbers(1, 20);
            let of = |width| Norm { kind: NormKind::Layer, gamma: &weights[..width], beta: None, eps: 1e-6 };
            let mut got = x.clone();
            head_norm_with(isa, &Pool::shared(Some(2)), &mut got, &shape, &of(20), &of(10));
            let mut wanted = Vec::new();
            for row in x.chunks(40) {
                let row: Vec<f64> = row.iter().map(|&x| f64::from(x)).collect();
                wanted.extend(oracle::norm(&row[..20], &weights, None, 1e-6, false));
                wanted.extend(oracle::norm(&row[20..30], &weights[..10], None, 1e-6, false));
                wanted.extend(&row[30..]);
            }
            let error = oracle::largest_difference(&got, &wanted);
            assert!(error <= NORM_ERROR, "{}: {error:e}", isa.name());
        });
    }

    #[test]
    fn heads_are_normalised_one_by_one() {
        each_isa("head norm", |isa| {
            for dim in [1, 5, 32, 64, 80] {
                let shape = shape(dim);
                let x = oracle::numbers(dim as u64, 7 * shape.qkv_width());
                let (q, k) = (oracle::numbers(1, dim), oracle::numbers(2, dim));
                let of = |gamma| Norm { kind: NormKind::Rms, gamma, beta: None, eps: 1e-6 };
                let mut got = x.clone();
                head_norm_with(isa, &Pool::shared(Some(2)), &mut got, &shape, &of(&q), &of(&k));
                let wanted: Vec<f64> = x
                    .chunks(dim)
                    .enumerate()
                    .flat_map(|(i, head)| {
                        let head: Vec<f64> = head.iter().map(|&x| f64::from(x)).collect();
                        match i % 8 {
                            0..4 => oracle::norm(&head, &q, None, 1e-6, true),
                            4..6 => oracle::norm(&head, &k, None, 1e-6, true),
                            _ => head,
                        }
                    })
                    .collect();
                let error = oracle::largest_difference(&got, &wanted);
                assert!(error <= NORM_ERROR, "{} dim {dim}: {error:e}", isa.name());
            }
        });
    }
}
