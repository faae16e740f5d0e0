use super::pack::{FORM, Level};
use super::*;
use crate::Isa;
use crate::sweep::{Misaligned, bits, each_isa, pools, sizes};
use embral_testkit::oracle;

/// A chain of `k` products of numbers uniform in [-1, 1): sum `i` is about √i / 3, its rounding error up to 2^-24 of that, and the
/// errors add up like a random walk, to 8e-9 k in the mean square; eight times that.
fn bound(k: usize) -> f64 {
    4e-7 + k as f64 * 6.6e-8
}

fn plain(isa: Isa) -> Level {
    Level { isa, dots: None }
}

/// With and without the instructions for the numbers, where the machine has them.
fn levels(isa: Isa, precision: Precision) -> Vec<Level> {
    let dots = precision.numbers().and_then(|numbers| isa.dots(numbers));
    let mut levels = vec![plain(isa)];
    levels.extend(dots.map(|_| Level { isa, dots }));
    levels
}

fn run(isa: Isa, pool: &Pool, a: &[f32], rows: usize, n: usize, weights: &[f32], e: &Epilogue<'_>) -> Vec<f32> {
    let w = PackedMatrix::pack_for(plain(isa), Precision::F32, n, a.len() / rows.max(1), weights);
    let mut out = vec![f32::NAN; rows * n];
    gemm(pool, a, rows, &w, e, &mut out);
    out
}

/// Bytes of a matrix where a cache line begins.
#[repr(align(64))]
struct Aligned([u8; 4096]);

struct Lent {
    bytes: Box<Aligned>,
    range: std::ops::Range<usize>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes.0[self.range.clone()]
    }
}

#[test]
fn an_image_gives_the_matrix_again_and_other_lengths_give_none() {
    let (n, k) = (9, 13);
    let (gate, up) = (oracle::numbers(1, n * k), oracle::numbers(2, n * k));
    let a = oracle::numbers(3, 2 * k);
    let product = |w: &PackedMatrix| {
        let mut out = vec![f32::NAN; 2 * n];
        gemm(&Pool::shared(Some(1)), &a, 2, w, &Epilogue::default(), &mut out);
        bits(&out)
    };
    for precision in Precision::ALL {
        for gated in [false, true] {
            let packed = match gated {
                false => PackedMatrix::pack(precision, n, k, &gate),
                true => PackedMatrix::pack_gated(precision, n, k, &gate, &up),
            };
            let image = packed.image().concat();
            let lend = |start: usize, len: usize, k: usize| {
                let mut bytes = Box::new(Aligned([0; 4096]));
                let given = &image[..len.min(image.len())];
                bytes.0[start..][..given.len()].copy_from_slice(given);
                let lent = Lent { bytes, range: start..start + len };
                PackedMatrix::from_image(precision, (n, k), gated, std::sync::Arc::new(lent))
            };
            let whole = image.len();
            assert_eq!(PackedMatrix::packed_bytes(precision, (n, k), gated), whole, "{precision:?}");
            assert_eq!(product(&lend(0, whole, k).unwrap()), product(&packed), "{precision:?}");
            assert_eq!(product(&lend(4, whole, k).unwrap()), product(&packed), "{precision:?}");
            assert!(lend(1, whole, k).is_none(), "not in its place");
            for len in [0, 4, whole - 4, whole - 1, whole + 1, whole + 4] {
                assert!(lend(0, len, k).is_none(), "{precision:?}: {len} bytes");
            }
            assert!(lend(0, whole, usize::MAX / 4).is_none() && lend(0, whole, 2 * k).is_none());
        }
    }
}

/// FNV-1a.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &b| (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

