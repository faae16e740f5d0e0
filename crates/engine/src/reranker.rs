//! How well documents answer a query.

use crate::{
    Config, ModelInfo, Profile, Prompt, heads, open,
    pairs::{self, Logits},
    session::warm_up_text,
};
use embral_models::{ModelFolder, Network, Scores, YesNoSpec};
use embral_tokenize::{Encoded, Tokenizer, Truncation};
use embral_types::{Error, ErrorKind, Pooling, Result};

/// A model that scores documents for a query: a cross-encoder with one label, or Qwen3-Reranker, which answers yes or no.
///
/// As an [`crate::Embedder`], it gives a pair the same score, bit for bit, alone and in any company.
pub struct Reranker {
    pub(crate) logits: Logits,
    scores: Scores,
    form: Form,
}

/// A document's place in the caller's list, and its score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranked {
    /// The index of the document.
    pub index: usize,
    /// Its score; the larger, the better it answers the query.
    pub score: f32,
}

/// How query and document become one sequence, and logits one score.
enum Form {
    /// The pair as the tokenizer has it; one logit.
    Pair,
    /// A question to be answered.
    Question {
        /// What comes before instruction, query and document.
        before: Vec<u32>,
        /// What comes behind them.
        after: Vec<u32>,
        /// The most tokens of all.
        limit: usize,
    },
}

/// What Qwen3-Reranker is asked, as its makers publish it: around the instruction, query and document.
const BEFORE: &str = "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct provided. \
                      Note that the answer can only be \"yes\" or \"no\".<|im_end|>\n<|im_start|>user\n";
const AFTER: &str = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n";
/// The instruction where none is given.
const INSTRUCTION: &str = "Given a web search query, retrieve relevant passages that answer the query";

impl Reranker {
    /// Opens a reranker: a folder, an imported model, or an `org/name` of the hub.
    ///
    /// # Errors
    /// Where the model is not found, is no reranker (the error says what it is), or its files disagree with each other.
    pub fn open(name_or_path: &str) -> Result<Self> {
        Self::with_config(Config::model(name_or_path))
    }

    /// Opens the model that `config` names.
    ///
    /// # Errors
    /// As [`Reranker::open`], and where the configuration asks for what a reranker does not have.
    #[expect(clippy::needless_pass_by_value, reason = "a configuration is made for the one model it opens")]
    pub fn with_config(config: Config) -> Result<Self> {
        let (folder, name) = pairs::folder(&config, "a reranker")?;
        if config.scores == Some(Scores::Softmax) {
            let message = "softmax is over several labels, and a reranker has one";
            return Err(Error::new(ErrorKind::InvalidInput, message).hint("choose sigmoid or logits"));
        }
        let mut reranker = match (&folder.outputs.classifier, folder.outputs.yes_no) {
            (Some(spec), _) => {
                if spec.labels.len() != 1 {
                    let message = format!("expected a reranker, which has one label, found {}", labels(&spec.labels));
                    return Err(Error::new(ErrorKind::InvalidInput, message)
                        .in_file(&folder.root)
                        .hint("use Classifier, or `embral classify`"));
                }
                let logits =
                    Logits::open(&folder, &name, &config, |backend| pairs::classifier(backend, &folder, spec))?;
                Self { logits, scores: spec.reranking, form: Form::Pair }
            }
            (None, Some(spec)) => Self::yes_no(&folder, &name, &config, spec)?,
            (None, None) => return Err(folder.task.instead_of("a reranker", &folder.root)),
        };
        reranker.scores = config.scores.unwrap_or(reranker.scores);
        if config.warm_up {
            reranker.logits.warm_up(&warm_up_text(|text| reranker.encode(text, text, ""))?)?;
        }
        Ok(reranker)
    }

