//! Labels of texts.

use crate::{
    Config, ModelInfo, Profile,
    pairs::{self, Logits},
    session::warm_up_text,
};
use embral_models::Scores;
use embral_types::{Embeddings, Result};

/// A model that says which of its labels a text has.
///
/// As an [`crate::Embedder`], it gives a text the same scores, bit for bit, alone and in any company.
pub struct Classifier {
    pub(crate) logits: Logits,
    labels: Vec<String>,
    scores: Scores,
}

/// A label and its score.
#[derive(Clone, Debug, PartialEq)]
pub struct Label {
    /// The name.
    pub label: String,
    /// Its score; the larger, the more it fits.
    pub score: f32,
}

impl Classifier {
    /// Opens a sequence classifier: a folder, an imported model, or an `org/name` of the hub.
    ///
    /// # Errors
    /// Where the model is not found, is no classifier (the error says what it is), or its files disagree with each other.
    pub fn open(name_or_path: &str) -> Result<Self> {
        Self::with_config(Config::model(name_or_path))
    }

    /// Opens the model that `config` names.
    ///
    /// # Errors
    /// As [`Classifier::open`], and where the configuration asks for what a classifier does not have.
    #[expect(clippy::needless_pass_by_value, reason = "a configuration is made for the one model it opens")]
    pub fn with_config(config: Config) -> Result<Self> {
        let (folder, name) = pairs::folder(&config, "a classifier")?;
        let Some(spec) = &folder.outputs.classifier else {
            return Err(folder.task.instead_of("a sequence classifier", &folder.root));
        };
        let logits = Logits::open(&folder, &name, &config, |backend| pairs::classifier(backend, &folder, spec))?;
        let classifier =
            Self { logits, labels: spec.labels.clone(), scores: config.scores.unwrap_or(spec.classification) };
        if config.warm_up {
            let tokenizer = &classifier.logits.opened.tokenizer;
            classifier.logits.warm_up(&warm_up_text(|text| tokenizer.encode(text, ""))?)?;
        }
        Ok(classifier)
    }

    /// The labels of a text with their scores, best first.
    ///
    /// # Errors
    /// Where the text is longer than the limit and truncation is refused.
    pub fn classify(&self, text: &str) -> Result<Vec<Label>> {
        let scores = self.scores(&[text])?;
        Ok(self.ranked(scores.row(0)))
    }

    /// The score of every label for every text, `[texts, labels]`, the labels in the order of [`Classifier::labels`].
    ///
    /// # Errors
    /// As [`Classifier::classify`]; the error names the text by its index.
    pub fn scores(&self, texts: &[impl AsRef<str> + Sync]) -> Result<Embeddings> {
        let bytes = |index: usize| texts[index].as_ref().len();
        let encode = |index: usize| self.logits.opened.tokenizer.encode(texts[index].as_ref(), "");
        Ok(self.finish(self.logits.rows(texts.len(), &bytes, &encode)?))
    }

    /// The score of every label for every pair of texts, as of a premise and a hypothesis.
    ///
    /// # Errors
    /// As [`Classifier::scores`].
    pub fn scores_of_pairs(&self, pairs: &[(impl AsRef<str> + Sync, impl AsRef<str> + Sync)]) -> Result<Embeddings> {
        let of = |index: usize| (pairs[index].0.as_ref(), pairs[index].1.as_ref());
        let bytes = |index: usize| of(index).0.len() + of(index).1.len();
        let encode = |index: usize| self.logits.opened.tokenizer.encode_pair(of(index).0, of(index).1);
        Ok(self.finish(self.logits.rows(pairs.len(), &bytes, &encode)?))
    }

    /// The labels with the scores of one row, best first; equal scores in the order of the labels.
    ///
    /// # Panics
    /// Where the row has not one score a label.
    pub fn ranked(&self, row: &[f32]) -> Vec<Label> {
        assert_eq!(row.len(), self.labels.len(), "a row has one score a label");
        let mut ranked: Vec<Label> =
            self.labels.iter().zip(row).map(|(label, &score)| Label { label: label.clone(), score }).collect();
        ranked.sort_by(|a, b| b.score.total_cmp(&a.score));
        ranked
    }

    /// The names of the labels.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// How scores are made of logits.
    pub fn scoring(&self) -> Scores {
        self.scores
    }

    /// What the model is; its dimensions are the labels.
    pub fn info(&self) -> &ModelInfo {
        &self.logits.opened.info
    }

    /// Where the time of the last finished call went.
    pub fn profile(&self) -> Profile {
        self.logits.profile()
    }

    fn finish(&self, mut rows: Vec<f32>) -> Embeddings {
        rows.chunks_exact_mut(self.labels.len()).for_each(|row| self.scores.apply(row));
        Embeddings::new(rows, self.labels.len())
    }
}

impl std::fmt::Debug for Classifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Classifier").field("info", self.info()).field("labels", &self.labels).finish_non_exhaustive()
    }
}
