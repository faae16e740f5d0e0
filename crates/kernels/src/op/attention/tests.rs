use super::*;
use crate::sweep::{Misaligned, bits, each_isa, pools, sizes};
use embral_testkit::oracle::{self, Heads};

/// Weights that sum to 1 times values below 1: the error of the scores (below 8, three units in the last place) and of two sums.
const ATTENTION_ERROR: f64 = 3e-6;

/// Keys, values, queries and weights rounded to bf16: each score is off by 2^-8 of the sum of its terms, about 1, at most, and so is
/// each weight; what is left is the mean of many such errors.
const BF16_ERROR: f64 = 2.5e-2;

fn shape(heads: usize, kv_heads: usize, dim: usize, mask: Mask) -> AttentionShape {
    AttentionShape { heads, kv_heads, dim, scale: 1.0 / (dim as f32).sqrt(), mask }
}

const MASKS: [Mask; 5] = [Mask::Full, Mask::Causal, Mask::Window(0), Mask::Window(5), Mask::Window(64)];

fn run(isa: Isa, pool: &Pool, qkv: &[f32], offsets: &[u32], shape: &AttentionShape) -> Vec<f32> {
    let mut out = Misaligned::of(&vec![f32::NAN; qkv.len() / shape.qkv_width() * shape.out_width()]);
    attention_with::<F32>(isa, None, pool, qkv, offsets.into(), shape, &mut out);
    out.to_vec()
}

fn check(isa: Isa, offsets: &[u32], shape: &AttentionShape) {
    let rows = *offsets.last().unwrap() as usize;
    let qkv: Vec<f32> = oracle::numbers(5, rows * shape.qkv_width()).iter().map(|x| 2.0 * x).collect();
    let qkv = Misaligned::of(&qkv);
    let heads = Heads {
        heads: shape.heads,
        kv_heads: shape.kv_heads,
        dim: shape.dim,
        scale: f64::from(shape.scale),
        causal: shape.mask == Mask::Causal,
        reach: if let Mask::Window(reach) = shape.mask { Some(reach) } else { None },
    };
    let wanted = oracle::attention(&qkv, offsets, &heads);
    let one = Pool::shared(Some(1));
    let error = oracle::largest_difference(&run(isa, &one, &qkv, offsets, shape), &wanted);
    assert!(error <= ATTENTION_ERROR, "{} {offsets:?} {shape:?}: {error:e}", isa.name());
    // Without the instruction for bf16, and with it where there is one.
    for dots in [None, isa.dots(Numbers::Bf16)] {
        let mut out = Misaligned::of(&vec![f32::NAN; rows * shape.out_width()]);
        attention_with::<Bf16>(isa, dots, &one, &qkv, offsets.into(), shape, &mut out);
        let error = oracle::largest_difference(&out, &wanted);
        assert!(error <= BF16_ERROR, "{} {dots:?} {offsets:?} {shape:?}: {error:e}", isa.name());
    }
}

#[test]
fn rows_are_those_of_f64() {
    each_isa("attention", |isa| {
        for mask in MASKS {
            for n in sizes(isa) {
                check(isa, &[0, n as u32, n as u32, 2 * n as u32 + 1], &shape(2, 2, 8, mask));
            }
            for dim in [1, 5, 32, 33, 64, 80, 128] {
                check(isa, &[0, 1, 21, 58], &shape(4, 2, dim, mask));
            }
            // Longer than a block of scores, and than a block of queries.
            check(isa, &[0, KEYS as u32 + 5], &shape(1, 1, 16, mask));
            check(isa, &[0, 2 * KEYS as u32 + 33], &shape(2, 1, 8, mask));
            check(isa, &[0, QUERIES as u32 + 77], &shape(2, 1, 4, mask));
        }
    });
}

#[test]
fn a_sequence_is_the_same_alone_and_in_company() {
    let lengths = [11, 1, 0, 40, 700, 11, 3, 128];
    let offsets: Vec<u32> = std::iter::once(0)
        .chain(lengths.iter().scan(0, |sum, n| {
            *sum += n;
            Some(*sum)
        }))
        .collect();
    each_isa("attention sequences", |isa| {
        for shape in [shape(4, 4, 32, Mask::Full), shape(4, 2, 16, Mask::Causal), shape(2, 2, 8, Mask::Window(40))] {
            let (width, out_width) = (shape.qkv_width(), shape.out_width());
            let qkv = oracle::numbers(6, offsets[8] as usize * width);
            let [one, two, three] = pools().map(|pool| bits(&run(isa, &pool, &qkv, &offsets, &shape)));
            assert!(one == two && two == three, "{}", isa.name());
            let bf16 = |pool: &Pool, qkv: &[f32], offsets: &[u32]| {
                let mut out = vec![f32::NAN; qkv.len() / width * out_width];
                attention_with::<Bf16>(isa, isa.dots(Numbers::Bf16), pool, qkv, offsets.into(), &shape, &mut out);
                bits(&out)
            };
            let all = bf16(&Pool::shared(Some(2)), &qkv, &offsets);
            for ends in offsets.windows(2) {
                let (first, end) = (ends[0] as usize, ends[1] as usize);
                let n = (end - first) as u32;
                let alone = run(isa, &Pool::shared(Some(1)), &qkv[first * width..end * width], &[0, n], &shape);
                assert_eq!(bits(&alone), one[first * out_width..end * out_width], "{} {n}", isa.name());
                let alone = bf16(&Pool::shared(Some(1)), &qkv[first * width..end * width], &[0, n]);
                assert_eq!(alone, all[first * out_width..end * out_width], "{} bf16 {n}", isa.name());
            }
        }
    });
}