/// Where this fails, packed weights have another form: raise `FORM`, so that those kept on disk are packed anew, and put the hashes
/// that are found here.
#[test]
#[cfg(target_endian = "little")]
fn the_bytes_of_a_form_stay_what_they_are() {
    /// By the lanes of a level: f32, bf16, int8.
    const HASHES: [(usize, [u64; 3]); 3] = [
        (4, [0xdd96_3f8d_94ae_c8c7, 0x3690_df1e_02f7_249b, 0x5aa7_f82e_0fb5_9803]),
        (8, [0x92c9_edf9_278c_cd3f, 0x14d1_67f4_bbae_d66f, 0xa8c1_2ccf_a55d_dac7]),
        (16, [0xc981_4549_7201_5c37, 0x0b71_5e76_9e27_ded7, 0xf3a8_f263_a622_b32f]),
    ];
    assert_eq!(FORM, 1, "the hashes are those of form 1");
    let (n, k) = (37, 21);
    let weights: Vec<f32> = (0..n * k).map(|i| ((i * 37 + i / 7) % 255) as f32 / 128.0 - 1.0).collect();
    each_isa("packed form", |isa| {
        let (_, hashes) = HASHES.into_iter().find(|(lanes, _)| *lanes == isa.lanes()).expect("a level that is known");
        for (precision, hash) in Precision::ALL.into_iter().zip(hashes) {
            for level in levels(isa, precision) {
                let image = PackedMatrix::pack_for(level, precision, n, k, &weights).image().concat();
                let found = fingerprint(&image);
                assert_eq!(found, hash, "{level:?} {precision:?}: {found:#018x}");
            }
        }
    });
}

#[test]
fn products_are_those_of_f64() {
    let one = Pool::shared(Some(1));
    each_isa("gemm", |isa| {
        let check = |rows: usize, k: usize, n: usize| {
            let a = Misaligned::of(&oracle::numbers(1, rows * k));
            let weights = Misaligned::of(&oracle::numbers(2, n * k));
            let got = run(isa, &one, &a, rows, n, &weights, &Epilogue::default());
            let error = oracle::largest_difference(&got, &oracle::product(&a, &weights, k));
            assert!(error <= bound(k), "{} [{rows} x {k} x {n}]: {error:e}", isa.name());
        };
        for n in sizes(isa).skip(1) {
            check(3, 5, n);
        }
        for rows in 1..=2 * MAX_TILE + 3 {
            check(rows, 7, 2 * isa.lanes() + 3);
        }
        for k in [1, 2, 16, 383, 384, 385, 769] {
            check(4, k, 33);
        }
    });
}

#[test]
fn bias_activation_and_residual_follow_in_this_order() {
    let (rows, k, n) = (17, 20, 37);
    let (a, weights) = (oracle::numbers(1, rows * k), oracle::numbers(2, n * k));
    let (bias, residual) = (oracle::numbers(3, n), oracle::numbers(4, rows * n));
    each_isa("gemm epilogue", |isa| {
        let wanted: Vec<f64> = oracle::product(&a, &weights, k)
            .iter()
            .enumerate()
            .map(|(i, sum)| oracle::gelu_erf(sum + f64::from(bias[i % n])) + f64::from(residual[i]))
            .collect();
        let e = Epilogue { bias: Some(&bias), activation: Activation::GeluErf, residual: Residual::Add(&residual) };
        let added = run(isa, &Pool::shared(Some(1)), &a, rows, n, &weights, &e);
        let error = oracle::largest_difference(&added, &wanted);
        assert!(error <= 2.0 * bound(k), "{}: {error:e}", isa.name());
        let w = PackedMatrix::pack_for(plain(isa), Precision::F32, n, k, &weights);
        let mut out = residual.clone();
        gemm(&Pool::shared(Some(1)), &a, rows, &w, &Epilogue { residual: Residual::InPlace, ..e }, &mut out);
        assert_eq!(bits(&out), bits(&added));
    });
}

#[test]
fn a_gate_multiplies_its_column() {
    each_isa("gemm gated", |isa| {
        for n in sizes(isa).skip(1) {
            let (rows, k) = (5, 18);
            let (a, bias) = (oracle::numbers(1, rows * k), oracle::numbers(5, 2 * n));
            let (gate, up) = (oracle::numbers(2, n * k), oracle::numbers(3, n * k));
            let w = PackedMatrix::pack_gated_for(plain(isa), Precision::F32, n, k, &gate, &up);
            assert_eq!((w.rows_out(), w.k()), (n, k));
            let e = Epilogue { bias: Some(&bias), activation: Activation::Silu, residual: Residual::None };
            let mut out = vec![f32::NAN; rows * n];
            gemm(&Pool::shared(Some(1)), &a, rows, &w, &e, &mut out);
            let (gate, up) = (oracle::product(&a, &gate, k), oracle::product(&a, &up, k));
            let wanted: Vec<f64> = (0..rows * n)
                .map(|i| oracle::silu(gate[i] + f64::from(bias[i % n])) * (up[i] + f64::from(bias[n + i % n])))
                .collect();
            let error = oracle::largest_difference(&out, &wanted);
            // Both factors are below 8.
            assert!(error <= 16.0 * bound(k), "{} {n}: {error:e}", isa.name());
        }
    });
}

