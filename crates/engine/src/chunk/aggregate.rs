//! The vectors of a document's chunks as one.

use super::ChunkVector;
use embral_types::{Error, ErrorKind};
use std::{fmt, str::FromStr};

/// How the vectors `c_1 … c_n` of chunks of `t_1 … t_n` tokens become one. It is normalised where the model's vectors are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Aggregate {
    /// `Σ c_i / n`.
    #[default]
    Mean,
    /// The largest value of each component.
    Max,
    /// `Σ t_i c_i / Σ t_i`: every token counts the same.
    Weighted,
    /// `Σ a_i c_i` with `a = softmax(20 cos(c_i, m))` and `m` the mean: chunks that say what the document says count more than those
    /// beside the point. 20 is the scale of cosines that the models were trained with (a temperature of 0.05).
    Attention,
}

/// The factor of the cosines of [`Aggregate::Attention`].
const SCALE: f64 = 20.0;

impl Aggregate {
    /// Every way, in the order of the documentation.
    pub const ALL: [Self; 4] = [Self::Mean, Self::Max, Self::Weighted, Self::Attention];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Max => "max",
            Self::Weighted => "weighted",
            Self::Attention => "attention",
        }
    }

    /// The one vector of the chunks of one document, normalised where that is asked for; nothing where there is no chunk. Sums are in
    /// f64 and in the order of the chunks.
    pub fn combine(self, chunks: &[ChunkVector], normalize: bool) -> Vec<f32> {
        let Some(first) = chunks.first() else { return Vec::new() };
        let dim = first.vector.len();
        let mut vector: Vec<f64> = match self {
            Self::Mean => weighted(chunks, dim, &vec![1.0; chunks.len()]),
            Self::Weighted => {
                // A document without a token weighs its chunks the same.
                let tokens: Vec<f64> = chunks.iter().map(|c| c.tokens as f64).collect();
                let none = tokens.iter().all(|&t| t == 0.0);
                weighted(chunks, dim, &if none { vec![1.0; chunks.len()] } else { tokens })
            }
            Self::Max => (0..dim)
                .map(|i| chunks.iter().map(|c| f64::from(c.vector[i])).fold(f64::NEG_INFINITY, f64::max))
                .collect(),
            Self::Attention => {
                let mean = weighted(chunks, dim, &vec![1.0; chunks.len()]);
                let scores: Vec<f64> = chunks.iter().map(|c| SCALE * cosine(&c.vector, &mean)).collect();
                let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                weighted(chunks, dim, &scores.iter().map(|s| (s - largest).exp()).collect::<Vec<_>>())
            }
        };
        if normalize {
            let length = vector.iter().map(|x| x * x).sum::<f64>().sqrt().max(1e-12);
            vector.iter_mut().for_each(|x| *x /= length);
        }
        vector.into_iter().map(|x| x as f32).collect()
    }
}

/// `Σ w_i c_i / Σ w_i`.
fn weighted(chunks: &[ChunkVector], dim: usize, weights: &[f64]) -> Vec<f64> {
    let mut sum = vec![0.0; dim];
    for (chunk, weight) in chunks.iter().zip(weights) {
        sum.iter_mut().zip(&chunk.vector).for_each(|(sum, &x)| *sum += weight * f64::from(x));
    }
    let all: f64 = weights.iter().sum();
    sum.iter_mut().for_each(|x| *x /= all);
    sum
}

/// 0 where one of them is 0.
fn cosine(a: &[f32], b: &[f64]) -> f64 {
    let dot: f64 = a.iter().zip(b).map(|(&a, b)| f64::from(a) * b).sum();
    let length = |squares: f64| squares.sqrt();
    let lengths = length(a.iter().map(|&a| f64::from(a) * f64::from(a)).sum()) * length(b.iter().map(|b| b * b).sum());
    if lengths > 0.0 { dot / lengths } else { 0.0 }
}

impl fmt::Display for Aggregate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Aggregate {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|a| a.name() == name).ok_or_else(|| {
            let message = format!("unknown aggregate {name:?}: expected mean, max, weighted or attention");
            Error::new(ErrorKind::InvalidInput, message)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks() -> Vec<ChunkVector> {
        let chunk = |(i, (tokens, vector)): (usize, (usize, [f32; 2]))| ChunkVector {
            document: 0,
            chunk: i,
            bytes: i..i + 1,
            tokens,
            vector: vector.to_vec(),
        };
        [(3, [1.0, 0.0]), (1, [0.0, 1.0]), (0, [1.0, 0.0])].into_iter().enumerate().map(chunk).collect()
    }

    #[test]
    fn each_way_is_its_equation() {
        let of = |how: Aggregate| how.combine(&chunks(), false);
        let near = |found: Vec<f32>, wanted: [f64; 2]| {
            assert!(found.iter().zip(wanted).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-7), "{found:?} {wanted:?}");
        };
        near(of(Aggregate::Mean), [2.0 / 3.0, 1.0 / 3.0]);
        near(of(Aggregate::Max), [1.0, 1.0]);
        near(of(Aggregate::Weighted), [0.75, 0.25]);
        // The mean is (2, 1) / 3, its cosines with the chunks 2/√5 and 1/√5.
        let (a, b) = ((40.0 / 5f64.sqrt()).exp(), (20.0 / 5f64.sqrt()).exp());
        near(of(Aggregate::Attention), [2.0 * a / (2.0 * a + b), b / (2.0 * a + b)]);
        let unit = Aggregate::Mean.combine(&chunks(), true);
        near(unit, [2.0 / 5f64.sqrt(), 1.0 / 5f64.sqrt()]);
    }

    #[test]
    fn one_chunk_is_its_own_vector_and_no_tokens_weigh_the_same() {
        for how in Aggregate::ALL {
            assert_eq!(how.combine(&chunks()[..1], true), [1.0, 0.0], "{how}");
            assert_eq!(how.name().parse::<Aggregate>().unwrap(), how);
            assert!(how.combine(&[], true).is_empty());
        }
        assert!("median".parse::<Aggregate>().unwrap_err().to_string().contains("attention"));
        let mut without = chunks();
        without.iter_mut().for_each(|c| c.tokens = 0);
        assert_eq!(Aggregate::Weighted.combine(&without, false), Aggregate::Mean.combine(&without, false));
        without.iter_mut().for_each(|c| c.vector = vec![0.0; 2]);
        for how in Aggregate::ALL {
            assert_eq!(how.combine(&without, true), [0.0, 0.0]);
        }
    }
}
