//! One vector, token weights and token vectors of a text, all of one pass.

use crate::{
    Config, ModelInfo, Profile, SparseEmbedding,
    embedder::finite,
    encoder::Form,
    multi_vector::kept_rows,
    pairs,
    session::Texts,
    token_model::{TokenModel, Wanted},
};
use embral_models::{ModelFolder, MultiVectorSpec, SparseSpec};
use embral_types::{Embeddings, Error, ErrorKind, Result};

/// A model with several outputs, such as bge-m3, run once for all of them. Each output is, bit for bit, that of the type for it alone:
/// [`crate::Embedder`], [`crate::SparseEmbedder`] and [`crate::MultiVectorEmbedder`].
pub struct JointEmbedder {
    model: TokenModel,
    wanted: Wanted,
    skip_first: bool,
}

/// What of a text is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joint {
    /// One vector.
    pub dense: bool,
    /// The weights of its tokens.
    pub sparse: bool,
    /// One vector a token.
    pub multi_vector: bool,
}

/// The outputs of a call; those that were not wanted are empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JointEmbeddings {
    /// One row a text.
    pub dense: Embeddings,
    /// One entry a text.
    pub sparse: Vec<SparseEmbedding>,
    /// One entry a text, of one row a token.
    pub multi_vector: Vec<Embeddings>,
}

/// The outputs over tokens of a model with several, which reads queries and documents alike; none where it has none.
pub(crate) fn spec_of_tokens(folder: &ModelFolder) -> Option<(Option<&SparseSpec>, Option<&MultiVectorSpec>)> {
    let outputs = &folder.outputs;
    let alike = |spec: &&MultiVectorSpec| spec.expansion.is_none() && spec.query == spec.document;
    match (outputs.sparse.as_ref(), outputs.multi_vector.as_ref().filter(alike)) {
        (None, None) => None,
        found => Some(found),
    }
}

impl JointEmbedder {
    /// Opens the model that `config` names, for these outputs.
    ///
    /// # Errors
    /// Where the model is not found, does not have an output that is wanted, or its files disagree with each other.
    #[expect(clippy::needless_pass_by_value, reason = "a configuration is made for the one model it opens")]
    pub fn with_config(config: Config, joint: Joint) -> Result<Self> {
        let (folder, name) = pairs::folder(&config, "a model of several outputs")?;
        let lacks = |what: &str| {
            Error::new(ErrorKind::InvalidInput, format!("the model has no {what} output"))
                .in_file(&folder.root)
                .hint("bge-m3 is a model that has all of them")
        };
        if joint.dense && folder.pooling.is_none() {
            return Err(lacks("dense"));
        }
        let sparse = match (&folder.outputs.sparse, joint.sparse) {
            (None, true) => return Err(lacks("sparse")),
            (spec, wanted) => spec.as_ref().filter(|_| wanted),
        };
        let vectors = match (&folder.outputs.multi_vector, joint.multi_vector) {
            (None, true) => return Err(lacks("multi-vector")),
            (spec, wanted) => spec.as_ref().filter(|_| wanted),
        };
        if let Some(spec) = vectors
            && (spec.expansion.is_some() || spec.query != spec.document)
        {
            let message = "the model reads queries and documents differently where every token has a vector";
            return Err(Error::new(ErrorKind::Unsupported, message)
                .in_file(&folder.root)
                .hint("use MultiVectorEmbedder by itself, or `embral embed --multi-vector` without --sparse"));
        }
        let model = TokenModel::open(&folder, &name, &config, sparse, vectors)?;
        let form = Form { dims: model.info.dimensions, l2: model.info.normalize };
        let wanted = Wanted { dense: joint.dense.then_some(form), sparse: joint.sparse, tokens: joint.multi_vector };
        Ok(Self { model, wanted, skip_first: vectors.is_some_and(|spec| spec.skip_first) })
    }

    /// Embeds texts, in their order.
    ///
    /// # Errors
    /// Where a text is longer than the limit and truncation is refused; the error names it by its index.
    pub fn embed_batch(&self, texts: &[impl AsRef<str> + Sync]) -> Result<JointEmbeddings> {
        let bytes = |index: usize| texts[index].as_ref().len();
        let encode = |index: usize| self.model.tokenizer.encode(texts[index].as_ref(), "");
        let width = self.model.width();
        let (mut dense, mut sparse, mut multi_vector) = (Vec::new(), Vec::new(), Vec::new());
        let texts = Texts { count: texts.len(), bytes: &bytes, encode: &encode };
        self.model.run(&texts, self.wanted, &mut |work, mut found| {
            dense.append(&mut found.dense);
            sparse.append(&mut found.sparse);
            if self.wanted.tokens {
                let mut rows = found.tokens.chunks_exact(width);
                for (index, encoded) in (work.first..).zip(work.encoded) {
                    let kept = kept_rows(encoded, &mut rows, &[], self.skip_first);
                    finite(&kept, width * encoded.ids.len(), |_| index)?;
                    multi_vector.push(Embeddings::new(kept, width));
                }
            }
            Ok(())
        })?;
        let dense = Embeddings::new(dense, if self.wanted.dense.is_some() { self.info().dimensions } else { 0 });
        Ok(JointEmbeddings { dense, sparse, multi_vector })
    }

    /// What the model is.
    pub fn info(&self) -> &ModelInfo {
        &self.model.info
    }

    /// Where the time of the last finished call went.
    pub fn profile(&self) -> Profile {
        self.model.profile()
    }
}

impl std::fmt::Debug for JointEmbedder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JointEmbedder").field("info", self.info()).finish_non_exhaustive()
    }
}