/// Rows alone, in groups of every tile size, in row blocks, at several numbers of threads.
#[test]
fn a_row_is_the_same_alone_and_in_company() {
    let (rows, k, n) = (301, 400, 130);
    let a = oracle::numbers(1, rows * k);
    let weights = oracle::numbers(2, n * k);
    each_isa("gemm rows", |isa| {
        let w = PackedMatrix::pack_for(plain(isa), Precision::F32, n, k, &weights);
        let product = |pool: &Pool, a: &[f32]| {
            let mut out = vec![f32::NAN; a.len() / k * n];
            gemm(pool, a, a.len() / k, &w, &Epilogue::default(), &mut out);
            bits(&out)
        };
        let [one, two, three] = pools();
        let all = product(&one, &a);
        for count in 1..=30 {
            let first = count * 7;
            let some = product(&two, &a[first * k..(first + count) * k]);
            assert_eq!(some, all[first * n..(first + count) * n], "{} {count} rows", isa.name());
        }
        for pool in [two, three] {
            assert_eq!(product(&pool, &a), all, "{} {} threads", isa.name(), pool.threads());
        }
    });
}

#[test]
fn infinities_and_nan_stay_in_their_rows_and_columns() {
    let (rows, k, n) = (20, 9, 40);
    let mut a = oracle::numbers(1, rows * k);
    let mut weights = oracle::numbers(2, n * k);
    a[3 * k + 2] = f32::NAN;
    a[5 * k] = f32::INFINITY;
    weights[11 * k + 1] = f32::NEG_INFINITY;
    a[8 * k..9 * k].fill(1e-42);
    each_isa("gemm edges", |isa| {
        let out = run(isa, &Pool::shared(Some(1)), &a, rows, n, &weights, &Epilogue::default());
        for (i, x) in out.iter().enumerate() {
            let (row, column) = (i / n, i % n);
            match (row, column) {
                (3, _) => assert!(x.is_nan()),
                (5, 11) => assert!(!x.is_finite()),
                (5, _) | (_, 11) => assert!(x.is_infinite(), "{row}, {column}: {x}"),
                (8, _) => assert!(x.abs() < 1e-40),
                _ => assert!(x.is_finite()),
            }
        }
    });
}

#[test]
fn nothing_gives_nothing() {
    each_isa("gemm empty", |isa| {
        assert!(run(isa, &Pool::shared(Some(2)), &[], 0, 3, &[], &Epilogue::default()).is_empty());
        let w = PackedMatrix::pack_for(plain(isa), Precision::F32, 2, 0, &[]);
        let mut out = [f32::NAN; 4];
        let e = Epilogue { bias: Some(&[1.0, 2.0]), ..Epilogue::default() };
        gemm(&Pool::shared(Some(2)), &[], 2, &w, &e, &mut out);
        assert_eq!(out, [1.0, 2.0, 1.0, 2.0]);
    });
}

#[test]
#[should_panic(expected = "a is [2, 3]")]
fn another_size_is_refused() {
    let w = PackedMatrix::pack(Precision::F32, 1, 3, &[0.0; 3]);
    gemm(&Pool::shared(Some(1)), &[0.0; 5], 2, &w, &Epilogue::default(), &mut [0.0; 2]);
}

