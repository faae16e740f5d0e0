//! Output quantisation against `quantize_embeddings` of sentence-transformers, bit by bit.

use embral::{
    Embeddings,
    quantize::{Quantization, Ranges, quantize},
};
use embral_testkit::oracle;
use proptest::prelude::*;
use std::{fs, path::Path};

#[derive(serde::Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

/// Bytes in hexadecimal digits.
#[derive(serde::Deserialize)]
struct Case {
    dim: usize,
    rows: String,
    ranges: String,
    f16: String,
    int8: String,
    uint8: String,
    binary: String,
    ubinary: String,
}

fn bytes(digits: &str) -> Vec<u8> {
    digits.as_bytes().chunks(2).map(|two| u8::from_str_radix(str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

fn floats(digits: &str) -> Vec<f32> {
    bytes(digits).as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
}

#[test]
fn every_form_is_bit_for_bit_that_of_sentence_transformers() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/quantization.json");
    let golden: Golden = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    assert!(golden.cases.len() >= 5);
    for case in golden.cases {
        let rows = floats(&case.rows);
        let ranges = floats(&case.ranges);
        let (min, max) = ranges.split_at(case.dim);
        let ranges = Ranges::new(min.to_vec(), max.to_vec()).unwrap();
        let embeddings = Embeddings::new(rows.clone(), case.dim);
        for (form, wanted) in [
            (Quantization::Int8, &case.int8),
            (Quantization::Uint8, &case.uint8),
            (Quantization::Binary, &case.binary),
            (Quantization::Ubinary, &case.ubinary),
        ] {
            let found = quantize(&embeddings, form, Some(&ranges)).unwrap();
            assert_eq!(found.bytes(), bytes(wanted), "{form}, {} components", case.dim);
        }
        // NumPy makes an infinity of what half precision cannot hold; the golden holds the largest number instead.
        let held: Vec<f32> = rows.iter().map(|x| x.clamp(-65504.0, 65504.0)).collect();
        let found = quantize(&Embeddings::new(held, case.dim), Quantization::F16, None).unwrap();
        assert_eq!(found.bytes(), bytes(&case.f16), "f16, {} components", case.dim);
    }
}

/// `quantize_embeddings` in f64 where that is exact, and the formula where it is not.
fn reference(row: &[f32], form: Quantization, ranges: &Ranges) -> Vec<u8> {
    let eight = |i: usize| {
        let (min, max) = (ranges.min()[i], ranges.max()[i]);
        let step = (max - min) / 255.0;
        let place = ((row[i] - min) / if step == 0.0 { 1.0 } else { step }).floor();
        if place < 0.0 {
            0
        } else if place > 255.0 {
            255
        } else {
            place as u8
        }
    };
    let bits = |byte: usize| {
        (0..8).filter(|bit| row.get(byte * 8 + bit).is_some_and(|&x| x > 0.0)).map(|bit| 128u8 >> bit).sum::<u8>()
    };
    match form {
        Quantization::Uint8 => (0..row.len()).map(eight).collect(),
        Quantization::Int8 => (0..row.len()).map(|i| (i16::from(eight(i)) - 128) as i8 as u8).collect(),
        Quantization::Ubinary => (0..row.len().div_ceil(8)).map(bits).collect(),
        Quantization::Binary => (0..row.len().div_ceil(8)).map(|i| (i16::from(bits(i)) - 128) as i8 as u8).collect(),
        Quantization::F16 => unreachable!("half precision has its own golden"),
    }
}

proptest! {
    #[test]
    fn a_vector_is_quantised_by_the_formula_alone_and_in_company(seed in 0u64..1000, dim in 1usize..70, count in 1usize..8) {
        let rows = Embeddings::new(oracle::numbers(seed, count * dim), dim);
        let ranges = Ranges::of(&Embeddings::new(oracle::numbers(seed + 1, 3 * dim), dim)).unwrap();
        for form in [Quantization::Int8, Quantization::Uint8, Quantization::Binary, Quantization::Ubinary] {
            let together = quantize(&rows, form, Some(&ranges)).unwrap();
            prop_assert_eq!((together.len(), together.width()), (count, form.width(dim)));
            for (i, row) in rows.rows().enumerate() {
                let alone = quantize(&Embeddings::new(row.to_vec(), dim), form, Some(&ranges)).unwrap();
                prop_assert_eq!(alone.bytes(), together.row(i));
                prop_assert_eq!(together.row(i), reference(row, form, &ranges));
            }
        }
    }
}
