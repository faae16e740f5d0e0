//! What a batch costs, by the lengths of its sequences: operations, bytes, seconds.

use embral_types::{Error, ErrorKind, Result};

/// The coefficients of a model's cost, from its blueprint; a batch of sequences of `s₁ … sₙ` tokens takes
///
/// ```text
/// operations = flops_per_token · Σ sᵢ + flops_per_pair · Σ sᵢ²
/// bytes      = bytes_fixed + bytes_per_sequence · n + bytes_per_token · Σ sᵢ + bytes_per_pair · Σ sᵢ²
/// seconds    = seconds_per_batch + operations / flops_per_second
/// ```
///
/// with each `sᵢ` the longest of the batch where sequences are `padded`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CostModel {
    /// Floating-point operations of the linear layers for one token: two for each weight it meets.
    pub flops_per_token: f64,
    /// Operations of attention for one token seeing one token: `4 · layers · width`.
    pub flops_per_pair: f64,
    /// Bytes that a batch of any size takes.
    pub bytes_fixed: f64,
    /// Bytes of activations for one token.
    pub bytes_per_token: f64,
    /// Bytes for one token seeing one token; zero where scores are never stored.
    pub bytes_per_pair: f64,
    /// Bytes of what a sequence gives: `4 · dimensions` for a vector of f32.
    pub bytes_per_sequence: f64,
    /// Seconds that a batch of any size takes before its first operation.
    pub seconds_per_batch: f64,
    /// Operations a second, as a first guess: what is measured replaces it.
    pub flops_per_second: f64,
    /// Whether every sequence is computed at the length of the longest.
    pub padded: bool,
}

impl Default for CostModel {
    /// A transformer of 6 layers, 384 wide, with MLPs of 1536, packed, on two cores: the size of all-MiniLM-L6-v2.
    fn default() -> Self {
        Self {
            flops_per_token: 21.3e6,
            flops_per_pair: 9.2e3,
            bytes_fixed: 0.0,
            bytes_per_token: 14e3,
            bytes_per_pair: 0.0,
            bytes_per_sequence: 1536.0,
            seconds_per_batch: 0.2e-3,
            flops_per_second: 1e11,
            padded: false,
        }
    }
}

impl CostModel {
    /// Whether the numbers can be reckoned with.
    ///
    /// # Errors
    /// Where one is negative or not finite, or where a token takes no operation or a second holds none.
    pub fn check(&self) -> Result<()> {
        let positive = [("flops_per_token", self.flops_per_token), ("flops_per_second", self.flops_per_second)];
        let others = [
            ("flops_per_pair", self.flops_per_pair),
            ("bytes_fixed", self.bytes_fixed),
            ("bytes_per_token", self.bytes_per_token),
            ("bytes_per_pair", self.bytes_per_pair),
            ("bytes_per_sequence", self.bytes_per_sequence),
            ("seconds_per_batch", self.seconds_per_batch),
        ];
        let bad =
            positive.iter().find(|(_, value)| !(value.is_finite() && *value > 0.0)).map(|found| (found, "more than 0"));
        let bad = bad.or_else(|| {
            others.iter().find(|(_, value)| !(value.is_finite() && *value >= 0.0)).map(|found| (found, "0 or more"))
        });
        match bad {
            None => Ok(()),
            Some(((name, value), expected)) => Err(Error::new(
                ErrorKind::InvalidInput,
                format!("the cost model's {name} must be a finite number, {expected}; found {value}"),
            )),
        }
    }

    /// Floating-point operations of a batch.
    pub fn flops(&self, shape: &Shape) -> f64 {
        let (tokens, pairs) = self.computed(shape);
        self.flops_per_token * tokens + self.flops_per_pair * pairs
    }

    /// Bytes that a batch takes while it is computed.
    pub fn bytes(&self, shape: &Shape) -> f64 {
        let (tokens, pairs) = self.computed(shape);
        let sequences = self.bytes_per_sequence * shape.sequences as f64;
        self.bytes_fixed + sequences + self.bytes_per_token * tokens + self.bytes_per_pair * pairs
    }

    /// Seconds that a batch takes, by the coefficients alone.
    pub fn seconds(&self, shape: &Shape) -> f64 {
        self.seconds_per_batch + self.flops(shape) / self.flops_per_second
    }

