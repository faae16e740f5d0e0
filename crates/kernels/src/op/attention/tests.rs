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

const MASKS: [Mask; 7] = [
    Mask::Full,
    Mask::Causal,
    Mask::Window(0),
    Mask::Window(5),
    Mask::Window(64),
    Mask::CausalWindow(0),
    Mask::CausalWindow(9),
];

fn run(isa: Isa, pool: &Pool, qkv: &[f32], offsets: &[u32], shape: &AttentionShape) -> Vec<f32> {
    let mut out = Misaligned::of(&vec![f32::NAN; qkv.len() / shape.qkv_width() * shape.out_width()]);
    attention_with::<F32, _>(Level { isa, dots: None }, pool, qkv, offsets.into(), shape, NoBias, &mut out);
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
        causal: matches!(shape.mask, Mask::Causal | Mask::CausalWindow(_)),
        reach: if let Mask::Window(reach) | Mask::CausalWindow(reach) = shape.mask { Some(reach) } else { None },
    };
    let wanted = oracle::attention(&qkv, offsets, &heads);
    let one = Pool::shared(Some(1));
    let error = oracle::largest_difference(&run(isa, &one, &qkv, offsets, shape), &wanted);
    assert!(error <= ATTENTION_ERROR, "{} {offsets:?} {shape:?}: {error:e}", isa.name());
    // Without the instruction for bf16, and with it where there is one.
    for dots in [None, isa.dots(Numbers::Bf16)] {
        let mut out = Misaligned::of(&vec![f32::NAN; rows * shape.out_width()]);
        attention_with::<Bf16, _>(Level { isa, dots }, &one, &qkv, offsets.into(), shape, NoBias, &mut out);
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
        for shape in [
            shape(4, 4, 32, Mask::Full),
            shape(4, 2, 16, Mask::Causal),
            shape(2, 2, 8, Mask::Window(40)),
            shape(2, 2, 8, Mask::CausalWindow(30)),
        ] {
            let (width, out_width) = (shape.qkv_width(), shape.out_width());
            let qkv = oracle::numbers(6, offsets[8] as usize * width);
            let [one, two, three] = pools().map(|pool| bits(&run(isa, &pool, &qkv, &offsets, &shape)));
            assert!(one == two && two == three, "{}", isa.name());
            let bf16 = |pool: &Pool, qkv: &[f32], offsets: &[u32]| {
                let mut out = vec![f32::NAN; qkv.len() / width * out_width];
                let level = Level { isa, dots: isa.dots(Numbers::Bf16) };
                attention_with::<Bf16, _>(level, pool, qkv, offsets.into(), &shape, NoBias, &mut out);
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

/// One for each head: beyond a distance of 7 no further change.
fn distance_bias(heads: usize) -> Vec<f32> {
    oracle::numbers(12, heads * 15).iter().map(|x| 3.0 * x).collect()
}

#[test]
fn a_bias_by_distance_is_added_to_the_scores() {
    each_isa("attention bias", |isa| {
        for (mask, (heads, kv_heads), dim) in [
            (Mask::Full, (2, 2), 8),
            (Mask::Full, (4, 2), 33),
            (Mask::Causal, (2, 1), 16),
            (Mask::Window(4), (2, 2), 8),
            (Mask::Window(30), (1, 1), 8),
        ] {
            let shape = shape(heads, kv_heads, dim, mask);
            let values = distance_bias(heads);
            let bias = DistanceBias { values: &values, heads };
            for offsets in [&[0, 1, 1, 18, 58][..], &[0, KEYS as u32 + 9], &[0, 2 * KEYS as u32 + 5]] {
                let rows = *offsets.last().unwrap() as usize;
                let qkv = oracle::numbers(5, rows * shape.qkv_width());
                let h = Heads {
                    heads,
                    kv_heads,
                    dim,
                    scale: f64::from(shape.scale),
                    causal: mask == Mask::Causal,
                    reach: if let Mask::Window(reach) = mask { Some(reach) } else { None },
                };
                let wanted = oracle::attention_biased(&qkv, offsets, &h, &|head, query, key| {
                    let distance = (key as i64 - query as i64).clamp(-7, 7) + 7;
                    f64::from(values[head * 15 + distance as usize])
                });
                let one = Pool::shared(Some(1));
                let mut out = Misaligned::of(&vec![f32::NAN; wanted.len()]);
                attention_with::<F32, _>(Level { isa, dots: None }, &one, &qkv, offsets.into(), &shape, bias, &mut out);
                let error = oracle::largest_difference(&out, &wanted);
                assert!(error <= ATTENTION_ERROR, "{} {offsets:?} {shape:?}: {error:e}", isa.name());
                let all = bits(&out);
                for pool in pools() {
                    attention_with::<F32, _>(
                        Level { isa, dots: None },
                        &pool,
                        &qkv,
                        offsets.into(),
                        &shape,
                        bias,
                        &mut out,
                    );
                    assert_eq!(bits(&out), all);
                }
                for ends in offsets.windows(2) {
                    let (first, end) = (ends[0] as usize, ends[1] as usize);
                    let mut alone = vec![f32::NAN; (end - first) * shape.out_width()];
                    let qkv = &qkv[first * shape.qkv_width()..end * shape.qkv_width()];
                    let offsets = [0, ends[1] - ends[0]];
                    attention_with::<F32, _>(
                        Level { isa, dots: None },
                        &one,
                        qkv,
                        (&offsets[..]).into(),
                        &shape,
                        bias,
                        &mut alone,
                    );
                    assert_eq!(bits(&alone), all[first * shape.out_width()..end * shape.out_width()]);
                }
                for dots in [None, isa.dots(Numbers::Bf16)] {
                    attention_with::<Bf16, _>(Level { isa, dots }, &one, &qkv, offsets.into(), &shape, bias, &mut out);
                    let error = oracle::largest_difference(&out, &wanted);
                    assert!(error <= BF16_ERROR, "{} {dots:?} {offsets:?} {shape:?}: {error:e}", isa.name());
                }
            }
        }
    });
}

#[test]
#[should_panic(expected = "no odd number for each of 2 heads")]
fn a_bias_for_other_heads_is_refused() {
    let shape = shape(2, 2, 8, Mask::Full);
    let bias = DistanceBias { values: &[0.0; 15], heads: 1 };
    attention_biased(&Pool::shared(Some(1)), &[0.0; 48], (&[0, 1][..]).into(), &shape, bias, false, &mut [0.0; 16]);
}

#[test]
fn keys_and_queries_of_distances_are_added_to_the_scores() {
    let distances: Vec<u32> = (0..13).map(|i| [4, 4, 3, 3, 2, 1, 0, 5, 6, 7, 7, 8, 8][i]).collect();
    each_isa("attention relative", |isa| {
        for (dim, with) in [(8, (true, true)), (33, (true, true)), (16, (true, false)), (16, (false, true))] {
            let shape = shape(2, 2, dim, Mask::Full);
            let (keys, queries) = (oracle::numbers(2, 9 * 2 * dim), oracle::numbers(3, 9 * 2 * dim));
            let bias = RelativeBias {
                keys: with.0.then_some(&keys[..]),
                queries: with.1.then_some(&queries[..]),
                distances: &distances,
            };
            let offsets = [0, 1, 1, 18, 18 + KEYS as u32 + 9];
            let rows = offsets[4] as usize;
            let qkv = oracle::numbers(5, rows * shape.qkv_width());
            let scale = f64::from(shape.scale);
            let h = Heads { heads: 2, kv_heads: 2, dim, scale, causal: false, reach: None };
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
            let wanted = oracle::attention_biased(&qkv, &offsets, &h, &|head, query, key| {
                let distance = (key as i64 - query as i64).clamp(-6, 6) + 6;
                let row = distances[distance as usize] as usize * 2 * dim + head * dim..;
                let at = |row: usize, column: usize| &qkv[row * 6 * dim + column * dim..][..dim];
                let of_query = bias.keys.map_or(0.0, |keys| dot(at(query, head), &keys[row.clone()]));
                scale * (of_query + bias.queries.map_or(0.0, |queries| dot(at(key, 2 + head), &queries[row])))
            });
            let run = |dots: Option<_>, bf16: bool, pool: &Pool| {
                let mut out = Misaligned::of(&vec![f32::NAN; wanted.len()]);
                let attend = if bf16 { attention_with::<Bf16, _> } else { attention_with::<F32, _> };
                attend(Level { isa, dots }, pool, &qkv, (&offsets[..]).into(), &shape, bias, &mut out);
                out.to_vec()
            };
            let [one, two, three] = pools().map(|pool| run(None, false, &pool));
            assert!(bits(&one) == bits(&two) && bits(&two) == bits(&three));
            let error = oracle::largest_difference(&one, &wanted);
            assert!(error <= ATTENTION_ERROR, "{} {dim} {with:?}: {error:e}", isa.name());
            let coarse = run(isa.dots(Numbers::Bf16), true, &Pool::shared(Some(1)));
            let error = oracle::largest_difference(&coarse, &wanted);
            assert!(error <= BF16_ERROR, "{} {dim} {with:?}, bf16: {error:e}", isa.name());
            let alone = &qkv[shape.qkv_width()..18 * shape.qkv_width()];
            let mut out = vec![f32::NAN; 17 * shape.out_width()];
            let level = Level { isa, dots: None };
            attention_with::<F32, _>(
                level,
                &Pool::shared(Some(1)),
                alone,
                (&[0, 17][..]).into(),
                &shape,
                bias,
                &mut out,
            );
            assert_eq!(bits(&out), bits(&one[shape.out_width()..18 * shape.out_width()]));
        }
    });
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
                attention_with::<F32, _>(Level { isa, dots: None }, &pool, &qkv, sequences, &shape, NoBias, &mut out);
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

#[test]
fn a_bias_is_by_place_for_rows_that_look_on_too() {
    for (n, keys) in [(9, 4), (40, 39), (KEYS + 90, KEYS + 3)] {
        let shape = shape(2, 2, 8, Mask::Full);
        let values = distance_bias(2);
        let bias = DistanceBias { values: &values, heads: 2 };
        let qkv = oracle::numbers(9, n * shape.qkv_width());
        let offsets = [0, n as u32];
        let heads = Heads { heads: 2, kv_heads: 2, dim: 8, scale: f64::from(shape.scale), causal: false, reach: None };
        let wanted = oracle::attention_biased(&qkv, &offsets, &heads, &|head, query, key| {
            let distance = (key as i64 - query as i64).clamp(-7, 7) + 7;
            if key < keys { f64::from(values[head * 15 + distance as usize]) } else { f64::NEG_INFINITY }
        });
        each_isa("attention bias of onlookers", |isa| {
            let mut out = vec![f32::NAN; n * shape.out_width()];
            let sequences = Sequences { offsets: &offsets, seen: &[keys as u32] };
            let pool = Pool::shared(Some(2));
            attention_with::<F32, _>(Level { isa, dots: None }, &pool, &qkv, sequences, &shape, bias, &mut out);
            let error = oracle::largest_difference(&out, &wanted);
            assert!(error <= ATTENTION_ERROR, "{} {n} {keys}: {error:e}", isa.name());
        });
    }
}
