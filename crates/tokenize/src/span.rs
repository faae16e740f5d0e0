//! Tokens with the bytes of the text that they stand for.

use std::ops::Range;

/// A token and the bytes of the text that it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The id.
    pub id: u32,
    /// Bytes of the text, on character boundaries.
    pub bytes: Range<usize>,
}

/// A text in parts, as a model reads it: `prefix`, `prompt`, `tokens`, `suffix`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// The special tokens before.
    pub prefix: Vec<u32>,
    /// The tokens of the prompt.
    pub prompt: Vec<u32>,
    /// The tokens of the text, with its bytes. A token over the end of the prompt belongs to the prompt.
    pub tokens: Vec<Span>,
    /// The special tokens behind.
    pub suffix: Vec<u32>,
}
