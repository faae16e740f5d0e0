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
        let mut all = Aggregation::new(self);
        chunks.iter().for_each(|chunk| all.push(&chunk.vector, chunk.tokens));
        all.finish(normalize)
    }
}

/// The vectors of chunks as one while they come, the same bit for bit as [`Aggregate::combine`] gives of all of them. It holds a vector
/// or two; those of all chunks for [`Aggregate::Attention`], which weighs each by the mean of all.
#[derive(Clone, Debug)]
pub struct Aggregation {
    how: Aggregate,
    chunks: usize,
    tokens: f64,
    /// The sum of the vectors, or the largest components.
    sum: Vec<f64>,
    /// The sum of the vectors by their tokens.
    by_tokens: Vec<f64>,
    /// All vectors.
    kept: Vec<f32>,
}

impl Aggregation {
    /// Of no chunk yet.
    pub fn new(how: Aggregate) -> Self {
        Self { how, chunks: 0, tokens: 0.0, sum: Vec::new(), by_tokens: Vec::new(), kept: Vec::new() }
    }

    /// The next chunk. All vectors have as many components as the first.
    pub fn push(&mut self, vector: &[f32], tokens: usize) {
        if self.chunks == 0 {
            let start = if self.how == Aggregate::Max { f64::NEG_INFINITY } else { 0.0 };
            self.sum = vec![start; vector.len()];
            self.by_tokens = vec![0.0; if self.how == Aggregate::Weighted { vector.len() } else { 0 }];
        }
        self.chunks += 1;
        let wide = || vector.iter().map(|&x| f64::from(x));
        match self.how {
            Aggregate::Max => self.sum.iter_mut().zip(wide()).for_each(|(most, x)| *most = most.max(x)),
            _ => self.sum.iter_mut().zip(wide()).for_each(|(sum, x)| *sum += x),
        }
        self.tokens += tokens as f64;
        self.by_tokens.iter_mut().zip(wide()).for_each(|(sum, x)| *sum += tokens as f64 * x);
        if self.how == Aggregate::Attention {
            self.kept.extend_from_slice(vector);
        }
    }

    /// Bytes of the vectors that are held.
    pub fn held_bytes(&self) -> usize {
        size_of_val(&self.kept[..]) + size_of_val(&self.sum[..]) + size_of_val(&self.by_tokens[..])
    }

    /// The one vector, normalised where that is asked for; nothing where there was no chunk.
    pub fn finish(self, normalize: bool) -> Vec<f32> {
        if self.chunks == 0 {
            return Vec::new();
        }
        let Self { how, chunks, tokens, sum, by_tokens, kept } = self;
        let over = |sum: Vec<f64>, all: f64| sum.into_iter().map(|x| x / all).collect::<Vec<f64>>();
        let mut vector = match how {
            Aggregate::Max => sum,
            Aggregate::Weighted if tokens > 0.0 => over(by_tokens, tokens),
            // A document without a token weighs its chunks the same.
            Aggregate::Mean | Aggregate::Weighted => over(sum, chunks as f64),
            Aggregate::Attention => {
                let mean = over(sum, chunks as f64);
                let rows = || kept.chunks_exact(mean.len().max(1));
                let scores: Vec<f64> = rows().map(|row| SCALE * cosine(row, &mean)).collect();
                let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
                weighted(rows(), mean.len(), &weights)
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
fn weighted<'a>(rows: impl Iterator<Item = &'a [f32]>, dim: usize, weights: &[f64]) -> Vec<f64> {
    let mut sum = vec![0.0; dim];
    for (row, weight) in rows.zip(weights) {
        sum.iter_mut().zip(row).for_each(|(sum, &x)| *sum += weight * f64::from(x));
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
