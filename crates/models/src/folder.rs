//! A model folder: everything but the numbers.

use crate::{Blueprint, Head, StaticSpec, WeightNames};
use embral_types::Pooling;
use std::{collections::BTreeMap, path::PathBuf};

/// A model as its folder describes it.
#[derive(Clone, Debug)]
pub struct ModelFolder {
    /// The folder.
    pub root: PathBuf,
    /// What turns ids into rows.
    pub network: Network,
    /// The safetensors file, or the `model.safetensors.index.json` of a sharded model.
    pub weights: PathBuf,
    /// How rows become one vector; `None` where the folder does not say. [`Pooling::Mean`] for static models.
    pub pooling: Option<Pooling>,
    /// Whether the tokens of the prompt take part in pooling.
    pub include_prompt: bool,
    /// What follows pooling, in order.
    pub heads: Vec<Head>,
    /// The most tokens of a text, special ones included; `None` where nothing limits it.
    pub max_tokens: Option<usize>,
    /// Whether text is lower-cased before the tokeniser sees it (`do_lower_case` of `sentence_bert_config.json`).
    pub do_lower_case: bool,
    /// Named prompts.
    pub prompts: BTreeMap<String, String>,
    /// The name of the prompt that is used where none is asked for; a key of `prompts`.
    pub default_prompt: Option<String>,
    /// Where the tokeniser is.
    pub tokenizer: TokenizerFiles,
    /// The widths the embedding may be cut to, as far as the folder says.
    pub matryoshka: Vec<usize>,
    /// `cosine`, `dot`, `euclidean` or `manhattan`, where the folder says.
    pub similarity: Option<String>,
}

/// What turns ids into rows or, for a static model, into the vector.
#[derive(Clone, Debug, PartialEq)]
pub enum Network {
    /// A transformer encoder.
    Transformer {
        /// The `model_type`.
        architecture: &'static str,
        /// What it computes.
        blueprint: Blueprint,
        /// Where its tensors are.
        names: WeightNames,
    },
    /// A table of token vectors.
    Static(StaticSpec),
}

/// Where the tokeniser of a model is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenizerFiles {
    /// A `tokenizer.json`.
    Json(PathBuf),
    /// A WordPiece `vocab.txt`, with the `do_lower_case` of `tokenizer_config.json` (true where it does not say).
    Vocab {
        /// The vocabulary.
        vocab: PathBuf,
        /// Whether the BERT normaliser lower-cases and strips accents.
        lower_case: bool,
    },
}
