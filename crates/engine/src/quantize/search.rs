//! The nearest of quantised vectors: all of them by their few bits, the best of those again by the floats of the query.

use super::{Quantization, Quantized, Ranges, ranges};
use crate::ranking::best;
use embral_kernels::{
    Pool,
    op::codes::{self, Bytes},
};
use embral_types::{Error, ErrorKind, Result};
use half::f16;

/// How many vectors a search gives, and how many it looks at twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidates {
    /// How many are wanted.
    pub k: usize,
    /// How many of the best by their bits are scored again by the floats of the query; below `k` counts as `k`, 0 as none.
    /// sentence-transformers takes `4 k`.
    pub rescored: usize,
}

impl Quantized {
    /// The vectors nearest to `query`, best first, equal scores in row order, each with its index and its score.
    ///
    /// First all vectors are scored in integers ([`Quantized::coarse`]), then the best [`Candidates::rescored`] of them
    /// by the dot product of the query's floats with the floats they stand for ([`Quantized::dequantize`]).
    ///
    /// # Errors
    /// Where the query has another width than the vectors, or an 8-bit form comes without ranges of their width.
    pub fn top_k(&self, query: &[f32], ranges: Option<&Ranges>, how: Candidates) -> Result<Vec<(usize, f32)>> {
        let scores = self.coarse(query, ranges)?;
        if how.rescored == 0 {
            return Ok(best(scores, how.k));
        }
        let candidates = best(scores, how.rescored.max(how.k));
        let values = Values::of(self.form(), self.dim(), ranges)?;
        let mut row = vec![0.0; self.dim()];
        // In the order of their rows, so that of equal scores the first row comes first.
        let mut indices: Vec<usize> = candidates.into_iter().map(|(index, _)| index).collect();
        indices.sort_unstable();
        let mut score = |&index: &usize| -> f32 {
            values.read(self.row(index), &mut row);
            row.iter().zip(query).map(|(a, b)| a * b).sum()
        };
        let again: Vec<f32> = indices.iter().map(&mut score).collect();
        Ok(best(again, how.k).into_iter().map(|(place, score)| (indices[place], score)).collect())
    }

