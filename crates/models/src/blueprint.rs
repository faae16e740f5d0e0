//! What a transformer computes, as plain data: enums and numbers, no tensors and no closures.

use embral_types::{Activation, Mask, NormKind};

/// One transformer encoder, from token ids to one row of `hidden` components a token.
#[derive(Clone, Debug, PartialEq)]
pub struct Blueprint {
    /// Rows of the word embedding table; every token id is below it.
    pub vocab: usize,
    /// Components of a token row between blocks.
    pub hidden: usize,
    /// Blocks.
    pub layers: usize,
    /// How ids become rows.
    pub embedding: EmbeddingSpec,
    /// The attention of every block.
    pub attention: AttentionSpec,
    /// The feed-forward part of every block.
    pub mlp: MlpSpec,
    /// Every norm but those of q and k.
    pub norm: NormSpec,
    /// Where in a block the norms stand.
    pub norm_place: NormPlace,
    /// Whether one more norm follows the last block.
    pub final_norm: bool,
    /// The longest sequence that has a position for each token.
    pub max_positions: usize,
}

/// How ids become rows: `norm(scale * word[id] + position + token type 0)`.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddingSpec {
    /// Learned positions, if any.
    pub positions: Positions,
    /// Rows of the token-type table; 0 where there is none. Encoders add row 0 to every token.
    pub token_types: usize,
    /// Whether a norm follows the sum.
    pub norm: bool,
    /// What the word row is multiplied by.
    pub scale: f32,
}

/// Positions added to the word rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Positions {
    /// None are added.
    None,
    /// A table; token `i` of a sequence gets row `offset + i`.
    Learned {
        /// Rows of the table.
        rows: usize,
        /// Row of the first token.
        offset: usize,
    },
}

/// Self-attention of `heads` query heads over `kv_heads` key and value heads.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionSpec {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`. Query head `h` reads key head `h / (heads / kv_heads)`.
    pub kv_heads: usize,
    /// Components of a head.
    pub head_dim: usize,
    /// What `q · k` is multiplied by before the softmax.
    pub scale: f32,
    /// Which keys a query sees.
    pub mask: Mask,
    /// Whether q, k and v have biases.
    pub qkv_bias: bool,
    /// Whether the output projection has a bias.
    pub out_bias: bool,
    /// Rotary positions of q and k, if any.
    pub rope: Option<RopeSpec>,
    /// Whether each head of q and k is normalised (over `head_dim`, kind and ε of [`Blueprint::norm`]) before the rotation.
    pub qk_norm: bool,
}

/// Rotary position embedding: pair `i` at position `p` turns by `p * theta^(-2i / rotary_dims)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RopeSpec {
    /// The base of the frequencies.
    pub theta: f32,
    /// Leading components of a head that are rotated; even.
    pub rotary_dims: usize,
    /// Whether a pair is `(2i, 2i + 1)` rather than `(i, i + rotary_dims / 2)`.
    pub interleaved: bool,
}

/// The feed-forward part: `down(act(up x))`, or gated `down(act(gate x) * up x)`.
#[derive(Clone, Debug, PartialEq)]
pub struct MlpSpec {
    /// Components between the two layers.
    pub width: usize,
    /// Whether there is a gate.
    pub gated: bool,
    /// The function.
    pub activation: Activation,
    /// Whether the layers have biases.
    pub bias: bool,
}

/// A norm over the last axis.
#[derive(Clone, Debug, PartialEq)]
pub struct NormSpec {
    /// Layer norm or RMS norm.
    pub kind: NormKind,
    /// What is added under the root.
    pub eps: f32,
    /// Whether there is a β.
    pub bias: bool,
}

/// Where in a block the norms stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormPlace {
    /// `x = norm(x + f(x))`, as in BERT.
    Post,
    /// `x = x + f(norm(x))`, as in GPT-2 and everything after it.
    Pre,
}
