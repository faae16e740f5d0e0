//! The table: where it starts, which way it is turned, and how it is stored.

use super::{
    optimise::{Pooled, each_row},
    pca::Basis,
    plan::dot,
    teacher::Vectors,
    tokens::Tokens,
};
use embral_kernels::{
    Pool,
    op::gemm::{Epilogue, PackedMatrix, Precision, gemm},
};

/// Texts whose vectors decide which way the table is turned.
const TURN_TEXTS: usize = 100_000;
/// Texts pooled at a time.
const BLOCK: usize = 4096;

/// The table before refinement: the teacher's vector of each piece alone in the dimensions of `basis`, at unit length, times
/// `a / (a + p)` for a piece of relative frequency `p` (SIF, Arora et al. 2017).
pub(crate) fn start(pool: &Pool, pieces: &Vectors, basis: &Basis, counts: &[u64], a: f64) -> Vec<f32> {
    let (rows, width) = (pieces.len(), basis.dims());
    let mut alone = vec![0.0; rows * pieces.dim];
    for (index, row) in each_row(&mut alone, pieces.dim).enumerate() {
        pieces.read(index, row);
    }
    let mut table = vec![0.0; rows * width];
    let projection = PackedMatrix::pack(Precision::F32, width, basis.width, &basis.directions);
    gemm(pool, &alone, rows, &projection, &Epilogue::default(), &mut table);
    let total = counts.iter().sum::<u64>().max(1) as f64;
    for (row, &count) in each_row(&mut table, width).zip(counts) {
        let weight = a / (a + count as f64 / total);
        let scale = weight as f32 / dot(row, row).sqrt().max(1e-9);
        row.iter_mut().for_each(|v| *v *= scale);
    }
    table
}

/// Turns the table so that the vectors of texts hold most of their energy in the first components: similarities stay, and a cut
/// keeps the most. Returns the part of the energy of each component.
pub(crate) fn turn(pool: &Pool, table: &mut Vec<f32>, width: usize, tokens: &Tokens, seed: u64) -> Vec<f64> {
    let mut order: Vec<u32> = (0..tokens.len() as u32).filter(|&t| !tokens.text(t).is_empty()).collect();
    crate::random::Random::new(seed).shuffle(&mut order);
    order.truncate(TURN_TEXTS);
    let mut units = Vec::with_capacity(order.len() * width);
    for texts in order.chunks(BLOCK) {
        let texts: Vec<&[u32]> = texts.iter().map(|&t| tokens.text(t)).collect();
        units.extend(Pooled::of(pool, table, width, &texts).units);
    }
    let basis = Basis::of(pool, order.len(), width, width, |i, out| out.copy_from_slice(&units[i * width..][..width]));
    let mut turned = vec![0.0; table.len()];
    let directions = PackedMatrix::pack(Precision::F32, width, width, &basis.directions);
    gemm(pool, table, table.len() / width, &directions, &Epilogue::default(), &mut turned);
    *table = turned;
    basis.energy
}

/// A table of 8-bit rows and what each is multiplied by.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Quantised {
    pub(crate) rows: Vec<i8>,
    /// The largest magnitude of the row, by 127.
    pub(crate) weights: Vec<f32>,
}

impl Quantised {
    /// Symmetric, a row at a time, to the nearest of 255 steps: a component is off by at most 1/254 of the row's largest.
    pub(crate) fn of(table: &[f32], width: usize) -> Self {
        let mut quantised =
            Self { rows: Vec::with_capacity(table.len()), weights: Vec::with_capacity(table.len() / width) };
        for row in table.chunks_exact(width) {
            let largest = row.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            let step = if largest > 0.0 { largest / 127.0 } else { 1.0 };
            quantised.rows.extend(row.iter().map(|v| (v / step).round() as i8));
            quantised.weights.push(step);
        }
        quantised
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use embral_tokenize::{BertOptions, Tokenizer};

    #[test]
    fn quantised_rows_are_near() {
        let table = [0.5, -1.0, 0.25, 0.0, 0.0, 0.0, 3.0, 1e-3, -2.9];
        let found = Quantised::of(&table, 3);
        assert_eq!(found.rows[..6], [64, -127, 32, 0, 0, 0]);
        for (k, (&value, &row)) in table.iter().zip(&found.rows).enumerate() {
            let step = found.weights[k / 3];
            assert!((value - f32::from(row) * step).abs() <= 0.5001 * step);
        }
    }

    #[test]
    fn the_start_is_weighted_by_rarity() {
        let pool = Pool::shared(Some(1));
        let one = half::f16::ONE.to_bits();
        let pieces = Vectors::new(vec![one, 0, 0, one], 2);
        let basis = Basis { directions: vec![0.0, 1.0, 1.0, 0.0], width: 2, energy: vec![0.5, 0.5] };
        // Relative frequencies 0.9 and 0.1, a = 0.1.
        let found = start(&pool, &pieces, &basis, &[9, 1], 0.1);
        for (found, expected) in found.iter().zip([0.0, 0.1, 0.5, 0.0]) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }

    #[test]
    fn turning_keeps_similarities_and_orders_components() {
        let pool = Pool::shared(Some(2));
        let vocabulary = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\na\nb\nc\nd\n";
        let tokenizer = Tokenizer::from_vocab_bytes(vocabulary, &BertOptions::default()).unwrap();
        let tokenizer =
            tokenizer.with(embral_tokenize::Options { special_tokens: false, ..Default::default() }).unwrap();
        let texts: Vec<String> = ["a b", "c d", "a", "b c d", "d"].map(String::from).to_vec();
        let tokens = Tokens::of(&pool, &tokenizer, &texts, 10).unwrap();
        let mut table: Vec<f32> = (0..24).map(|i| ((i * 7) % 11) as f32 - 5.0).collect();
        let units = |table: &[f32]| {
            let ids: Vec<&[u32]> = (0..5).map(|t| tokens.text(t)).collect();
            Pooled::of(&pool, table, 3, &ids).units
        };
        let before = units(&table);
        let energy = turn(&pool, &mut table, 3, &tokens, 17);
        let after = units(&table);
        assert!(energy.is_sorted_by(|a, b| a >= b) && (energy.iter().sum::<f64>() - 1.0).abs() < 1e-5);
        for i in 0..5 {
            for j in 0..5 {
                let (a, b) = (
                    dot(&before[i * 3..][..3], &before[j * 3..][..3]),
                    dot(&after[i * 3..][..3], &after[j * 3..][..3]),
                );
                assert!((a - b).abs() < 1e-5, "{a} {b}");
            }
        }
    }
}
