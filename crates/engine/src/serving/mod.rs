//! A model of any task as a server uses it: texts of many callers, read one by one and computed together.
//!
//! A [`ServedModel`] is whatever the folder of a model is for. [`ServedModel::read`] makes a [`Sequence`] of one text, with all that its
//! caller wants of it; [`ServedModel::run`] computes sequences of any callers in as few passes as their wishes allow. What comes
//! out for a sequence is, bit for bit, what [`Embedder`], [`Reranker`], [`Classifier`], [`crate::SparseEmbedder`] and
//! [`MultiVectorEmbedder`] give for it, whatever it was computed with. An error is of one sequence alone.
//!
//! ```
//! # fn main() -> embral::Result<()> {
//! use embral::{Config, Embedder, Prompt, serving::{Input, Reading, ServedModel, Wanted}};
//! let model = ServedModel::open(Config::default())?;
//! let one = model.read(Input::Text("a cat sat on the mat"), &Reading::default())?;
//! let short = Wanted { dims: Some(64), ..Wanted::default() };
//! let two = model.read(Input::Text("a cat sat on the mat"), &Reading { wanted: short, ..Reading::default() })?;
//! let mut rows = model.run(&[&one, &two]).into_iter();
//! let vector = rows.next().unwrap()?.vector;
//! assert_eq!(vector, Embedder::open_default()?.embed("a cat sat on the mat")?);
//! assert_eq!(rows.next().unwrap()?.vector.len(), 64);
//! # Ok(())
//! # }
//! ```

mod read;
mod run;
mod sequence;
mod tokens;

pub use read::{Input, Reading};
pub use sequence::{Output, Sequence, Wanted};
pub use tokens::TokenSpan;

#[cfg(feature = "remote")]
use crate::pool::Pool;
use crate::{
    Classifier, Config, Embedder, ModelInfo, MultiVectorEmbedder, Reranker, Scores, Task, Truncation, embedder::locate,
    encoder::Form, joint, multi_vector::kept_rows, open::Model, token_model::TokenModel,
};
use embral_models::ModelFolder;
use embral_scheduler::CostModel;
use embral_tokenize::{Encoded, Tokenizer};
use embral_types::{Error, ErrorKind, Result};
use std::sync::Arc;

/// A model of any task; the module says more. Shared between threads by reference.
pub struct ServedModel {
    body: Body,
    /// By how they cut: right, left, not at all. None for a model behind a server.
    tokenizers: Option<[Tokenizer; 3]>,
    truncation: Truncation,
}

/// What computes it.
enum Body {
    /// One vector a text.
    Embedder(Arc<Embedder>),
    /// One vector a text, from whichever of several workers.
    #[cfg(feature = "remote")]
    Pool(Arc<Pool>),
    /// The score of a pair.
    Reranker(Box<Reranker>),
    /// One score a label.
    Classifier(Box<Classifier>),
    /// One vector a token, queries and documents read by their own rules.
    MultiVector(Box<MultiVectorEmbedder>),
    /// Several of these outputs, or sparse weights alone.
    Tokens(Box<Heads>),
}

/// A model whose token rows have heads.
struct Heads {
    model: TokenModel,
    dense: bool,
    sparse: bool,
    /// One vector a token; whether the first token has none.
    vectors: Option<bool>,
}

/// What a model can be asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offers {
    /// One vector a text.
    pub dense: bool,
    /// Weights of vocabulary entries.
    pub sparse: bool,
    /// One vector a token, made for comparing by MaxSim.
    pub multi_vector: bool,
    /// The row of each token before pooling.
    pub rows: bool,
    /// A score of a pair of a query and a document.
    pub scores: bool,
    /// One score a label, of a text or a pair.
    pub labels: bool,
}

impl ServedModel {
    /// Opens the model that `config` names, for what its folder says it is for.
    ///
    /// # Errors
    /// As [`Embedder::with_config`], and where it is for nothing that can be served.
    pub fn open(config: Config) -> Result<Self> {
        let truncation = config.truncation;
        let body = Self::body(config)?;
        let tokenizer = match &body {
            Body::Embedder(embedder) => match &embedder.model {
                Model::Local(opened) => Some(&opened.tokenizer),
                #[cfg(feature = "remote")]
                Model::Remote(_) => None,
            },
            #[cfg(feature = "remote")]
            Body::Pool(_) => None,
            Body::Reranker(reranker) => Some(&reranker.logits.opened.tokenizer),
            Body::Classifier(classifier) => Some(&classifier.logits.opened.tokenizer),
            Body::MultiVector(model) => Some(&model.model.tokenizer),
            Body::Tokens(heads) => Some(&heads.model.tokenizer),
        };
        let ways = [Truncation::Right, Truncation::Left, Truncation::Error];
        let tokenizers = tokenizer.map(|tokenizer| ways.map(|way| tokenizer.with_truncation(way)));
        Ok(Self { body, tokenizers, truncation })
    }

