//! One text on its way through a model.

use crate::{Prompt, SparseEmbedding, chunk::Chunking, encoder::Form, prompt::KeptPrompt};
use embral_tokenize::Encoded;
use embral_types::Embeddings;
use std::ops::Range;

/// What a caller wants of a text. The default is the vector as the model gives it; of a reranker or a classifier its logits come in
/// any case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// The vector of the text.
    pub vector: bool,
    /// The first components of it alone, normalised unless `normalize` says otherwise; `None` is all.
    pub dims: Option<usize>,
    /// Whether the vector is divided by its length; `None` does as the model does.
    pub normalize: Option<bool>,
    /// The weights of vocabulary entries.
    pub sparse: bool,
    /// One vector a token.
    pub multi_vector: bool,
    /// The row of each token before pooling.
    pub rows: bool,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { vector: true, dims: None, normalize: None, sparse: false, multi_vector: false, rows: false }
    }
}

/// One text as a model computes it.
#[derive(Clone, Debug)]
pub struct Sequence {
    pub(super) content: Content,
    /// What must be the same in sequences that go through one pass.
    pub(super) way: Way,
    #[cfg(feature = "vector-cache")]
    pub(super) key: Option<[u8; 32]>,
    /// Its vector, where it was kept.
    pub(super) known: Option<Vec<f32>>,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    /// The tokens of a text.
    Tokens(Encoded),
    /// A text for a model that keeps its tokens to itself.
    #[cfg(feature = "remote")]
    Text { text: String, prompt: KeptPrompt },
    /// Chunks of a document that are pooled out of one pass over it.
    Late { text: String, chunks: Vec<Range<usize>>, chunking: Chunking, prompt: KeptPrompt, tokens: usize },
}

/// How a sequence goes through the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Way {
    pub(super) skip: usize,
    pub(super) form: Option<Form>,
    pub(super) sparse: bool,
    pub(super) tokens: bool,
    /// Of a model that reads queries in another way than documents.
    pub(super) query: bool,
    pub(super) rows: bool,
}

impl Sequence {
    /// Its length in tokens; of a model behind a server an estimate.
    pub fn tokens(&self) -> usize {
        match &self.content {
            Content::Tokens(encoded) => encoded.ids.len(),
            #[cfg(feature = "remote")]
            Content::Text { text, .. } => crate::queue::estimated_tokens(text),
            Content::Late { tokens, .. } => *tokens,
        }
    }

    /// Whether something was cut off.
    pub fn is_truncated(&self) -> bool {
        matches!(&self.content, Content::Tokens(encoded) if encoded.truncated)
    }

    /// The output, where nothing is to be computed: the vector was kept by the vector cache.
    pub fn known(&self) -> Option<Output> {
        self.known.clone().map(|vector| Output { vector, ..Output::default() })
    }

    /// The chunks of `text` as one sequence, pooled out of one pass over the whole text. Its output is in [`Output::chunks`]. `tokens` is
    /// what the text is taken to cost. For embedding models that run here.
    pub fn late(
        text: String,
        chunks: Vec<Range<usize>>,
        chunking: Chunking,
        prompt: Prompt<'_>,
        tokens: usize,
    ) -> Self {
        let content = Content::Late { text, chunks, chunking, prompt: prompt.into(), tokens };
        Self {
            content,
            way: Way::default(),
            #[cfg(feature = "vector-cache")]
            key: None,
            known: None,
        }
    }
}

/// What came out for a text; what was not wanted is empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Output {
    /// The vector.
    pub vector: Vec<f32>,
    /// The weights of vocabulary entries.
    pub sparse: SparseEmbedding,
    /// One vector a token.
    pub multi_vector: Embeddings,
    /// The row of each token.
    pub rows: Embeddings,
    /// The logit of a reranker; of a classifier one a label.
    pub logits: Vec<f32>,
    /// The vectors of the chunks of a document.
    pub chunks: Embeddings,
}