    /// The tokens that a batch is computed as, padding among them.
    pub fn computed_tokens(&self, shape: &Shape) -> u64 {
        if self.padded { shape.padded_tokens() } else { shape.tokens }
    }

    /// What a sequence is charged, in tokens of a short one: `s + s² · flops_per_pair / flops_per_token`.
    pub fn charge(&self, tokens: u32) -> f64 {
        let tokens = f64::from(tokens.max(1));
        tokens + tokens * tokens * self.flops_per_pair / self.flops_per_token
    }

    /// The charges of a whole batch.
    pub fn charge_of(&self, shape: &Shape) -> f64 {
        let (tokens, pairs) = self.computed(shape);
        tokens + pairs * self.flops_per_pair / self.flops_per_token
    }

    fn computed(&self, shape: &Shape) -> (f64, f64) {
        if self.padded {
            let longest = f64::from(shape.longest);
            let tokens = shape.sequences as f64 * longest;
            (tokens, tokens * longest)
        } else {
            (shape.tokens as f64, shape.pairs as f64)
        }
    }
}

/// The lengths of a batch, summed up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// How many sequences.
    pub sequences: u64,
    /// The sum of their tokens.
    pub tokens: u64,
    /// The sum of the squares of their tokens.
    pub pairs: u64,
    /// The tokens of the longest.
    pub longest: u32,
}

impl Shape {
    /// `sequences` of `tokens` each.
    pub fn uniform(sequences: u64, tokens: u32) -> Self {
        let each = u64::from(tokens);
        let sum = sequences.saturating_mul(each);
        let longest = if sequences == 0 { 0 } else { tokens };
        Self { sequences, tokens: sum, pairs: sum.saturating_mul(each), longest }
    }

    /// The shape with one more sequence.
    #[must_use]
    pub fn with(mut self, tokens: u32) -> Self {
        self.add(tokens);
        self
    }

    /// Takes one more sequence in.
    pub fn add(&mut self, tokens: u32) {
        let each = u64::from(tokens);
        self.sequences = self.sequences.saturating_add(1);
        self.tokens = self.tokens.saturating_add(each);
        self.pairs = self.pairs.saturating_add(each * each);
        self.longest = self.longest.max(tokens);
    }

    /// The tokens of the same batch with every sequence as long as the longest.
    pub fn padded_tokens(&self) -> u64 {
        self.sequences.saturating_mul(u64::from(self.longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(lengths: &[u32]) -> Shape {
        lengths.iter().fold(Shape::default(), |shape, tokens| shape.with(*tokens))
    }

    #[test]
    fn a_packed_batch_pays_for_its_own_tokens_and_a_padded_one_for_the_longest() {
        let packed = CostModel { flops_per_token: 10.0, flops_per_pair: 1.0, ..CostModel::default() };
        assert_eq!(packed.flops(&shape(&[2, 4])), 10.0 * 6.0 + 4.0 + 16.0);
        let padded = CostModel { padded: true, ..packed };
        assert_eq!(padded.flops(&shape(&[2, 4])), 10.0 * 8.0 + 2.0 * 16.0);
        assert_eq!((packed.computed_tokens(&shape(&[2, 4])), padded.computed_tokens(&shape(&[2, 4]))), (6, 8));
        assert_eq!(Shape::uniform(3, 5), shape(&[5, 5, 5]));
        assert_eq!(Shape::uniform(0, 5), Shape::default());
    }

    #[test]
    fn charges_are_tokens_with_attention_on_top() {
        let cost = CostModel { flops_per_token: 100.0, flops_per_pair: 1.0, ..CostModel::default() };
        assert_eq!(cost.charge(100), 200.0);
        assert_eq!(cost.charge(0), 1.01);
        assert_eq!(cost.charge_of(&shape(&[100, 100])), 400.0);
    }

    #[test]
    fn bad_coefficients_are_named() {
        for (bad, name) in [
            (CostModel { flops_per_token: 0.0, ..CostModel::default() }, "flops_per_token"),
            (CostModel { flops_per_second: f64::INFINITY, ..CostModel::default() }, "flops_per_second"),
            (CostModel { bytes_per_token: f64::NAN, ..CostModel::default() }, "bytes_per_token"),
            (CostModel { seconds_per_batch: -1.0, ..CostModel::default() }, "seconds_per_batch"),
        ] {
            let error = bad.check().unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
        CostModel::default().check().unwrap();
    }
}