    /// A model that is open already.
    pub fn of(embedder: Arc<Embedder>) -> Self {
        let ways = [Truncation::Right, Truncation::Left, Truncation::Error];
        let (tokenizers, truncation) = match &embedder.model {
            Model::Local(opened) => {
                let tokenizer = &opened.tokenizer;
                (Some(ways.map(|way| tokenizer.with_truncation(way))), tokenizer.options().truncation)
            }
            #[cfg(feature = "remote")]
            Model::Remote(_) => (None, Truncation::Right),
        };
        Self { body: Body::Embedder(embedder), tokenizers, truncation }
    }

    /// Several workers as one model.
    #[cfg(feature = "remote")]
    pub fn of_pool(pool: Arc<Pool>) -> Self {
        Self { body: Body::Pool(pool), tokenizers: None, truncation: Truncation::Right }
    }

    /// The workers, where it is several.
    #[cfg(feature = "remote")]
    pub fn pool(&self) -> Option<&Arc<Pool>> {
        match &self.body {
            Body::Pool(pool) => Some(pool),
            _ => None,
        }
    }

    fn body(config: Config) -> Result<Body> {
        let embedder = |config| Embedder::with_config(config).map(|embedder| Body::Embedder(Arc::new(embedder)));
        let Some(name) = config.named().filter(|_| !config.is_remote()) else { return embedder(config) };
        let folder = ModelFolder::read_with(&locate(name, &config)?, &config.onnx)?;
        let outputs = &folder.outputs;
        match folder.task {
            Task::Embedding if config.onnx_is_chosen() => embedder(config),
            Task::Embedding => match joint::spec_of_tokens(&folder) {
                Some((sparse, vectors)) => {
                    let config = Config { vector_cache: None, ..config };
                    let model =
                        TokenModel::open(&folder, config.named().unwrap_or_default(), &config, sparse, vectors)?;
                    let vectors = vectors.map(|spec| spec.skip_first);
                    let dense = folder.pooling.is_some();
                    Ok(Body::Tokens(Box::new(Heads { model, dense, sparse: sparse.is_some(), vectors })))
                }
                None => embedder(config),
            },
            Task::Classification => {
                let config = Config { vector_cache: None, ..config };
                match &outputs.classifier {
                    Some(spec) if spec.labels.len() > 1 => {
                        Ok(Body::Classifier(Box::new(Classifier::with_config(config)?)))
                    }
                    _ => Ok(Body::Reranker(Box::new(Reranker::with_config(config)?))),
                }
            }
            Task::Generation if outputs.yes_no.is_some() => {
                Ok(Body::Reranker(Box::new(Reranker::with_config(Config { vector_cache: None, ..config })?)))
            }
            Task::Generation => embedder(config),
            Task::Sparse => {
                let config = Config { vector_cache: None, ..config };
                let Some(spec) = &outputs.sparse else {
                    return Err(folder.task.instead_of("a sparse model", &folder.root));
                };
                let name = config.named().unwrap_or_default();
                let model = TokenModel::open(&folder, name, &config, Some(spec), None)?;
                Ok(Body::Tokens(Box::new(Heads { model, dense: false, sparse: true, vectors: None })))
            }
            Task::MultiVector => {
                let config = Config { vector_cache: None, ..config };
                Ok(Body::MultiVector(Box::new(MultiVectorEmbedder::with_config(config)?)))
            }
        }
    }

    /// What the model is.
    pub fn info(&self) -> &ModelInfo {
        match &self.body {
            Body::Embedder(embedder) => embedder.info(),
            #[cfg(feature = "remote")]
            Body::Pool(pool) => pool.info(),
            Body::Reranker(reranker) => reranker.info(),
            Body::Classifier(classifier) => classifier.info(),
            Body::MultiVector(model) => model.info(),
            Body::Tokens(heads) => &heads.model.info,
        }
    }