    /// A score of every vector by its bits alone, with the query in as few: of bits `1 - 2 hamming / dim`, the cosine of the signs;
    /// of 8 bits the dot product with a query of 8 bits, its scale one for the whole query; of `f16` the dot product.
    ///
    /// Bits and bytes are read once, on as many threads as there are cores: a million vectors of 384 components are 48 MB of bits and
    /// 384 MB of bytes, and take the time in which memory delivers that. `f16` is for exactness, and takes one thread.
    ///
    /// # Errors
    /// As [`Quantized::top_k`].
    pub fn coarse(&self, query: &[f32], ranges: Option<&Ranges>) -> Result<Vec<f32>> {
        if query.len() != self.dim() {
            let message = format!("expected a query of {} components, found {}", self.dim(), query.len());
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        Ok(match self.form() {
            Quantization::F16 => {
                let values = Values::F16;
                let mut row = vec![0.0; self.dim()];
                let mut score = |bytes: &[u8]| {
                    values.read(bytes, &mut row);
                    row.iter().zip(query).map(|(a, b)| a * b).sum()
                };
                self.rows().map(&mut score).collect()
            }
            Quantization::Int8 | Quantization::Uint8 => {
                let ranges = ranges::fitting(self.form(), self.dim(), ranges)?;
                if self.dim() > codes::MOST_BYTES {
                    let message =
                        format!("expected at most {} components to search, found {}", codes::MOST_BYTES, self.dim());
                    return Err(Error::new(ErrorKind::Unsupported, message));
                }
                // Σ q (min + step (u + ½)) = Σ q (min + step/2) + Σ (q step) u, and the factors of u in 8 bits.
                let steps = ranges.steps();
                let factors: Vec<f32> = query.iter().zip(&steps).map(|(q, step)| q * step).collect();
                let base: f32 =
                    query.iter().zip(ranges.min()).zip(&factors).map(|((q, min), f)| q * min + f / 2.0).sum();
                let scale = factors.iter().fold(0f32, |largest, f| largest.max(f.abs())) / 127.0;
                let to_bits = |f: &f32| if scale > 0.0 { (f / scale).round() as i8 } else { 0 };
                let factors: Vec<i8> = factors.iter().map(to_bits).collect();
                let mut scores = vec![0.0; self.len()];
                let query = Bytes { factors: &factors, flip: self.flip(), scale, base };
                codes::byte_scores(&Pool::shared(None), self.bytes(), &query, &mut scores);
                scores
            }
            Quantization::Binary | Quantization::Ubinary => {
                let query =
                    super::quantize(&embral_types::Embeddings::new(query.to_vec(), query.len()), self.form(), None)?;
                let mut scores = vec![0.0; self.len()];
                codes::bit_scores(&Pool::shared(None), self.bytes(), query.bytes(), self.dim(), &mut scores);
                scores
            }
        })
    }

    /// What makes the bytes of a signed form unsigned.
    fn flip(&self) -> u8 {
        if matches!(self.form(), Quantization::Int8 | Quantization::Binary) { 0x80 } else { 0 }
    }
}

/// What the bytes of a vector stand for.
pub(super) enum Values<'a> {
    F16,
    Eight { ranges: &'a Ranges, steps: Vec<f32>, flip: u8 },
    One { flip: u8 },
}

impl<'a> Values<'a> {
    pub(super) fn of(form: Quantization, dim: usize, ranges: Option<&'a Ranges>) -> Result<Self> {
        Ok(match form {
            Quantization::F16 => Self::F16,
            Quantization::Int8 | Quantization::Uint8 => {
                let ranges = ranges::fitting(form, dim, ranges)?;
                let flip = if form == Quantization::Int8 { 0x80 } else { 0 };
                Self::Eight { ranges, steps: ranges.steps(), flip }
            }
            Quantization::Binary => Self::One { flip: 0x80 },
            Quantization::Ubinary => Self::One { flip: 0 },
        })
    }

