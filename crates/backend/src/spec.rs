//! What the ops are told about a layer.

use embral_types::{Mask, Pooling, Precision, Tensor};

/// One dense layer as it lies in a file: `weight` is `[outputs, inputs]`, `bias` `[outputs]`.
#[derive(Clone, Debug)]
pub struct Dense<'a> {
    /// `[outputs, inputs]`.
    pub weight: Tensor<'a>,
    /// `[outputs]`.
    pub bias: Option<Tensor<'a>>,
}

/// The attention of a layer. Its input is `[rows, (heads + 2 kv_heads) · dim]`: query, key, value side by side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head.
    pub dim: usize,
    /// Factor of the scores.
    pub scale: f32,
    /// Which keys a query sees.
    pub mask: Mask,
    /// In which numbers the products are made; a backend may take more exact ones where they are as fast.
    pub precision: Precision,
}

impl Attention {
    /// The width of the input.
    pub fn input_width(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.dim
    }

    /// The width of the output.
    pub fn output_width(&self) -> usize {
        self.heads * self.dim
    }
}

/// Rotary positions: pair `i` of position `p` turns by `p · frequencies[i]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// One a pair; twice as many of a head's components turn, and the rest stay.
    pub frequencies: Vec<f32>,
    /// What sines and cosines are multiplied by.
    pub factor: f32,
    /// Pairs are neighbours `(2i, 2i + 1)` rather than halves `(i, i + frequencies.len())`.
    pub interleaved: bool,
}

/// How the rows of a sequence become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// What is taken.
    pub how: Pooling,
    /// Rows left out at the start of each sequence, such as those of a prompt.
    pub skip: usize,
    /// Divides the row by its Euclidean length.
    pub l2: bool,
}
