//! Where in a checkpoint the tensor of each part of a [`crate::Blueprint`] is.

use embral_formats::Weights;
use embral_types::{Error, ErrorKind, Result, Tensor};

/// A part of the network that has weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Word embedding table, `[vocab, hidden]`.
    Word,
    /// Learned positions, `[rows, hidden]`.
    Position,
    /// Token types, `[token_types, hidden]`.
    TokenType,
    /// Norm of the embedding sum, `[hidden]`.
    EmbeddingNorm,
    /// Query projection, `[heads * head_dim, hidden]`.
    Query,
    /// Key projection, `[kv_heads * head_dim, hidden]`.
    Key,
    /// Value projection, `[kv_heads * head_dim, hidden]`.
    Value,
    /// Output projection of the attention, `[hidden, heads * head_dim]`.
    AttentionOut,
    /// Norm after the attention (post) or before it (pre, both), `[hidden]`.
    AttentionNorm,
    /// Norm of what the attention adds (both, post twice), `[hidden]`.
    AttentionOutNorm,
    /// What is added to scores by distance, `[buckets, heads]`.
    DistanceBias,
    /// Rows of distances, `[2 span, hidden]`.
    Distances,
    /// Their norm, `[hidden]`.
    DistancesNorm,
    /// Projection of those rows to keys, `[heads * head_dim, hidden]`.
    DistanceKey,
    /// Projection of those rows to queries, `[heads * head_dim, hidden]`.
    DistanceQuery,
    /// Norm of the query, `[head_dim]` or that of all heads.
    QueryNorm,
    /// Norm of the key, `[head_dim]` or that of all heads.
    KeyNorm,
    /// Gate of a gated feed-forward part, `[width, hidden]`.
    Gate,
    /// First layer of the feed-forward part, `[width, hidden]`.
    Up,
    /// Second layer of the feed-forward part, `[hidden, width]`.
    Down,
    /// The router of experts, `[count, hidden]`.
    Router,
    /// The first layers of all experts, `[count * width, hidden]`.
    ExpertsUp,
    /// The second layers of all experts, each `[width, hidden]`, `[count * width, hidden]`; or each `[hidden, width]`,
    /// `[count * hidden, width]`.
    ExpertsDown,
    /// What is added to the sum of the experts, `[hidden]`.
    ExpertsBias,
    /// Norm after the feed-forward part (post) or before it (pre, both), `[hidden]`.
    MlpNorm,
    /// Norm of what the feed-forward part adds (both), `[hidden]`.
    MlpOutNorm,
    /// Norm after the last block, `[hidden]`.
    FinalNorm,
}

/// The names an architecture gives to its tensors.
///
/// A name is `prefix + template + ".weight"` or `".bias"`, `{}` in the template being the layer; a few have neither ending. Checkpoints of a bare encoder and of
/// one under a task head differ in the prefix; very old ones call the two vectors of a layer norm `gamma` and `beta`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightNames {
    pub(crate) templates: &'static [(Role, &'static str)],
    pub(crate) prefixes: &'static [&'static str],
    /// Roles whose tensor is one of several that lie in one, row block after row block.
    pub(crate) blocks: &'static [(Role, Block)],
    /// Roles whose template is the whole name.
    pub(crate) whole: &'static [Role],
}

/// A part of a tensor's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// Which one.
    pub(crate) index: usize,
    /// Blocks of equal size that the tensor has.
    pub(crate) count: usize,
}

/// Query, key and value in one tensor.
pub(crate) const FUSED_QKV: [(Role, Block); 3] = [
    (Role::Query, Block { index: 0, count: 3 }),
    (Role::Key, Block { index: 1, count: 3 }),
    (Role::Value, Block { index: 2, count: 3 }),
];

impl WeightNames {
    /// The name of the weight, without a prefix.
    ///
    /// # Panics
    /// Where the architecture has no such role.
    pub fn weight(&self, role: Role, layer: usize) -> String {
        self.name(role, layer, ".weight")
    }

    /// The name of the bias, without a prefix.
    ///
    /// # Panics
    /// As [`WeightNames::weight`].
    pub fn bias(&self, role: Role, layer: usize) -> String {
        self.name(role, layer, ".bias")
    }

    /// What a checkpoint may put before every name, in the order to try.
    pub fn prefixes(&self) -> &[&str] {
        self.prefixes
    }

    /// The weight in a checkpoint, under whichever prefix it has.
    pub fn weight_in<'w>(&self, weights: &'w dyn Weights, role: Role, layer: usize) -> Result<Tensor<'w>> {
        let tensor = weights.get(&self.find(weights, &self.weight(role, layer))?)?;
        Ok(self.part_of(tensor, role))
    }

    /// The bias in a checkpoint, under whichever prefix it has.
    pub fn bias_in<'w>(&self, weights: &'w dyn Weights, role: Role, layer: usize) -> Result<Tensor<'w>> {
        let tensor = weights.get(&self.find(weights, &self.bias(role, layer))?)?;
        Ok(self.part_of(tensor, role))
    }

    /// Row blocks of the tensor that `role` is in: 1 where it has one of its own.
    pub(crate) fn blocks_of(&self, role: Role) -> usize {
        self.block(role).map_or(1, |block| block.count)
    }

    fn block(&self, role: Role) -> Option<Block> {
        self.blocks.iter().find(|(r, _)| *r == role).map(|(_, block)| *block)
    }

    fn part_of<'w>(&self, tensor: Tensor<'w>, role: Role) -> Tensor<'w> {
        let Some(Block { index, count }) = self.block(role) else { return tensor };
        let rows = tensor.shape().first().map_or(0, |rows| rows / count);
        tensor.slice(index * rows..(index + 1) * rows)
    }

    /// The full name in a checkpoint of the tensor whose unprefixed name is `name`.
    pub(crate) fn find(&self, weights: &dyn Weights, name: &str) -> Result<String> {
        let spellings = [Some(name.to_owned()), old_spelling(name)];
        let found = self
            .prefixes
            .iter()
            .flat_map(|prefix| spellings.iter().flatten().map(move |name| format!("{prefix}{name}")))
            .find(|name| weights.contains(name));
        found.ok_or_else(|| {
            let tried = self.prefixes.iter().map(|p| format!("{p:?}")).collect::<Vec<_>>().join(", ");
            Error::new(ErrorKind::Mismatch, format!("the tensor is missing (prefixes tried: {tried})"))
                .in_file(weights.file())
                .in_tensor(name)
        })
    }

    fn name(&self, role: Role, layer: usize, part: &str) -> String {
        let found = self.templates.iter().find(|(r, _)| *r == role);
        let (_, template) = found.unwrap_or_else(|| panic!("the architecture has no {role:?}"));
        let stem = template.replace("{}", &layer.to_string());
        if self.whole.contains(&role) { stem } else { stem + part }
    }
}

/// `LayerNorm.gamma` for `LayerNorm.weight`, `LayerNorm.beta` for `LayerNorm.bias`.
fn old_spelling(name: &str) -> Option<String> {
    let (stem, part) = name.rsplit_once('.')?;
    stem.ends_with("LayerNorm").then(|| format!("{stem}.{}", if part == "weight" { "gamma" } else { "beta" }))
}
