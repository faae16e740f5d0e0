//! Rerankers that answer yes or no: the logits of two tokens at the end of a question about query and document.

use crate::config::{Config, limit};
use embral_types::Result;
use serde_json::Value;

/// The two answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum YesNoSpec {
    /// The tokens `yes` and `no` of the vocabulary.
    #[default]
    Words,
    /// The tokens that a `LogitScore` module names.
    Tokens {
        /// That the document is relevant.
        yes: u32,
        /// That it is not; without it the score is the logit of the other alone.
        no: Option<u32>,
    },
}

/// The `config.json` of a `LogitScore` module.
pub(crate) fn parse(value: &Value) -> Result<YesNoSpec> {
    let config = Config::of(value)?;
    let ids = 0..=*limit::VOCAB.end();
    let yes = config.number("true_token_id", ids.clone())? as u32;
    let no = config.optional_number("false_token_id", ids)?.map(|id| id as u32);
    Ok(YesNoSpec::Tokens { yes, no })
}
