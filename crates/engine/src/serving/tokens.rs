//! Texts to tokens and back, as a caller sees them.

use super::ServedModel;
use crate::Truncation;
use embral_types::Result;
use std::ops::Range;

/// A token of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSpan {
    /// Its id.
    pub id: u32,
    /// As it is written in the vocabulary.
    pub token: String,
    /// Its bytes in the text; none for a token that the model puts around it.
    pub bytes: Option<Range<usize>>,
}

impl ServedModel {
    /// The tokens of a text, cut nowhere, with those that the model puts around it where `special` ones are wanted.
    ///
    /// # Errors
    /// Where the model is behind a server.
    pub fn tokenize(&self, text: &str, prompt: &str, special: bool) -> Result<Vec<TokenSpan>> {
        let tokenizer = self.tokenizer(Truncation::Right)?;
        let parts = tokenizer.parts(text, prompt)?;
        let token = |id: u32| tokenizer.token(id).unwrap_or_default();
        let around = |id: &u32| TokenSpan { id: *id, token: token(*id), bytes: None };
        let mut spans = Vec::with_capacity(parts.tokens.len() + 2);
        if special {
            spans.extend(parts.prefix.iter().map(around));
        }
        spans.extend(parts.prompt.iter().map(around));
        spans.extend(parts.tokens.iter().map(|span| TokenSpan {
            id: span.id,
            token: token(span.id),
            bytes: Some(span.bytes.clone()),
        }));
        if special {
            spans.extend(parts.suffix.iter().map(around));
        }
        Ok(spans)
    }

    /// The text of token ids.
    ///
    /// # Errors
    /// Where the model is behind a server.
    pub fn decode(&self, ids: &[u32], special: bool) -> Result<String> {
        self.tokenizer(Truncation::Right)?.decode_as(ids, special)
    }

    /// Whether an id stands for no part of a text: `[CLS]`, padding and the like.
    ///
    /// # Errors
    /// Where the model is behind a server.
    pub fn special_ids(&self) -> Result<Vec<u32>> {
        Ok(self.tokenizer(Truncation::Right)?.special_ids())
    }
}
