//! One vector a token, as ColBERT has it: what marks queries and documents, how long they may be, which tokens count.
//!
//! Four layouts say it: modules of sentence-transformers 6, `config_sentence_transformers.json` of PyLate, `artifact.metadata` of
//! Stanford's ColBERT, and the linear layer of bge-m3.

use crate::{
    Dense, Head,
    config::{self, Config, brief, limit, malformed, unsupported},
};
use embral_types::{Activation, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// ASCII punctuation: what PyLate and Stanford's ColBERT leave out of documents.
const PUNCTUATION: &str = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";
/// Tokens of an expanded query where none are stated.
const QUERY_TOKENS: usize = 32;
/// The most words of a list of words to skip.
const MOST_WORDS: usize = 100_000;

/// How token rows become vectors, and which of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MultiVectorSpec {
    /// Layers over each token row, in order.
    pub heads: Vec<Head>,
    /// Of a query.
    pub query: RoleSpec,
    /// Of a document.
    pub document: RoleSpec,
    /// What is put behind a short query.
    pub expansion: Option<Expansion>,
    /// Whether the first token of a text has no vector, as in bge-m3.
    pub skip_first: bool,
    /// How two texts are compared.
    pub similarity: MaxSim,
}

/// What is special about a query, or a document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleSpec {
    /// What stands before the text as one token, where the vocabulary has it whole, such as `[unused0]`; else it is text.
    pub marker: Option<String>,
    /// The most tokens; `None` is the limit of the model.
    pub max_tokens: Option<usize>,
    /// Tokens that have no vector.
    pub skip: Vec<String>,
}

/// Tokens behind a query, which have vectors too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expansion {
    /// The token; `None` is the mask token.
    pub token: Option<String>,
    /// Tokens of a query with those added.
    pub length: usize,
    /// Whether a longer query is cut to as many.
    pub fixed: bool,
    /// Whether the tokens of the query see those added.
    pub attend: bool,
}

/// How two texts of many vectors are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MaxSim {
    /// The sum over the vectors of the query of the largest dot product with a vector of the document.
    #[default]
    Sum,
    /// The same, divided by the number of vectors of the query.
    Mean,
}

/// What PyLate writes beside the prompts, and sentence-transformers beside its Transformer module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Knobs {
    query_length: Option<usize>,
    document_length: Option<usize>,
    expansion: Option<Option<Expansion>>,
    markers: [Option<String>; 2],
    skip: Option<Vec<String>>,
    pub(crate) pylate: bool,
    /// `model_type` says that one vector a token is meant.
    pub(crate) declared: bool,
    similarity: Option<MaxSim>,
}

const LENGTHS: std::ops::RangeInclusive<usize> = 1..=1_048_576;

impl Knobs {
    /// Reads a `sentence_bert_config.json` or, with `top`, a `config_sentence_transformers.json`, where PyLate expands queries unless it
    /// says that it does not.
    pub(crate) fn read(value: &Value, top: bool) -> Result<Self> {
        let config = Config::of(value)?;
        let marker = |key: &str| config.text(key).map(|text| text.map(str::to_owned));
        let mut knobs = Self {
            query_length: config.optional_number("query_length", LENGTHS)?,
            document_length: config.optional_number("document_length", LENGTHS)?,
            expansion: None,
            markers: [marker("query_prefix")?, marker("document_prefix")?],
            skip: config.get("skiplist_words").map(|words| list("skiplist_words", words)).transpose()?,
            pylate: config.text("model_type")? == Some("ColBERT"),
            declared: matches!(config.text("model_type")?, Some("ColBERT" | "MultiVectorEncoder")),
            similarity: match config.text("similarity_fn_name")? {
                Some("maxsim") => Some(MaxSim::Sum),
                Some("meanmaxsim") => Some(MaxSim::Mean),
                _ => None,
            },
        };
        if let Some(expansion) = config.object("query_expansion")? {
            knobs.expansion = Some(Some(Expansion::read(expansion)?));
        } else if value.get("query_expansion").is_some()
            || config.get("do_query_expansion") == Some(&Value::Bool(false))
        {
            knobs.expansion = Some(None);
        } else if top && knobs.is_pylate(config) {
            let attend = match config.get("attend_to_expansion_tokens") {
                Some(_) => config.flag_or("attend_to_expansion_tokens", false)?,
                None => config.flag_or("attend_to_mask_tokens", false)?,
            };
            let length = knobs.query_length.take().unwrap_or(QUERY_TOKENS);
            knobs.expansion = Some(Some(Expansion { token: None, length, fixed: true, attend }));
        }
        Ok(knobs)
    }

    /// Whether something stands there that PyLate alone writes.
    fn is_pylate(&self, config: Config<'_>) -> bool {
        let marks = ["do_query_expansion", "attend_to_expansion_tokens", "attend_to_mask_tokens", "skiplist_words"];
        self.query_length.is_some()
            || self.document_length.is_some()
            || self.markers.iter().any(Option::is_some)
            || marks.iter().any(|key| config.get(key).is_some())
    }

    /// These, with what they leave open taken from `other`.
    pub(crate) fn or(self, other: Self) -> Self {
        let [query, document] = self.markers;
        let [other_query, other_document] = other.markers;
        Self {
            query_length: self.query_length.or(other.query_length),
            document_length: self.document_length.or(other.document_length),
            expansion: self.expansion.or(other.expansion),
            markers: [query.or(other_query), document.or(other_document)],
            skip: self.skip.or(other.skip),
            pylate: self.pylate || other.pylate,
            declared: self.declared || other.declared,
            similarity: self.similarity.or(other.similarity),
        }
    }
}