    fn yes_no(folder: &ModelFolder, name: &str, config: &Config, spec: YesNoSpec) -> Result<Self> {
        match &folder.network {
            Network::Transformer { architecture: "qwen3", .. } => {}
            _ => {
                let message = "expected Qwen3 as a reranker that answers yes or no, whose question is known, found another architecture";
                return Err(Error::new(ErrorKind::Unsupported, message).in_file(&folder.root));
            }
        }
        let ids = match spec {
            YesNoSpec::Tokens { yes, no } => [Some(yes), no].into_iter().flatten().collect(),
            YesNoSpec::Words => {
                let tokenizer = open::tokenizer(folder)?;
                let word = |word: &str| {
                    tokenizer.id(word).ok_or_else(|| {
                        let message = format!("expected a reranker whose vocabulary has {word:?}, found none there");
                        Error::new(ErrorKind::InvalidInput, message).in_file(&folder.root)
                    })
                };
                vec![word("yes")?, word("no")?]
            }
        };
        let logits = Logits::open(folder, name, config, |backend| {
            let weights = folder.open_weights()?;
            Ok((Pooling::Last, vec![heads::answers(backend, folder, &*weights, &ids)?]))
        })?;
        let tokenizer = &logits.opened.tokenizer;
        let (before, after) = (tokenizer.pieces(BEFORE)?, tokenizer.pieces(AFTER)?);
        let limit = logits.opened.info.max_tokens;
        if limit <= before.len() + after.len() {
            let message = format!("max_tokens is {limit}, but the question alone has {}", before.len() + after.len());
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        Ok(Self { logits, scores: Scores::Sigmoid, form: Form::Question { before, after, limit } })
    }

    /// The score of each document for `query`, in the order of the documents.
    ///
    /// # Errors
    /// Where a pair is longer than the limit and truncation is refused.
    pub fn score(&self, query: &str, documents: &[impl AsRef<str> + Sync]) -> Result<Vec<f32>> {
        self.score_as(query, documents, Prompt::Default)
    }

    /// As [`Reranker::score`] with a prompt: before the query or, for a model that is asked a question, as its instruction.
    ///
    /// # Errors
    /// As [`Reranker::score`], and where the model has no prompt of that name.
    pub fn score_as(&self, query: &str, documents: &[impl AsRef<str> + Sync], prompt: Prompt<'_>) -> Result<Vec<f32>> {
        let prompt = self.info().prompt_text(prompt)?;
        let bytes = |index: usize| query.len() + documents[index].as_ref().len();
        let encode = |index: usize| self.encode(query, documents[index].as_ref(), prompt);
        Ok(self.finish(self.logits.rows(documents.len(), &bytes, &encode)?))
    }

    /// The score of each pair of a query and a document.
    ///
    /// # Errors
    /// As [`Reranker::score`].
    pub fn score_pairs(&self, pairs: &[(impl AsRef<str> + Sync, impl AsRef<str> + Sync)]) -> Result<Vec<f32>> {
        let prompt = self.info().prompt_text(Prompt::Default)?;
        let of = |index: usize| (pairs[index].0.as_ref(), pairs[index].1.as_ref());
        let bytes = |index: usize| of(index).0.len() + of(index).1.len();
        let encode = |index: usize| self.encode(of(index).0, of(index).1, prompt);
        Ok(self.finish(self.logits.rows(pairs.len(), &bytes, &encode)?))
    }

    /// The documents in the order of their scores, best first, `top_n` of them at most; equal scores in the order given.
    ///
    /// # Errors
    /// As [`Reranker::score`].
    pub fn rerank(
        &self,
        query: &str,
        documents: &[impl AsRef<str> + Sync],
        top_n: Option<usize>,
    ) -> Result<Vec<Ranked>> {
        let scores = self.score(query, documents)?;
        let mut ranked: Vec<Ranked> =
            scores.into_iter().enumerate().map(|(index, score)| Ranked { index, score }).collect();
        ranked.sort_by(|a, b| b.score.total_cmp(&a.score));
        ranked.truncate(top_n.unwrap_or(usize::MAX));
        Ok(ranked)
    }

    /// The token ids of a pair as the model gets them.
    ///
    /// # Errors
    /// As [`Reranker::score`].
    pub fn tokenize(&self, query: &str, document: &str) -> Result<Vec<u32>> {
        Ok(self.encode(query, document, self.info().prompt_text(Prompt::Default)?)?.ids)
    }

    /// How scores are made of logits.
    pub fn scoring(&self) -> Scores {
        self.scores
    }

    /// What the model is.
    pub fn info(&self) -> &ModelInfo {
        &self.logits.opened.info
    }

    /// Where the time of the last finished call went.
    pub fn profile(&self) -> Profile {
        self.logits.profile()
    }

    fn encode(&self, query: &str, document: &str, prompt: &str) -> Result<Encoded> {
        self.encode_by(&self.logits.opened.tokenizer, query, document, prompt)
    }

    /// The ids of a pair by a tokenizer of the model's that may cut in another way.
    pub(crate) fn encode_by(
        &self,
        tokenizer: &Tokenizer,
        query: &str,
        document: &str,
        prompt: &str,
    ) -> Result<Encoded> {
        match &self.form {
            Form::Pair if prompt.is_empty() => tokenizer.encode_pair(query, document),
            Form::Pair => tokenizer.encode_pair(&[prompt, query].concat(), document),
            Form::Question { before, after, limit } => {
                let instruction = if prompt.is_empty() { INSTRUCTION } else { prompt };
                let asked = format!("<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}");
                let mut ids = tokenizer.pieces(&asked)?;
                let room = limit - before.len() - after.len();
                let truncated = ids.len() > room;
                match tokenizer.options().truncation {
                    Truncation::Right => ids.truncate(room),
                    Truncation::Left => drop(ids.drain(..ids.len().saturating_sub(room))),
                    Truncation::Error if truncated => {
                        let all = before.len() + ids.len() + after.len();
                        let message = format!("the pair has {all} tokens with its question, the limit is {limit}");
                        return Err(Error::new(ErrorKind::TooLong, message)
                            .hint("shorten it, raise max-tokens where the model allows it, or allow truncation"));
                    }
                    Truncation::Error => {}
                }
                Ok(Encoded { ids: [before, &ids[..], after].concat(), truncated, ..Encoded::default() })
            }
        }
    }

    /// The one logit of a row.
    pub(crate) fn logit(&self, row: &[f32]) -> Vec<f32> {
        match row {
            [yes, no] => vec![yes - no],
            row => row.to_vec(),
        }
    }

    /// One score a row: of the one logit, or of the difference of two.
    fn finish(&self, rows: Vec<f32>) -> Vec<f32> {
        let mut scores = match self.logits.row_width() {
            2 => rows.chunks_exact(2).map(|answers| answers[0] - answers[1]).collect(),
            _ => rows,
        };
        self.scores.apply(&mut scores);
        scores
    }
}

/// What a list of labels is called in an error.
fn labels(labels: &[String]) -> String {
    const SHOWN: usize = 4;
    let more = if labels.len() > SHOWN { ", …" } else { "" };
    format!("{} ({}{more})", labels.len(), labels[..labels.len().min(SHOWN)].join(", "))
}

impl std::fmt::Debug for Reranker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reranker").field("info", self.info()).field("scores", &self.scores).finish_non_exhaustive()
    }
}
