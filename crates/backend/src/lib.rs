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
    /// `y = bias + Σ p_e · down_e(act(up_e(x)))` of each row over its most probable experts `e`, from the first expert on, `p` being the
    /// softmax of what the router gives; of equal ones the first is chosen.
    fn experts(
        &self,
        x: &Self::Buffer,
        experts: &Experts<Self>,
        activation: Activation,
        y: &mut Self::Buffer,
    ) -> Result<()>;
    /// `y += x`.
    fn add(&self, x: &Self::Buffer, y: &mut Self::Buffer) -> Result<()>;
    /// `y = norm(x)`, row by row.
    fn norm(&self, x: &Self::Buffer, n: &Self::Norm, y: &mut Self::Buffer) -> Result<()>;
    /// `x = norm(x)`, row by row.
    fn norm_in_place(&self, x: &mut Self::Buffer, n: &Self::Norm) -> Result<()>;
    /// `y += norm(x)`, row by row.
    fn norm_add(&self, x: &Self::Buffer, n: &Self::Norm, y: &mut Self::Buffer) -> Result<()>;
    /// Norms query and key in `qkv`: each head by itself, or all heads together where the norm is as wide as they are.
    fn norm_query_key(
        &self,
        qkv: &mut Self::Buffer,
        attention: &Attention,
        query: &Self::Norm,
        key: &Self::Norm,
    ) -> Result<()>;
    /// Turns query and key in `qkv` by their place in the sequence.
    fn rotate(&self, plan: &Self::Plan, qkv: &mut Self::Buffer, attention: &Attention, rope: &Rope) -> Result<()>;
    /// `y = softmax(scale · Q Kᵀ + bias) V`, per sequence and head; the keys are the tokens that [`Batch::seen`] counts, and distances
    /// are of places, also to those that are not seen.
    fn attention(
        &self,
        plan: &Self::Plan,
        qkv: &Self::Buffer,
        attention: &Attention,
        bias: Bias<'_, Self>,
        y: &mut Self::Buffer,
    ) -> Result<()>;
    /// One row a sequence. A sequence without rows gives zeros.
    fn pool(&self, plan: &Self::Plan, x: &Self::Buffer, pool: Pool, y: &mut Self::Buffer) -> Result<()>;
    /// The mean of a static model's rows, one row a sequence. An empty sequence gives zeros.
    fn bag(&self, plan: &Self::Plan, bag: &Self::Bag, l2: bool, y: &mut Self::Buffer) -> Result<()>;
    /// The first `y.width` components of each row, divided by their Euclidean length where `l2` says so.
    fn finish(&self, x: &Self::Buffer, l2: bool, y: &mut Self::Buffer) -> Result<()>;
    /// Copies in all rows, `[rows, width]`, from values of just that length.
    fn write(&self, values: &[f32], y: &mut Self::Buffer) -> Result<()>;
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
    /// A token that is at no place: it has the row before the first position, and those behind it do not count it.
    pub padding: Option<u32>,
    /// `[kinds, width]`, one row a segment.
    pub kind: Option<&'a B::Table>,
    /// Factor of the sum.
    pub scale: f32,
    /// Norm of the scaled sum.
    pub norm: Option<&'a B::Norm>,
}

/// What is added to the scores of attention. Distances are the place of the key less that of the query, from `-reach` on, and the first
/// and the last stand for all beyond.
pub enum Bias<'a, B: Backend + ?Sized> {
    /// Nothing.
    None,
    /// A number for each head and distance: a table `[heads, 2 reach + 1]`.
    Distance(&'a B::Table),
    /// Products with rows of distances.
    Relative(&'a Relative<B>),
}

impl<B: Backend + ?Sized> Clone for Bias<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Backend + ?Sized> Copy for Bias<'_, B> {}

/// Rows of distances, with the width of the query.
pub struct Relative<B: Backend + ?Sized> {
    /// `scale · q · keys[row]` is added.
    pub keys: Option<B::Buffer>,
    /// `scale · k · queries[row]` is added.
    pub queries: Option<B::Buffer>,
    /// The row of each distance, `[2 reach + 1]`.
    pub distances: Vec<u32>,
}

/// Perceptrons of which each row goes through a few.
pub struct Experts<B: Backend + ?Sized> {
    /// One output an expert.
    pub router: B::Linear,
    /// The first layer of each.
    pub up: Vec<B::Linear>,
    /// The second layer of each.
    pub down: Vec<B::Linear>,
    /// What is added to each row, `[1, width]`.
    pub bias: B::Table,
    /// Experts of a row.
    pub chosen: usize,
    /// Outputs of a first layer.
    pub inner: usize,
}