/// What `precision` makes of rows and weights at most: half a step of either, times the other, over `k`.
fn rounding(precision: Precision, a: &[f32], weights: &[f32], k: usize) -> Vec<f64> {
    let half_steps = |row: &[f32], levels: f64| -> f64 {
        let (low, high) = row.iter().fold((0.0_f32, 0.0_f32), |(low, high), &x| (low.min(x), high.max(x)));
        f64::from(high - low) / levels / 2.0
    };
    let mut all = Vec::new();
    for row in a.chunks_exact(k) {
        for column in weights.chunks_exact(k) {
            let symmetric = 2.0 * column.iter().fold(0.0_f64, |m, &w| m.max(f64::from(w).abs())) / 254.0 / 2.0;
            let sum: f64 = row
                .iter()
                .zip(column)
                .map(|(&a, &w)| {
                    let (a, w) = (f64::from(a).abs(), f64::from(w).abs());
                    let (da, dw) = match precision {
                        Precision::F32 => (0.0, 0.0),
                        Precision::Bf16 => (a / 256.0, w / 256.0),
                        Precision::Int8 => (1.001 * half_steps(row, 254.0), 1.001 * symmetric),
                    };
                    da * w + dw * a + da * dw
                })
                .sum();
            all.push(sum * 1.00001 + 4.0 * bound(k));
        }
    }
    all
}

#[test]
fn small_numbers_are_off_by_their_rounding_at_most() {
    let one = Pool::shared(Some(1));
    for precision in [Precision::Bf16, Precision::Int8] {
        each_isa("gemm of small numbers", |isa| {
            for level in levels(isa, precision) {
                let check = |rows: usize, k: usize, n: usize| {
                    let a = Misaligned::of(&oracle::numbers(1, rows * k));
                    let weights = Misaligned::of(&oracle::numbers(2, n * k));
                    let w = PackedMatrix::pack_for(level, precision, n, k, &weights);
                    let mut out = vec![f32::NAN; rows * n];
                    gemm(&one, &a, rows, &w, &Epilogue::default(), &mut out);
                    let wanted = oracle::product(&a, &weights, k);
                    let bounds = rounding(precision, &a, &weights, k);
                    for (i, ((&got, wanted), bound)) in out.iter().zip(wanted).zip(bounds).enumerate() {
                        let error = (f64::from(got) - wanted).abs();
                        assert!(
                            error <= bound,
                            "{level:?} {precision:?} [{rows} x {k} x {n}] {i}: {error:e} > {bound:e}"
                        );
                    }
                };
                for n in sizes(isa).skip(1) {
                    check(3, 5, n);
                }
                for rows in 1..=2 * MAX_TILE + 3 {
                    check(rows, 7, 2 * isa.lanes() + 3);
                }
                for k in [1, 2, 3, 4, 15, 16, 17, 767, 768, 769, 1535, 1536, 1537, 1540, 3073] {
                    check(4, k, 33);
                }
            }
        });
    }
}

#[test]
fn every_level_sums_the_same_integers() {
    let (rows, k, n) = (9, 1541, 35);
    let (a, weights) = (oracle::numbers(1, rows * k), oracle::numbers(2, n * k));
    let first = std::cell::RefCell::new(None::<Vec<f32>>);
    each_isa("gemm of integers", |isa| {
        for level in levels(isa, Precision::Int8) {
            let w = PackedMatrix::pack_for(level, Precision::Int8, n, k, &weights);
            let mut out = vec![f32::NAN; rows * n];
            gemm(&Pool::shared(Some(1)), &a, rows, &w, &Epilogue::default(), &mut out);
            let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 2e-6 * a.abs().max(1.0);
            let mut first = first.borrow_mut();
            let first = first.get_or_insert_with(|| out.clone());
            assert!(first.iter().zip(&out).all(near), "{level:?}");
        }
    });
}

#[test]
fn rows_of_small_numbers_are_the_same_alone_and_in_company() {
    let (rows, k, n) = (301, 400, 130);
    let (a, weights) = (oracle::numbers(1, rows * k), oracle::numbers(2, n * k));
    for precision in [Precision::Bf16, Precision::Int8] {
        each_isa("gemm rows of small numbers", |isa| {
            for level in levels(isa, precision) {
                let w = PackedMatrix::pack_for(level, precision, n, k, &weights);
                let product = |pool: &Pool, a: &[f32]| {
                    let mut out = vec![f32::NAN; a.len() / k * n];
                    gemm(pool, a, a.len() / k, &w, &Epilogue::default(), &mut out);
                    bits(&out)
                };
                let [one, two, three] = pools();
                let all = product(&one, &a);
                for count in 1..=30 {
                    let first = count * 7;
                    let some = product(&two, &a[first * k..(first + count) * k]);
                    assert_eq!(some, all[first * n..(first + count) * n], "{level:?} {count} rows");
                }
                for pool in [two, three] {
                    assert_eq!(product(&pool, &a), all, "{level:?} {} threads", pool.threads());
                }
            }
        });
    }
}

