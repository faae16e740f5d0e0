//! The models known by name: what their own folders do not say, and what a person chooses by.

use embral_types::Pooling;

/// A known model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry {
    /// The short name, as `all-MiniLM-L6-v2`.
    pub name: &'static str,
    /// The name on the hub, `org/name`.
    pub repo: &'static str,
    /// The `model_type` of its configuration.
    pub architecture: &'static str,
    /// Components of the embedding.
    pub dims: usize,
    /// The most tokens of a text.
    pub max_tokens: usize,
    /// Parameters, in millions.
    pub parameters: f32,
    /// How token rows become one vector.
    pub pooling: Pooling,
    /// Named prompts: `query` and `document` where the model distinguishes them.
    pub prompts: &'static [(&'static str, &'static str)],
    /// The widths the embedding may be cut to, largest first.
    pub matryoshka: &'static [usize],
    /// SPDX identifier of the weights' licence.
    pub licence: &'static str,
    /// Megabytes of the weight file.
    pub size_mb: u32,
    /// Whether this version runs it.
    pub supported: bool,
}
