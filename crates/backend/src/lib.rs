//! The boundary between the forward pass and the hardware: about a dozen fused ops on packed rows.
//!
//! A buffer is `[rows, width]` of activations. The rows of a batch are the tokens of its sequences, one sequence after the
//! other, with no padding ([`embral_types::Batch`]). Every op gives each output element a fixed order of additions, so that a
//! row never depends on its company. With the feature `suite`, a test suite runs every op of a backend against
//! f64.

mod spec;
#[cfg(feature = "suite")]
pub mod suite;

pub use spec::{Attention, Dense, Pool, Rope};

use embral_types::{Activation, Batch, NormKind, Precision, Result, Tensor};

/// The ops that a forward pass is made of.
///
/// Shapes are checked by the caller once, at load; an op panics where they disagree, which is a defect of the caller.
pub trait Backend: Send + Sync {
    /// Activations, `[rows, width]`.
    type Buffer: Send + Sync;
    /// Prepared weights of one linear layer.
    type Linear: Send + Sync;
    /// Prepared weights of one norm.
    type Norm: Send + Sync;
    /// A lookup table, `[rows, width]`.
    type Table: Send + Sync;
    /// Prepared rows of a static model.
    type Bag: Send + Sync;
    /// One batch as the ops need it.
    type Plan: Send + Sync;

    /// A name for people: the kind of hardware and the instructions in use.
    fn describe(&self) -> String;

    /// Prepares `y = x Wᵀ + b`, the outputs of `parts` side by side (as query, key and value in one product), as a product of
    /// the numbers that `precision` names.
    fn load_linear(&self, parts: &[Dense<'_>], precision: Precision) -> Result<Self::Linear>;
    /// Prepares `y = act(x Gᵀ + c) ∘ (x Uᵀ + d)`.
    fn load_gated(&self, gate: &Dense<'_>, up: &Dense<'_>, precision: Precision) -> Result<Self::Linear>;
    /// Prepares a norm with scale `gamma` and, for some, shift `beta`.
    fn load_norm(&self, kind: NormKind, gamma: &Tensor<'_>, beta: Option<&Tensor<'_>>, eps: f32) -> Result<Self::Norm>;
    /// Prepares a lookup table.
    fn load_table(&self, table: &Tensor<'_>) -> Result<Self::Table>;
    /// Prepares a static model: `table[mapping[id]]`, times `weights[id]`.
    fn load_bag(
        &self,
        table: &Tensor<'_>,
        weights: Option<&Tensor<'_>>,
        mapping: Option<&Tensor<'_>>,
    ) -> Result<Self::Bag>;

    /// Takes one batch to where the ops run.
    fn plan(&self, batch: &Batch) -> Result<Self::Plan>;
    /// A buffer with unspecified contents.
    fn buffer(&self, rows: usize, width: usize) -> Result<Self::Buffer>;

    /// `y[t] = norm((word[id[t]] + position[offset + p(t)] + kind[s(t)]) · scale)`, with `p(t)` the place of `t` in its sequence and
    /// `s(t)` its segment.
    fn embed(&self, plan: &Self::Plan, tables: &Embedding<'_, Self>, y: &mut Self::Buffer) -> Result<()>;
    /// `y = act(x Wᵀ + b)`, or the gated form where the weights are a gated pair.
    fn linear(&self, x: &Self::Buffer, w: &Self::Linear, activation: Activation, y: &mut Self::Buffer) -> Result<()>;
    /// `y += x Wᵀ + b`.
    fn linear_add(&self, x: &Self::Buffer, w: &Self::Linear, y: &mut Self::Buffer) -> Result<()>;
    /// `y = norm(x)`, row by row.
    fn norm(&self, x: &Self::Buffer, n: &Self::Norm, y: &mut Self::Buffer) -> Result<()>;
    /// `x = norm(x)`, row by row.
    fn norm_in_place(&self, x: &mut Self::Buffer, n: &Self::Norm) -> Result<()>;
    /// Norms each head of query and key in `qkv`.
    fn norm_heads(
        &self,
        qkv: &mut Self::Buffer,
        attention: &Attention,
        query: &Self::Norm,
        key: &Self::Norm,
    ) -> Result<()>;
    /// Turns query and key in `qkv` by their place in the sequence.
    fn rotate(&self, plan: &Self::Plan, qkv: &mut Self::Buffer, attention: &Attention, rope: &Rope) -> Result<()>;
    /// `y = softmax(scale · Q Kᵀ) V`, per sequence and head; the keys are the tokens that [`Batch::seen`] counts.
    fn attention(
        &self,
        plan: &Self::Plan,
        qkv: &Self::Buffer,
        attention: &Attention,
        y: &mut Self::Buffer,
    ) -> Result<()>;
    /// One row a sequence. A sequence without rows gives zeros.
    fn pool(&self, plan: &Self::Plan, x: &Self::Buffer, pool: Pool, y: &mut Self::Buffer) -> Result<()>;
    /// The mean of a static model's rows, one row a sequence. An empty sequence gives zeros.
    fn bag(&self, plan: &Self::Plan, bag: &Self::Bag, l2: bool, y: &mut Self::Buffer) -> Result<()>;
    /// The first `y.width` components of each row, divided by their Euclidean length where `l2` says so.
    fn finish(&self, x: &Self::Buffer, l2: bool, y: &mut Self::Buffer) -> Result<()>;
    /// `y` is the rows of `x` from `first` on, as many as it has.
    fn rows(&self, x: &Self::Buffer, first: usize, y: &mut Self::Buffer) -> Result<()>;
    /// Copies out all rows, `[rows, width]`, into `out` of just that length. The only op that waits for the hardware.
    fn read(&self, x: &Self::Buffer, out: &mut [f32]) -> Result<()>;
}

/// What the rows of a batch are made from.
pub struct Embedding<'a, B: Backend + ?Sized> {
    /// `[vocab, width]`.
    pub word: &'a B::Table,
    /// `[positions, width]`, and the row of the first position.
    pub position: Option<(&'a B::Table, usize)>,
    /// `[kinds, width]`, one row a segment.
    pub kind: Option<&'a B::Table>,
    /// Factor of the sum.
    pub scale: f32,
    /// Norm of the scaled sum.
    pub norm: Option<&'a B::Norm>,
}