    /// The floats of one vector.
    pub(super) fn read(&self, bytes: &[u8], out: &mut [f32]) {
        match self {
            Self::F16 => {
                for (x, &b) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *x = f16::from_le_bytes(b).to_f32();
                }
            }
            Self::Eight { ranges, steps, flip } => {
                for (i, (x, &b)) in out.iter_mut().zip(bytes).enumerate() {
                    let (min, max) = (ranges.min()[i], ranges.max()[i]);
                    *x = (min + (f32::from(b ^ flip) + 0.5) * steps[i]).min(max);
                }
            }
            Self::One { flip } => {
                let one = 1.0 / (out.len() as f32).sqrt();
                for (i, x) in out.iter_mut().enumerate() {
                    *x = if (bytes[i / 8] ^ flip) >> (7 - i % 8) & 1 == 1 { one } else { -one };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::quantize;
    use super::*;
    use embral_testkit::oracle;
    use embral_types::Embeddings;

    const DIM: usize = 37;
    const ROWS: usize = 200;

    fn rows() -> Embeddings {
        Embeddings::new(oracle::numbers(3, ROWS * DIM), DIM)
    }

    /// The ranking of all vectors by the dot product in f64 with what the bytes stand for.
    fn by_floats(rows: &Embeddings, query: &[f32]) -> Vec<usize> {
        let query: Vec<f64> = query.iter().map(|&x| f64::from(x)).collect();
        let score = |row: &[f32]| row.iter().zip(&query).map(|(&a, b)| f64::from(a) * b).sum::<f64>();
        let scores: Vec<f64> = rows.rows().map(score).collect();
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        order
    }

    #[test]
    fn with_every_vector_scored_again_the_order_is_that_of_the_floats() {
        let rows = rows();
        let ranges = Ranges::of(&rows).unwrap();
        for form in Quantization::ALL {
            let quantized = quantize(&rows, form, Some(&ranges)).unwrap();
            let query = oracle::numbers(9, DIM);
            let found = quantized.top_k(&query, Some(&ranges), Candidates { k: 10, rescored: ROWS }).unwrap();
            let wanted = by_floats(&quantized.dequantize(Some(&ranges)).unwrap(), &query);
            assert_eq!(found.iter().map(|f| f.0).collect::<Vec<_>>(), wanted[..10], "{form}");
            assert!(found.is_sorted_by(|a, b| a.1 >= b.1));
        }
    }

    #[test]
    fn few_candidates_find_most_of_what_all_of_the_floats_find() {
        let rows = rows();
        let ranges = Ranges::of(&rows).unwrap();
        for (form, least) in [(Quantization::F16, 10), (Quantization::Uint8, 9), (Quantization::Ubinary, 5)] {
            let quantized = quantize(&rows, form, Some(&ranges)).unwrap();
            let mut least_found = 10;
            for seed in 20..30 {
                let query = oracle::numbers(seed, DIM);
                let wanted = &by_floats(&rows, &query)[..10];
                let found = quantized.top_k(&query, Some(&ranges), Candidates { k: 10, rescored: 40 }).unwrap();
                least_found = least_found.min(found.iter().filter(|f| wanted.contains(&f.0)).count());
            }
            assert!(least_found >= least - usize::from(form != Quantization::F16), "{form}: {least_found} of 10");
        }
    }

    #[test]
    fn coarse_scores_are_near_the_floats_and_hamming_is_the_cosine_of_signs() {
        let rows = rows();
        let ranges = Ranges::of(&rows).unwrap();
        let query = oracle::numbers(5, DIM);
        let exact = |quantized: &Quantized| -> Vec<f32> {
            let floats = quantized.dequantize(Some(&ranges)).unwrap();
            floats.rows().map(|row| row.iter().zip(&query).map(|(a, b)| a * b).sum()).collect()
        };
        for form in [Quantization::F16, Quantization::Int8, Quantization::Uint8] {
            let quantized = quantize(&rows, form, Some(&ranges)).unwrap();
            for (a, b) in quantized.coarse(&query, Some(&ranges)).unwrap().iter().zip(exact(&quantized)) {
                // The query's factors are rounded by at most half of a 127th of the largest.
                assert!((a - b).abs() < 0.1, "{form}: {a} for {b}");
            }
        }
        for form in [Quantization::Binary, Quantization::Ubinary] {
            let quantized = quantize(&rows, form, None).unwrap();
            let signs = |x: &[f32]| x.iter().map(|&x| if x > 0.0 { 1.0 } else { -1.0 }).collect::<Vec<f32>>();
            let query_signs = signs(&query);
            for (row, score) in rows.rows().zip(quantized.coarse(&query, None).unwrap()) {
                let dot: f32 = signs(row).iter().zip(&query_signs).map(|(a, b)| a * b).sum();
                assert!((score - dot / DIM as f32).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn the_edges_are_no_panics() {
        let rows = rows();
        let bits = quantize(&rows, Quantization::Binary, None).unwrap();
        let how = Candidates { k: 3, rescored: 0 };
        assert!(bits.top_k(&[1.0], None, how).unwrap_err().to_string().contains("37 components, found 1"));
        let query = oracle::numbers(5, DIM);
        assert_eq!(bits.top_k(&query, None, Candidates { k: 0, rescored: 0 }).unwrap(), []);
        assert_eq!(bits.top_k(&query, None, Candidates { k: 9999, rescored: 1 }).unwrap().len(), ROWS);
        let none = quantize(&Embeddings::new(vec![], DIM), Quantization::Binary, None).unwrap();
        assert_eq!(none.top_k(&query, None, how).unwrap(), []);
        let constant = Embeddings::new(vec![0.5; 2 * DIM], DIM);
        let ranges = Ranges::of(&constant).unwrap();
        let eight = quantize(&constant, Quantization::Int8, Some(&ranges)).unwrap();
        assert_eq!(eight.top_k(&[0.0; DIM], Some(&ranges), how).unwrap().len(), 2);
    }
}