/// A causal row does not see what comes later, whatever it is.
#[test]
fn later_tokens_change_nothing_in_a_causal_row() {
    let shape = shape(2, 1, 32, Mask::Causal);
    let qkv = oracle::numbers(8, 90 * shape.qkv_width());
    each_isa("attention causal", |isa| {
        let all = bits(&run(isa, &Pool::shared(Some(1)), &qkv, &[0, 90], &shape));
        for n in [1, 2, 17, 60, 89] {
            let some = bits(&run(isa, &Pool::shared(Some(1)), &qkv[..n * shape.qkv_width()], &[0, n as u32], &shape));
            assert_eq!(some, all[..n * shape.out_width()], "{} {n}", isa.name());
        }
    });
}

#[test]
fn large_scores_and_nan_have_defined_results() {
    let shape = shape(1, 1, 4, Mask::Full);
    each_isa("attention edges", |isa| {
        let mut qkv = oracle::numbers(9, 40 * 12);
        for row in qkv.chunks_mut(12) {
            row[..8].iter_mut().for_each(|x| *x *= 1e4);
        }
        let out = run(isa, &Pool::shared(Some(1)), &qkv, &[0, 40], &shape);
        assert!(out.iter().all(|x| x.abs() <= 1.0), "a mean of values is none larger");
        qkv[5 * 12] = f32::NAN;
        let out = run(isa, &Pool::shared(Some(1)), &qkv, &[0, 20, 40], &shape);
        for (row, values) in out.chunks(4).enumerate() {
            assert!(values.iter().all(|x| x.is_nan() == (row == 5)), "row {row}: {values:?}");
        }
    });
}

/// More keys than fit any cache, and blocks of queries that share nothing.
#[test]
fn a_long_sequence_is_a_row_at_a_time() {
    let n = 5_000;
    let shape = shape(1, 1, 1, Mask::Full);
    let qkv = oracle::numbers(10, n * 3);
    let pool = Pool::shared(Some(2));
    let out = run(Isa::active(), &pool, &qkv, &[0, n as u32], &shape);
    for row in [0, 2_500, 4_999] {
        let score = |other: usize| f64::from(qkv[row * 3]) * f64::from(qkv[other * 3 + 1]);
        let sum: f64 = (0..n).map(|other| score(other).exp()).sum();
        let wanted: f64 = (0..n).map(|other| score(other).exp() / sum * f64::from(qkv[other * 3 + 2])).sum();
        assert!((f64::from(out[row]) - wanted).abs() < ATTENTION_ERROR, "row {row}");
    }
}

/// A row that only looks on gets what it would get as a row of the keys' sequence without being a key, and changes nothing for them.
#[test]
fn rows_that_look_on_see_the_keys_and_are_not_seen() {
    for (n, keys) in [(9, 4), (40, 39), (70, 1), (KEYS + 90, KEYS + 3)] {
        let shape = shape(4, 2, 16, Mask::Full);
        let (width, out_width) = (shape.qkv_width(), shape.out_width());
        let qkv = oracle::numbers(8, 2 * n * width);
        let offsets = [0, n as u32, 2 * n as u32];
        // The onlookers' queries in the places of those of the keys, as many at a time as there are.
        let heads = Heads { heads: 4, kv_heads: 2, dim: 16, scale: 0.25, causal: false, reach: None };
        let mut wanted = Vec::new();
        for some in qkv[keys * width..n * width].chunks(keys * width) {
            let mut rows = qkv[..keys * width].to_vec();
            for (row, onlooker) in rows.chunks_exact_mut(width).zip(some.chunks_exact(width)) {
                row[..out_width].copy_from_slice(&onlooker[..out_width]);
            }
            let found = oracle::attention(&rows, &[0, keys as u32], &heads);
            wanted.extend_from_slice(&found[..some.len() / width * out_width]);
        }
        each_isa("attention of onlookers", |isa| {
            for pool in pools() {
                let mut out = vec![f32::NAN; 2 * n * out_width];
                let sequences = Sequences { offsets: &offsets, seen: &[keys as u32, n as u32] };
                attention_with::<F32>(isa, None, &pool, &qkv, sequences, &shape, &mut out);
                let alone = run(isa, &pool, &qkv[..keys * width], &[0, keys as u32], &shape);
                assert_eq!(bits(&out[..keys * out_width]), bits(&alone), "{} {n} {keys}", isa.name());
                let all = run(isa, &pool, &qkv[n * width..], &[0, n as u32], &shape);
                assert_eq!(bits(&out[n * out_width..]), bits(&all), "{} {n} {keys}", isa.name());
                let error = oracle::largest_difference(&out[keys * out_width..n * out_width], &wanted);
                assert!(error <= ATTENTION_ERROR, "{} {n} {keys}: {error:e}", isa.name());
            }
        });
    }
}
