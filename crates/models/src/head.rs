//! What follows pooling: the modules of a sentence-transformers folder after its Pooling module.

use embral_types::Activation;
use std::path::PathBuf;

/// One step from the pooled vector to the embedding.
#[derive(Clone, Debug, PartialEq)]
pub enum Head {
    /// `activation(x Wᵀ + b)`.
    Dense(Dense),
    /// Layer norm over the vector, with γ `norm.weight` and β `norm.bias`.
    LayerNorm {
        /// Components.
        width: usize,
        /// What is added under the root.
        eps: f32,
        /// The safetensors file.
        weights: PathBuf,
    },
    /// `x / max(‖x‖₂, 1e-12)`.
    Normalize,
}

/// A linear layer on the pooled vector; its file has `linear.weight`, `[outputs, inputs]`, and `linear.bias`, `[outputs]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Dense {
    /// Components that go in.
    pub inputs: usize,
    /// Components that come out.
    pub outputs: usize,
    /// Whether there is a bias.
    pub bias: bool,
    /// The function after it.
    pub activation: Activation,
    /// The safetensors file.
    pub weights: PathBuf,
}
