//! Sparse embeddings: weights of vocabulary entries, from the head of a masked language model or from one linear layer.

use crate::config::{Config, unsupported};
use embral_types::{Activation, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// How token rows become weights of vocabulary entries.
#[derive(Clone, Debug, PartialEq)]
pub enum SparseSpec {
    /// SPLADE: every token has a logit for each entry of the vocabulary; `log(1 + max(logit, 0))`, pooled over the tokens.
    Terms {
        /// What makes logits of a token row.
        head: MlmHead,
        /// How the tokens of a text are pooled.
        pooling: TermPooling,
        /// Whether the logarithm is taken twice (`log1p_relu`).
        twice: bool,
    },
    /// bge-m3: every token has one weight, `max(x · w + b, 0)`; an entry has the largest of its tokens. Special tokens have none.
    Tokens {
        /// The file of `weight`, `[1, hidden]`, and `bias`, `[1]`.
        weights: PathBuf,
    },
}

/// How the logits of a text's tokens are pooled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TermPooling {
    /// The largest.
    #[default]
    Max,
    /// The sum.
    Sum,
}

/// The head of a masked language model: `norm(act(x Tᵀ + t)) Dᵀ + d`. Tensors are `NAME.weight` and, where the file has it,
/// `NAME.bias`.
#[derive(Clone, Debug, PartialEq)]
pub struct MlmHead {
    /// The transform.
    pub dense: &'static str,
    /// The function after it.
    pub activation: Activation,
    /// The layer norm.
    pub norm: &'static str,
    /// What is added under its root.
    pub eps: f32,
    /// The decoder; its weight is the word embedding table where the file has none.
    pub decoder: &'static str,
    /// Where the bias of the decoder is; the first that is there counts.
    pub biases: [&'static str; 2],
}

/// Class, transform, norm, decoder, biases of the decoder, and whether the function is always GELU.
type Row = (&'static str, &'static str, &'static str, &'static str, [&'static str; 2], bool);

const ROBERTA: Row = (
    "Roberta",
    "lm_head.dense",
    "lm_head.layer_norm",
    "lm_head.decoder",
    ["lm_head.bias", "lm_head.decoder.bias"],
    true,
);

const ROWS: &[Row] = &[
    (
        "Bert",
        "cls.predictions.transform.dense",
        "cls.predictions.transform.LayerNorm",
        "cls.predictions.decoder",
        ["cls.predictions.bias", "cls.predictions.decoder.bias"],
        false,
    ),
    ("DistilBert", "vocab_transform", "vocab_layer_norm", "vocab_projector", ["vocab_projector.bias", ""], false),
    ROBERTA,
    ("XLMRoberta", ROBERTA.1, ROBERTA.2, ROBERTA.3, ROBERTA.4, true),
    ("Camembert", ROBERTA.1, ROBERTA.2, ROBERTA.3, ROBERTA.4, true),
    ("MPNet", ROBERTA.1, ROBERTA.2, ROBERTA.3, ROBERTA.4, true),
    ("ModernBert", "head.dense", "head.norm", "decoder", ["decoder.bias", ""], false),
];

/// The head of a `config.json` of a class that ends with `ForMaskedLM`; nothing for a class whose head is not known.
pub(super) fn mlm(config: Config<'_>) -> Result<Option<SparseSpec>> {
    let class = match config.get("architectures") {
        Some(Value::Array(classes)) => classes.first().and_then(Value::as_str).unwrap_or_default(),
        _ => "",
    };
    let family = class.strip_suffix("ForMaskedLM").unwrap_or_default();
    let Some(&(_, dense, norm, decoder, biases, gelu)) = ROWS.iter().find(|row| row.0 == family) else {
        return Ok(None);
    };
    let key = ["hidden_act", "activation", "classifier_activation"].into_iter().find(|key| config.get(key).is_some());
    let activation = match key {
        Some(key) if !gelu => config.activation(key, Activation::GeluErf)?,
        _ => Activation::GeluErf,
    };
    let eps = match family {
        "ModernBert" => config.positive_or("norm_eps", 1e-5)?,
        _ => config.positive_or("layer_norm_eps", 1e-12)?,
    };
    let head = MlmHead { dense, activation, norm, eps, decoder, biases };
    Ok(Some(SparseSpec::Terms { head, pooling: TermPooling::Max, twice: false }))
}

/// The layer of bge-m3, where the folder has one.
pub(super) fn linear(folder: &Path) -> Option<SparseSpec> {
    super::linear_file(folder, "sparse_linear").map(|weights| SparseSpec::Tokens { weights })
}

impl SparseSpec {
    /// What a `SpladePooling` module says about it.
    pub(crate) fn pooled(mut self, value: &Value) -> Result<Self> {
        let config = Config::of(value)?;
        if let Self::Terms { pooling, twice, .. } = &mut self {
            *pooling = match config.text("pooling_strategy")? {
                None | Some("max") => TermPooling::Max,
                Some("sum") => TermPooling::Sum,
                Some(other) => {
                    return Err(unsupported(format!("pooling_strategy: expected max or sum, found {other:?}")));
                }
            };
            *twice = match config.text("activation_function")? {
                None | Some("relu") => false,
                Some("log1p_relu") => true,
                Some(other) => {
                    let message = format!("activation_function: expected relu or log1p_relu, found {other:?}");
                    return Err(unsupported(message));
                }
            };
        }
        Ok(self)
    }
}
