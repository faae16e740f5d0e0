//! How texts are cut and which tokens are kept.

use embral_types::{Error, ErrorKind};
use std::{fmt, str::FromStr};

/// What happens to a text with more tokens than the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Truncation {
    /// Its end is cut off.
    #[default]
    Right,
    /// Its start is cut off.
    Left,
    /// It is refused with [`ErrorKind::TooLong`].
    Error,
}

impl Truncation {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Right => "right",
            Self::Left => "left",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Truncation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Truncation {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        [Self::Right, Self::Left, Self::Error].into_iter().find(|t| t.name() == name).ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput, format!("unknown truncation {name:?}: expected right, left or error"))
        })
    }
}

/// What a [`crate::Tokenizer`] does besides splitting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The most tokens a text may have, special tokens included; `None` is no limit.
    pub max_tokens: Option<usize>,
    /// What happens beyond `max_tokens`. The special tokens stay in every case.
    pub truncation: Truncation,
    /// Lower-cases the text before the pipeline's own normalisation, character by character (`do_lower_case` of
    /// sentence-transformers). Special tokens written in the text are still recognised.
    pub lower_case: bool,
    /// Adds the special tokens of the model, such as `[CLS]` and `[SEP]`.
    pub special_tokens: bool,
    /// Leaves out the unknown token, before the limit is applied (static models).
    pub drop_unknown: bool,
    /// Cuts the text, prompt included, to this many characters before anything else (static models).
    pub char_cap: Option<usize>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_tokens: None,
            truncation: Truncation::Right,
            lower_case: false,
            special_tokens: true,
            drop_unknown: false,
            char_cap: None,
        }
    }
}
