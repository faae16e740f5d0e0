//! Static models: a table of token vectors whose mean is the embedding.
//!
//! model2vec cuts a text to 512 times the median token length of characters, tokenises it without special tokens, drops the
//! unknown token, keeps 512 tokens, and takes the mean of `weight[id] * table[mapping[id]]`, weights and mapping being optional.

use crate::config::{self, Config};
use embral_formats::Weights;
use embral_types::{Dtype, Error, ErrorKind, Result, Tensor};
use serde_json::Value;

/// Tokens that model2vec looks at.
const MODEL2VEC_TOKENS: usize = 512;

/// A table of token vectors.
#[derive(Clone, Debug, PartialEq)]
pub struct StaticSpec {
    /// Who wrote the model.
    pub layout: StaticLayout,
    /// Token ids: rows of `mapping` and `token_weights`, or of the table where there is no mapping.
    pub vocab: usize,
    /// Rows of the table.
    pub rows: usize,
    /// Components of a row.
    pub width: usize,
    /// The tensor of the table, `[rows, width]`, in a float format or I8.
    pub table: String,
    /// The tensor of what each token's row is multiplied by, `[vocab]`, in a float format, if any.
    pub token_weights: Option<String>,
    /// The tensor of each token's row in the table, `[vocab]`, I32 or I64, if any.
    pub mapping: Option<String>,
}

/// Who wrote a static model; the two tokenise differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StaticLayout {
    /// model2vec: no special tokens, unknown tokens dropped, text cut to 512 median token lengths of characters, then 512 tokens.
    Model2Vec,
    /// A sentence-transformers `StaticEmbedding`: no special tokens, unknown tokens kept, no limit.
    SentenceTransformers,
}

impl StaticSpec {
    /// Finds the tables in a checkpoint. `config` is the `config.json` of the folder, which model2vec writes and
    /// sentence-transformers does not.
    pub fn of(config: Option<&[u8]>, weights: &dyn Weights) -> Result<Self> {
        let config = config.map(config::from_bytes).transpose()?;
        Self::detect(config.as_ref(), weights)
    }

    pub(crate) fn detect(config: Option<&Value>, weights: &dyn Weights) -> Result<Self> {
        let declared = match config {
            Some(config) => Config::of(config)?.text("model_type")? == Some("model2vec"),
            None => false,
        };
        let tables = ["embeddings", "embedding.weight"];
        let Some(table) = tables.into_iter().find(|name| weights.contains(name)) else {
            let message = "expected a table called embeddings or embedding.weight, found neither";
            return Err(Error::new(ErrorKind::Mismatch, message).in_file(weights.file()));
        };
        let model2vec = declared || table == "embeddings";
        let optional = |name: &str| (table == "embeddings" && weights.contains(name)).then(|| name.to_owned());
        let mut spec = Self {
            layout: if model2vec { StaticLayout::Model2Vec } else { StaticLayout::SentenceTransformers },
            vocab: 0,
            rows: 0,
            width: 0,
            table: table.to_owned(),
            token_weights: optional("weights"),
            mapping: optional("mapping"),
        };
        spec.check(weights)?;
        Ok(spec)
    }

    /// Fills in the sizes, and refuses tensors that do not fit each other.
    fn check(&mut self, weights: &dyn Weights) -> Result<()> {
        let wrong = |name: &str, expected: &str, tensor: &Tensor<'_>| {
            let message = format!("expected {expected}, found {} of shape {:?}", tensor.dtype(), tensor.shape());
            Error::new(ErrorKind::Mismatch, message).in_file(weights.file()).in_tensor(name)
        };
        let float = |dtype| matches!(dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::Bf16);

        let table = weights.get(&self.table)?;
        let (&[rows, width], true) = (table.shape(), float(table.dtype()) || table.dtype() == Dtype::I8) else {
            return Err(wrong(&self.table, "F32, F16 or I8 of shape [rows, width]", &table));
        };
        if rows == 0 || !config::limit::WIDTH.contains(&width) {
            return Err(wrong(&self.table, "at least one row of 1 to 65536 components", &table));
        }
        (self.rows, self.width, self.vocab) = (rows, width, rows);
        if let Some(name) = &self.mapping {
            let mapping = weights.get(name)?;
            let (&[vocab], Dtype::I32 | Dtype::I64) = (mapping.shape(), mapping.dtype()) else {
                return Err(wrong(name, "I32 or I64 of shape [vocabulary]", &mapping));
            };
            self.vocab = vocab;
        }
        if let Some(name) = &self.token_weights {
            let token_weights = weights.get(name)?;
            if token_weights.shape() != [self.vocab] || !float(token_weights.dtype()) {
                return Err(wrong(name, &format!("F32 or F64 of shape [{}]", self.vocab), &token_weights));
            }
        }
        Ok(())
    }

    /// Each token's row in the table, every one below [`StaticSpec::rows`]; nothing where token and row are one.
    pub fn read_mapping(&self, weights: &dyn Weights) -> Result<Option<Vec<u32>>> {
        let Some(name) = &self.mapping else { return Ok(None) };
        let tensor = weights.get(name)?;
        let bytes = tensor.bytes();
        let wide: Vec<i64> = match tensor.dtype() {
            Dtype::I32 => bytes.as_chunks().0.iter().map(|&v| i32::from_le_bytes(v).into()).collect(),
            _ => bytes.as_chunks().0.iter().map(|&v| i64::from_le_bytes(v)).collect(),
        };
        let row = |(token, &row): (usize, &i64)| {
            u32::try_from(row).ok().filter(|&row| (row as usize) < self.rows).ok_or_else(|| {
                let message = format!("expected rows below {}, found {row} for token {token}", self.rows);
                Error::new(ErrorKind::Malformed, message).in_file(weights.file()).in_tensor(name)
            })
        };
        wide.iter().enumerate().map(row).collect::<Result<_>>().map(Some)
    }

    /// What each token's row is multiplied by; nothing where that is 1.
    pub fn read_token_weights(&self, weights: &dyn Weights) -> Result<Option<Vec<f32>>> {
        let Some(name) = &self.token_weights else { return Ok(None) };
        let tensor = weights.get(name)?;
        embral_formats::check_finite(name, &tensor).map_err(|e| e.in_file(weights.file()))?;
        Ok(Some(tensor.to_f32()))
    }

    /// Whether unknown tokens are left out of the mean.
    pub fn drop_unknown(&self) -> bool {
        self.layout == StaticLayout::Model2Vec
    }

    /// The most tokens that take part in the mean.
    pub fn max_tokens(&self) -> Option<usize> {
        (self.layout == StaticLayout::Model2Vec).then_some(MODEL2VEC_TOKENS)
    }

    /// The most characters of a text that are tokenised, in median lengths of the vocabulary's tokens.
    pub fn max_median_lengths(&self) -> Option<usize> {
        (self.layout == StaticLayout::Model2Vec).then_some(MODEL2VEC_TOKENS)
    }
}