#[test]
fn a_row_of_small_numbers_that_is_not_finite_gives_no_finite_one() {
    let (rows, k, n) = (6, 21, 40);
    let mut a = oracle::numbers(1, rows * k);
    a[k + 2] = f32::NAN;
    a[3 * k] = f32::INFINITY;
    a[4 * k..5 * k].fill(0.0);
    a[5 * k..].fill(-1e-42);
    let weights = oracle::numbers(2, n * k);
    for precision in [Precision::Bf16, Precision::Int8] {
        each_isa("gemm edges of small numbers", |isa| {
            for level in levels(isa, precision) {
                let w = PackedMatrix::pack_for(level, precision, n, k, &weights);
                let mut out = vec![f32::NAN; rows * n];
                gemm(&Pool::shared(Some(1)), &a, rows, &w, &Epilogue::default(), &mut out);
                for (i, x) in out.iter().enumerate() {
                    match i / n {
                        1 | 3 => assert!(!x.is_finite(), "{level:?} {precision:?} row {}: {x}", i / n),
                        4 => assert_eq!(*x, 0.0),
                        5 => assert!(x.abs() < 1e-40),
                        _ => assert!(x.is_finite()),
                    }
                }
            }
        });
    }
}

#[test]
fn bf16_rounds_to_nearest_even() {
    use crate::simd::to_bf16;
    let cases = [
        (1.0, 0x3f80),
        (f32::from_bits(0x3f80_8000), 0x3f80),
        (f32::from_bits(0x3f80_8001), 0x3f81),
        (f32::from_bits(0x3f81_8000), 0x3f82),
        (f32::MAX, 0x7f80),
        (f32::NEG_INFINITY, 0xff80),
        (-0.0, 0x8000),
        (f32::from_bits(0x7fff_ffff), 0x7fc0),
    ];
    for (x, bits) in cases {
        assert_eq!(to_bf16(x), bits, "{x}");
    }
}

/// In every level: what is done to a product of small numbers is what is done to one of f32.
#[test]
fn small_numbers_have_the_same_epilogue() {
    let (rows, k, n) = (17, 20, 37);
    let (a, weights) = (oracle::numbers(1, rows * k), oracle::numbers(2, n * k));
    let (bias, residual) = (oracle::numbers(3, n), oracle::numbers(4, rows * n));
    let pool = Pool::shared(Some(1));
    for precision in [Precision::Bf16, Precision::Int8] {
        each_isa("gemm epilogue of small numbers", |isa| {
            for level in levels(isa, precision) {
                let w = PackedMatrix::pack_for(level, precision, n, k, &weights);
                let product = |e: &Epilogue<'_>| {
                    let mut out = residual.clone();
                    gemm(&pool, &a, rows, &w, e, &mut out);
                    out
                };
                let plain = product(&Epilogue::default());
                let full = product(&Epilogue {
                    bias: Some(&bias),
                    activation: Activation::GeluErf,
                    residual: Residual::InPlace,
                });
                for (i, (&plain, &full)) in plain.iter().zip(&full).enumerate() {
                    let wanted = oracle::gelu_erf(f64::from(plain + bias[i % n])) + f64::from(residual[i]);
                    assert!(
                        (f64::from(full) - wanted).abs() < 1e-4 * wanted.abs().max(4.0),
                        "{level:?} {precision:?} {i}"
                    );
                }
                let gated = PackedMatrix::pack_gated_for(level, precision, n, k, &weights, &weights);
                let mut out = vec![f32::NAN; rows * n];
                gemm(
                    &pool,
                    &a,
                    rows,
                    &gated,
                    &Epilogue { bias: None, activation: Activation::Relu, ..Epilogue::default() },
                    &mut out,
                );
                for (&plain, &gated) in plain.iter().zip(&out) {
                    assert!(
                        (plain.max(0.0) * plain - gated).abs() < 1e-5 * gated.abs().max(1.0),
                        "{level:?} {precision:?}"
                    );
                }
            }
        });
    }
}
