//! Static models: a table of token vectors whose mean is the embedding.

/// A table of token vectors.
#[derive(Clone, Debug, PartialEq)]
pub struct StaticSpec {
    /// Where the folder's layout comes from.
    pub layout: StaticLayout,
    /// Token ids: rows of `mapping` and `token_weights`, or of the table where there is no mapping.
    pub vocab: usize,
    /// Rows of the table.
    pub rows: usize,
    /// Components of a row.
    pub width: usize,
    /// The tensor of the table, `[rows, width]`, F32, F16 or I8.
    pub table: String,
    /// The tensor of what each token's row is multiplied by, `[vocab]`, F32 or F64, if any.
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
    /// Whether unknown tokens are left out of the mean.
    pub fn drop_unknown(&self) -> bool {
        self.layout == StaticLayout::Model2Vec
    }
}
