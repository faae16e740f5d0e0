//! What a transformer computes, as plain data: enums and numbers, no tensors and no closures.

use crate::RopeSpec;
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
    /// Every norm; those of q and k have its kind and ε as well.
    pub norm: NormSpec,
    /// Where in a block the norms stand.
    pub norm_place: NormPlace,
    /// Whether the attention of the first block has a norm before it, where others have. Not where the embedding was just normalised.
    pub first_norm: bool,
    /// Whether one more norm follows the last block.
    pub final_norm: bool,
    /// The longest sequence that has a position for each token.
    pub max_positions: usize,
}

/// How ids become rows: `norm(scale * (word[id] + position + token type 0))`.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddingSpec {
    /// Learned positions, if any.
    pub positions: Positions,
    /// Rows of the token-type table; 0 where there is none. Encoders add row 0 to every token.
    pub token_types: usize,
    /// Whether a norm follows the sum.
    pub norm: bool,
    /// What the sum is multiplied by.
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
        /// A token that is at no place, wherever it stands in a text: it has the row before the first, and is not counted.
        padding: Option<u32>,
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
    /// What the tokens of each block see; one entry a block.
    pub views: Vec<View>,
    /// Whether q, k and v have biases.
    pub qkv_bias: bool,
    /// Whether the output projection has a bias.
    pub out_bias: bool,
    /// How q and k are normalised before the rotation, if they are.
    pub qk_norm: Option<QkNorm>,
    /// What is added to the scores by the distance of key and query, if anything; the same in every block.
    pub bias: Option<PositionBias>,
}

/// What is added to a score by how far the key is from the query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PositionBias {
    /// ALiBi on both sides: `-distance` times the slope of the head. With `n` heads, a power of two, the slopes are `2^(-8 i / n)`
    /// for `i` from 1 on; other numbers of heads take every second slope of twice the next lower power besides.
    Alibi,
    /// A table of T5, `[buckets, heads]`: half of the buckets for each direction, half of those for one distance each, and the others
    /// for distances up to `far` by their logarithm.
    Learned {
        /// Rows of the table; a multiple of 4.
        buckets: usize,
        /// The distance from which on all are in the last bucket.
        far: usize,
    },
    /// Products of query and key with rows of distances, as in DeBERTa.
    Disentangled(DisentangledSpec),
}

/// `scale · (q · k + q · K r + k · Q r)`, with the row `r` of a learned table that the distance from key to query has, and projections
/// `K` and `Q`. Row `span + b` is of the distances in bucket `b`, those behind the query being positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DisentangledSpec {
    /// Half of the rows.
    pub span: usize,
    /// Distances of a bucket: each has its own below half of `span`, and others go by their logarithm up to this one. `None` where each
    /// has its own.
    pub far: Option<usize>,
    /// Whether the query is multiplied with the rows.
    pub query: bool,
    /// Whether the key is.
    pub key: bool,
    /// Whether `K` and `Q` are the projections of the tokens.
    pub shared: bool,
    /// Whether the rows are normalised.
    pub norm: bool,
}

/// What the tokens of one block see of each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    /// Which keys a query sees.
    pub mask: Mask,
    /// Rotary positions of q and k, if any.
    pub rope: Option<RopeSpec>,
}

/// Over what a norm of q and k is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QkNorm {
    /// Each head by itself, all with the same weights.
    Head,
    /// All heads together.
    All,
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
    /// Whether the first layer, and its gate, have biases.
    pub up_bias: bool,
    /// Whether the second layer has a bias.
    pub down_bias: bool,
    /// The blocks that have experts in its place, if any.
    pub experts: Option<ExpertsSpec>,
}

/// A mixture of experts: a router gives each token a probability for each expert, and the outputs of the most probable ones are added
/// by their probabilities, which are not made to sum to 1. An expert is `down(act(up x))` of the width of the MLP, without biases; one
/// bias may be added to the sum.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpertsSpec {
    /// Experts of a block.
    pub count: usize,
    /// Experts of a token; at most `count`.
    pub chosen: usize,
    /// Whether each block has them.
    pub blocks: Vec<bool>,
    /// Whether a bias is added to their sum.
    pub bias: bool,
    /// Whether a second layer is stored as `[hidden, width]`, as other layers are, and not as `[width, hidden]`.
    pub down_by_output: bool,
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
    /// Whether what is stored is `γ - 1`.
    pub less_one: bool,
}

impl MlpSpec {
    /// The experts of a block, where it has them.
    pub fn experts_of(&self, layer: usize) -> Option<&ExpertsSpec> {
        self.experts.as_ref().filter(|experts| experts.blocks[layer])
    }
}

/// Where in a block the norms stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormPlace {
    /// `x = norm(x + f(x))`, as in BERT.
    Post,
    /// As `Post`, but the attention has one more: `x = norm(x + norm(x + attention(x)))`, as in JinaBERT for code.
    PostTwice,
    /// `x = x + f(norm(x))`, as in GPT-2 and most things after it.
    Pre,
    /// `x = x + norm(f(norm(x)))`, as in Gemma.
    Both,
}