impl Expansion {
    fn read(config: Config<'_>) -> Result<Self> {
        let fixed = match config.text("strategy")? {
            Some("fixed") => true,
            Some("min") => false,
            other => {
                return Err(unsupported(format!("query_expansion: strategy: expected fixed or min, found {other:?}")));
            }
        };
        Ok(Self {
            token: config.text("token")?.map(str::to_owned),
            length: config.number("length", LENGTHS)?,
            fixed,
            attend: config.flag_or("attend", false)?,
        })
    }
}

fn list(key: &str, value: &Value) -> Result<Vec<String>> {
    let words = match value {
        Value::Array(words) if words.len() <= MOST_WORDS => words.iter().map(Value::as_str).collect::<Option<Vec<_>>>(),
        _ => None,
    };
    let words = words.ok_or_else(|| malformed(format!("{key}: expected a list of words, found {}", brief(value))))?;
    Ok(words.into_iter().map(str::to_owned).collect())
}

impl MultiVectorSpec {
    /// A folder of modules: the layers over tokens, the `MultiVectorMask`, where there is one, and the knobs.
    pub(crate) fn of_modules(heads: Vec<Head>, mask: Option<&Value>, knobs: Knobs) -> Result<Self> {
        let mut spec = Self { heads, similarity: knobs.similarity.unwrap_or_default(), ..Self::default() };
        spec.expansion = knobs.expansion.flatten();
        spec.query.max_tokens = match &spec.expansion {
            Some(expansion) if expansion.fixed => Some(expansion.length),
            Some(expansion) => knobs.query_length.map(|n| n.max(expansion.length)),
            None => knobs.query_length,
        };
        spec.document.max_tokens = knobs.document_length;
        [spec.query.marker, spec.document.marker] = knobs.markers;
        let mut skip = knobs.skip;
        let mut tasks = vec!["document".to_owned()];
        if let Some(mask) = mask {
            let config = Config::of(mask)?;
            if config.get("keep_only_token_ids").is_some() {
                return Err(unsupported("keep_only_token_ids: tokens of images are not done by this version"));
            }
            skip = config.get("skiplist_words").map(|words| list("skiplist_words", words)).transpose()?.or(skip);
            if let Some(stated) = config.get("skiplist_tasks") {
                tasks = list("skiplist_tasks", stated)?;
            }
        } else if knobs.pylate {
            spec.heads.push(Head::Normalize);
            skip = skip.or_else(|| Some(punctuation()));
        }
        let skip = skip.unwrap_or_default();
        for (role, name) in [(&mut spec.query, "query"), (&mut spec.document, "document")] {
            if tasks.iter().any(|task| task == name) {
                role.skip.clone_from(&skip);
            }
        }
        Ok(spec)
    }
}

fn punctuation() -> Vec<String> {
    PUNCTUATION.chars().map(String::from).collect()
}

/// Stanford's ColBERT: the projection is `linear.weight` beside the encoder's tensors, the rest in `artifact.metadata`.
pub(super) fn stanford(folder: &Path) -> Result<MultiVectorSpec> {
    let weights = folder.join("model.safetensors");
    let shape = matrix(&weights, "linear.weight")?;
    let file = folder.join("artifact.metadata");
    let metadata = config::read(&file)?.unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    of_metadata(Config::of(&metadata)?, weights, shape).map_err(|e| e.in_file(file))
}

fn of_metadata(config: Config<'_>, weights: PathBuf, (outputs, inputs): (usize, usize)) -> Result<MultiVectorSpec> {
    let marker = |key: &str, default: &str| Ok(Some(format!("{} ", config.text(key)?.unwrap_or(default))));
    let dense = Dense { inputs, outputs, bias: false, activation: Activation::Identity, weights };
    let length = config.number_or("query_maxlen", QUERY_TOKENS, LENGTHS)?;
    let skip = if config.flag_or("mask_punctuation", true)? { punctuation() } else { Vec::new() };
    Ok(MultiVectorSpec {
        heads: vec![Head::Dense(dense), Head::Normalize],
        query: RoleSpec { marker: marker("query_token_id", "[unused0]")?, max_tokens: Some(length), skip: Vec::new() },
        document: RoleSpec {
            marker: marker("doc_token_id", "[unused1]")?,
            max_tokens: config.optional_number("doc_maxlen", LENGTHS)?,
            skip,
        },
        expansion: Some(Expansion {
            token: None,
            length,
            fixed: true,
            attend: config.flag_or("attend_to_mask_tokens", false)?,
        }),
        skip_first: false,
        similarity: MaxSim::Sum,
    })
}

/// The layer of bge-m3, where the folder has one.
pub(super) fn linear(folder: &Path) -> Result<Option<MultiVectorSpec>> {
    let Some(weights) = super::linear_file(folder, "colbert_linear") else { return Ok(None) };
    let (outputs, inputs) = matrix(&weights, "weight")?;
    let dense = Dense { inputs, outputs, bias: true, activation: Activation::Identity, weights };
    Ok(Some(MultiVectorSpec {
        heads: vec![Head::Dense(dense), Head::Normalize],
        skip_first: true,
        similarity: MaxSim::Mean,
        ..MultiVectorSpec::default()
    }))
}

/// The shape of a matrix in a file.
fn matrix(weights: &Path, name: &str) -> Result<(usize, usize)> {
    match embral_formats::open(weights)?.get(name)?.shape() {
        &[outputs, inputs] if limit::WIDTH.contains(&outputs) && limit::WIDTH.contains(&inputs) => {
            Ok((outputs, inputs))
        }
        other => Err(malformed(format!("expected a matrix, found shape {other:?}")).in_file(weights).in_tensor(name)),
    }
}
