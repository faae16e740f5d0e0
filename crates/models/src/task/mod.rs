//! What a model folder is for, and what its weights hold besides the encoder.

mod classifier;
mod multi_vector;
mod sparse;
mod yes_no;

pub use classifier::{ClassifierSpec, HeadLayer, Scores};
pub use multi_vector::{Expansion, MaxSim, MultiVectorSpec, RoleSpec};
pub use sparse::{MlmHead, SparseSpec, TermPooling};
pub use yes_no::YesNoSpec;

pub(crate) use yes_no::parse as parse_logit_score;

pub(crate) use multi_vector::Knobs;

use crate::config::{self, Config, unsupported};
use embral_types::{Error, ErrorKind, Result};
use serde::Deserialize;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// What a model folder says it is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// One vector a text.
    #[default]
    Embedding,
    /// Scores of a text or a pair of texts, one a label: classifiers, and cross-encoders that rerank.
    Classification,
    /// The next token; a reranker compares the logits of two answers.
    Generation,
    /// Weights of vocabulary entries.
    Sparse,
    /// One vector a token.
    MultiVector,
}

impl Task {
    /// The name of the task.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedding => "embedding",
            Self::Classification => "classification",
            Self::Generation => "generation",
            Self::Sparse => "sparse",
            Self::MultiVector => "multi-vector",
        }
    }

    /// What a model of the task is called, with its article.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Embedding => "an embedding model",
            Self::Classification => "a sequence classifier",
            Self::Generation => "a model that answers with tokens",
            Self::Sparse => "a sparse (SPLADE) model",
            Self::MultiVector => "a multi-vector (ColBERT) model",
        }
    }

    /// The types and commands that a model of the task is used with.
    pub fn usage(self) -> &'static str {
        match self {
            Self::Embedding => "use Embedder, or `embral embed`",
            Self::Classification => {
                "use Reranker or `embral rerank` where it has one label, Classifier or `embral classify` where it has several"
            }
            Self::Generation => "use Reranker, or `embral rerank`",
            Self::Sparse => "use SparseEmbedder, or `embral embed --sparse`",
            Self::MultiVector => "use MultiVectorEmbedder, or `embral embed --multi-vector`",
        }
    }

    /// The error of a model of this task where `wanted` is asked for.
    pub fn instead_of(self, wanted: &str, root: &Path) -> Error {
        let message = format!("expected {wanted}, found {}", self.noun());
        Error::new(ErrorKind::InvalidInput, message).in_file(root).hint(self.usage())
    }
}

/// What can be computed from the token rows of a folder's transformer, besides one vector a text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outputs {
    /// Scores by label.
    pub classifier: Option<ClassifierSpec>,
    /// The logits of two answers.
    pub yes_no: Option<YesNoSpec>,
    /// Weights of vocabulary entries.
    pub sparse: Option<SparseSpec>,
    /// One vector a token.
    pub multi_vector: Option<MultiVectorSpec>,
}

/// The class of a `config.json`, the first of its `architectures`.
fn class<'a>(config: Config<'a>) -> &'a str {
    match config.get("architectures") {
        Some(Value::Array(classes)) => classes.first().and_then(Value::as_str).unwrap_or_default(),
        _ => "",
    }
}

/// The task of a transformer without modules behind it; `asked` is the `transformer_task` of a sentence-transformers folder.
pub(crate) fn of_config(config: &Value, asked: Option<&str>) -> Result<Task> {
    let class = class(Config::of(config)?);
    Ok(match asked {
        Some("sequence-classification") => Task::Classification,
        Some("text-generation") => Task::Generation,
        Some("fill-mask") => Task::Sparse,
        Some("feature-extraction") | None if class == "HF_ColBERT" => Task::MultiVector,
        Some("feature-extraction") => Task::Embedding,
        None if class.ends_with("ForSequenceClassification") => Task::Classification,
        None if class.ends_with("ForCausalLM") => Task::Generation,
        // A masked language model may be meant as anything: what the caller asks for decides.
        None => Task::Embedding,
        Some(other) => {
            return Err(unsupported(format!(
                "transformer_task: expected feature-extraction, sequence-classification, fill-mask or text-generation, found {other:?}"
            )));
        }
    })
}

/// What the weights hold besides the encoder: `config` is the `config.json`, `folder` where it is, `root` the model's own folder.
pub(crate) fn outputs(task: Task, config: &Value, folder: &Path, root: &Path) -> Result<Outputs> {
    let object = Config::of(config)?;
    let class = class(object);
    Ok(match task {
        Task::Classification => {
            Outputs { classifier: Some(classifier::read(class, object, root)?), ..Outputs::default() }
        }
        Task::Generation => Outputs { yes_no: Some(YesNoSpec::default()), ..Outputs::default() },
        Task::Embedding | Task::Sparse | Task::MultiVector => {
            let sparse = sparse::linear(folder).map_or_else(|| sparse::mlm(object), |linear| Ok(Some(linear)))?;
            let multi_vector = if class == "HF_ColBERT" {
                Some(multi_vector::stanford(folder)?)
            } else {
                multi_vector::linear(folder)?
            };
            Outputs { sparse, multi_vector, ..Outputs::default() }
        }
    })
}

/// A linear layer that lies beside the encoder in a file of its own: as safetensors or, where only that is there, as PyTorch saves it.
fn linear_file(folder: &Path, stem: &str) -> Option<PathBuf> {
    ["safetensors", "pt"].map(|end| folder.join(format!("{stem}.{end}"))).into_iter().find(|path| path.is_file())
}

/// A JSON file of the folder, as an object, if it is there.
fn beside(root: &Path, name: &str) -> Result<Option<Value>> {
    config::read(&root.join(name))
}
