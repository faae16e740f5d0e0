//! Rotary position embeddings, and the normalisation of single heads that some models do before it.

use super::attention::AttentionShape;
use super::norm::{Norm, normalize};
use super::sequences;
use crate::parts::split_rows;
use crate::simd::{Kernel, Simd};
use crate::{Isa, Pool};
use std::sync::{Arc, Mutex, PoisonError};

/// How positions turn queries and keys: pair `i` of `rotary_dims / 2` by the angle `position · theta^(-2i / rotary_dims)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rope {
    /// The base of the wavelengths.
    pub theta: f32,
    /// The first components of a head that are turned; even.
    pub rotary_dims: usize,
    /// Whether a pair is two neighbours; otherwise it is `i` and `i + rotary_dims / 2`.
    pub interleaved: bool,
}

/// Turns the queries and keys of `qkv`, `[rows, qkv_width]`, by their positions within their sequences.
///
/// # Panics
/// Where a buffer has another size, or `rotary_dims` is odd or wider than a head.
pub fn rope(pool: &Pool, qkv: &mut [f32], offsets: &[u32], shape: &AttentionShape, rope: &Rope) {
    rope_with(Isa::active(), pool, qkv, offsets, shape, rope);
}

pub(crate) fn rope_with(isa: Isa, pool: &Pool, qkv: &mut [f32], offsets: &[u32], shape: &AttentionShape, rope: &Rope) {
    shape.check();
    let width = shape.qkv_width();
    assert!(qkv.len().is_multiple_of(width), "{} values are no rows of {width}", qkv.len());
    let count = sequences(offsets, qkv.len() / width);
    assert!(
        rope.rotary_dims.is_multiple_of(2) && rope.rotary_dims <= shape.dim,
        "{} rotary components in a head of {}",
        rope.rotary_dims,
        shape.dim
    );
    if rope.rotary_dims == 0 {
        return;
    }
    let longest = (0..count).map(|i| offsets[i + 1] - offsets[i]).max().unwrap_or(0) as usize;
    let angles = Angles::of(rope, longest);
    split_rows(pool, qkv, width, 1, &|first, rows| {
        isa.run(Turn { rows, offsets, shape, rope, angles: &angles, first });
    });
}

/// Normalises each query head with `q` and each key head with `k`.
///
/// # Panics
/// Where a buffer has another size, or a normalisation has not the width of a head.
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
    assert_eq!((q.gamma.len(), k.gamma.len()), (shape.dim, shape.dim), "the width of a head");
    let width = shape.qkv_width();
    assert!(qkv.len().is_multiple_of(width), "{} values are no rows of {width}", qkv.len());
    split_rows(pool, qkv, width, 1, &|_, rows| isa.run(Heads { rows, shape, q, k }));
}

/// Cosines and sines, `[positions, rotary_dims / 2]` each.
struct Angles {
    theta: f32,
    dims: usize,
    positions: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Angles {
    /// Those of `rope` for at least `positions` positions; kept, so that a model computes them once.
    fn of(rope: &Rope, positions: usize) -> Arc<Self> {
        static KNOWN: Mutex<Vec<Arc<Angles>>> = Mutex::new(Vec::new());
        let same = |a: &Arc<Self>| a.theta.to_bits() == rope.theta.to_bits() && a.dims == rope.rotary_dims;
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(angles) = known.iter().find(|a| same(a) && a.positions >= positions) {
            return Arc::clone(angles);
        }
        let angles = Arc::new(Self::new(rope, positions.next_power_of_two().max(512)));
        known.retain(|a| !same(a));
        known.push(Arc::clone(&angles));
        angles
    }

    /// The frequency and the angle are rounded to f32, as the models were trained with; the functions of the angle are exact.
    fn new(rope: &Rope, positions: usize) -> Self {
        let half = rope.rotary_dims / 2;
        let exponent = |i: usize| (2 * i) as f64 / rope.rotary_dims as f64;
        let frequencies: Vec<f32> = (0..half).map(|i| f64::from(rope.theta).powf(-exponent(i)) as f32).collect();
        let angle = |position: usize, frequency: f32| f64::from(position as f32 * frequency);
        let table = |f: fn(f64) -> f64| {
            (0..positions).flat_map(|p| frequencies.iter().map(move |&w| f(angle(p, w)) as f32)).collect()
        };
        Self { theta: rope.theta, dims: rope.rotary_dims, positions, cos: table(f64::cos), sin: table(f64::sin) }
    }
}

struct Turn<'a> {
    rows: &'a mut [f32],
    offsets: &'a [u32],
    shape: &'a AttentionShape,
    rope: &'a Rope,
    angles: &'a Angles,
    first: usize,
}

impl Kernel for Turn<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { rows, offsets, shape, rope, angles, first } = self;
        let half = rope.rotary_dims / 2;
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
                let head = &mut head[..rope.rotary_dims];
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
            let heads = row.chunks_exact_mut(shape.dim).take(shape.heads + shape.kv_heads);
            for (i, head) in heads.enumerate() {
                normalize(s, if i < shape.heads { q } else { k }, head);
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

    /// An angle of up to 40 rounded to f32 (2e-6), the frequency before it (as much), and two products.
    const ROPE_ERROR: f64 = 6e-6;
    /// As in `norm`.
    const NORM_ERROR: f64 = 2e-6;

    fn shape(dim: usize) -> AttentionShape {
        AttentionShape { heads: 4, kv_heads: 2, dim, scale: 1.0, mask: Mask::Full }
    }

    #[test]
    fn queries_and_keys_turn_and_values_do_not() {
        let offsets = [0, 3, 3, 43];
        each_isa("rope", |isa| {
            for (dim, rotary_dims) in [(2, 2), (8, 8), (24, 16), (34, 34), (64, 64), (64, 20), (128, 128)] {
                for interleaved in [false, true] {
                    let shape = shape(dim);
                    let x = oracle::numbers(dim as u64, 43 * shape.qkv_width());
                    let r = Rope { theta: 10_000.0, rotary_dims, interleaved };
                    let mut got = x.clone();
                    rope_with(isa, &Pool::shared(Some(1)), &mut got, &offsets, &shape, &r);
                    let mut wanted = Vec::new();
                    for (row, values) in x.chunks(shape.qkv_width()).enumerate() {
                        let position = if row < 3 { row } else { row - 3 };
                        for (i, head) in values.chunks(dim).enumerate() {
                            let dims = if i < 6 { rotary_dims } else { 0 };
                            wanted.extend(oracle::rotate(head, position, 10_000.0, dims, interleaved));
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