    /// What it can be asked for.
    pub fn offers(&self) -> Offers {
        match &self.body {
            Body::Embedder(embedder) => {
                let rows = embedder.local().is_ok_and(|opened| opened.encoder.has_rows());
                Offers { dense: true, rows, ..Offers::default() }
            }
            #[cfg(feature = "remote")]
            Body::Pool(_) => Offers { dense: true, ..Offers::default() },
            Body::Reranker(_) => Offers { scores: true, ..Offers::default() },
            Body::Classifier(_) => Offers { labels: true, ..Offers::default() },
            Body::MultiVector(_) => Offers { multi_vector: true, ..Offers::default() },
            Body::Tokens(heads) => Offers {
                dense: heads.dense,
                sparse: heads.sparse,
                multi_vector: heads.vectors.is_some(),
                ..Offers::default()
            },
        }
    }

    /// What it is for, in a word: `embedding`, `reranker`, `classifier`, `sparse` or `multi-vector`.
    pub fn task(&self) -> &'static str {
        match &self.body {
            Body::Embedder(_) => "embedding",
            #[cfg(feature = "remote")]
            Body::Pool(_) => "embedding",
            Body::Reranker(_) => "reranker",
            Body::Classifier(_) => "classifier",
            Body::MultiVector(_) => "multi-vector",
            Body::Tokens(heads) if heads.dense => "embedding",
            Body::Tokens(_) => "sparse",
        }
    }

    /// The labels of a classifier, in the order of its scores; empty for other models.
    pub fn labels(&self) -> &[String] {
        match &self.body {
            Body::Classifier(classifier) => classifier.labels(),
            _ => &[],
        }
    }

    /// How the model makes scores of logits; none where it gives no logits.
    pub fn scoring(&self) -> Option<Scores> {
        match &self.body {
            Body::Reranker(reranker) => Some(reranker.scoring()),
            Body::Classifier(classifier) => Some(classifier.scoring()),
            _ => None,
        }
    }

    /// The embedding model by itself, where that is what it is: for chunks of documents.
    pub fn embedder(&self) -> Option<&Arc<Embedder>> {
        match &self.body {
            Body::Embedder(embedder) => Some(embedder),
            _ => None,
        }
    }

    /// What happens to a text that is too long where its caller does not say.
    pub fn truncation(&self) -> Truncation {
        self.truncation
    }

    /// Components of a token's vector; none where tokens have none.
    pub fn token_dimensions(&self) -> Option<usize> {
        match &self.body {
            Body::MultiVector(model) => Some(model.dimensions()),
            Body::Tokens(heads) => heads.vectors.map(|_| heads.model.width()),
            _ => None,
        }
    }

    /// What batches of the model cost, for a queue before it.
    pub fn cost(&self) -> CostModel {
        crate::queue::cost(self.info())
    }

    /// The form of vectors by what a caller wants.
    fn form(&self, wanted: &Wanted) -> Result<Form> {
        let info = self.info();
        let dims = wanted.dims.unwrap_or(info.dimensions);
        if dims == 0 || dims > info.dimensions {
            let message = match dims {
                0 => "dimensions should be positive: found 0".to_owned(),
                _ => format!(
                    "dimensions should be {} or fewer, the components of the vectors of {}: found {dims}",
                    info.dimensions, info.name
                ),
            };
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        // A part of a vector of length 1 has another length.
        Ok(Form { dims, l2: wanted.normalize.unwrap_or(info.normalize || dims < info.dimensions) })
    }

    /// The tokenizer that cuts so.
    fn tokenizer(&self, truncation: Truncation) -> Result<&Tokenizer> {
        let at = match truncation {
            Truncation::Right => 0,
            Truncation::Left => 1,
            Truncation::Error => 2,
        };
        self.tokenizers.as_ref().map(|all| &all[at]).ok_or_else(|| {
            Error::new(
                ErrorKind::Unsupported,
                "this needs the tokens of the model, and a model behind a server gives vectors only",
            )
        })
    }
}

impl Heads {
    /// The vectors of the tokens of one text.
    fn kept(&self, encoded: &Encoded, rows: &[f32]) -> Vec<f32> {
        kept_rows(encoded, &mut rows.chunks_exact(self.model.width()), &[], self.vectors == Some(true))
    }
}

impl std::fmt::Debug for ServedModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServedModel").field("task", &self.task()).field("info", self.info()).finish_non_exhaustive()
    }
}
