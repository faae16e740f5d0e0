//! Sparse embeddings: texts as weights of vocabulary entries.

use crate::{
    Config, ModelInfo, Profile, Prompt, pairs,
    session::Texts,
    token_model::{TokenModel, Wanted},
};
use embral_models::TermPooling;
use embral_types::{Error, ErrorKind, Result};

/// The entries of the vocabulary that a text has, by id, and how much of each; every weight is above 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SparseEmbedding {
    /// Ids of the vocabulary, smallest first, each once.
    pub ids: Vec<u32>,
    /// The weight of each.
    pub weights: Vec<f32>,
}

impl SparseEmbedding {
    /// The sum over the ids that both have of the product of their weights: how similar two texts are.
    pub fn dot(&self, other: &Self) -> f32 {
        let (mut a, mut b, mut sum) = (0, 0, 0.0);
        while let (Some(&first), Some(&second)) = (self.ids.get(a), other.ids.get(b)) {
            if first == second {
                sum += self.weights[a] * other.weights[b];
            }
            a += usize::from(first <= second);
            b += usize::from(second <= first);
        }
        sum
    }

    /// The number of ids.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether no entry has a weight.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

/// A model that turns text into sparse vectors: SPLADE, or the token weights of bge-m3.
///
/// As an [`crate::Embedder`], it gives a text the same weights, bit for bit, alone and in any company.
pub struct SparseEmbedder {
    model: TokenModel,
}

impl SparseEmbedder {
    /// Opens a sparse model: a folder, an imported model, or an `org/name` of the hub.
    ///
    /// # Errors
    /// Where the model is not found, is no sparse model (the error says what it is), or its files disagree with each other.
    pub fn open(name_or_path: &str) -> Result<Self> {
        Self::with_config(Config::model(name_or_path))
    }

    /// Opens the model that `config` names.
    ///
    /// # Errors
    /// As [`SparseEmbedder::open`], and where the configuration asks for what the model does not have.
    #[expect(clippy::needless_pass_by_value, reason = "a configuration is made for the one model it opens")]
    pub fn with_config(config: Config) -> Result<Self> {
        pairs::refuse_vectors(&config, "weights of vocabulary entries")?;
        let (folder, name) = pairs::folder(&config, "a sparse model")?;
        let Some(spec) = &folder.outputs.sparse else {
            return Err(folder.task.instead_of("a sparse model", &folder.root));
        };
        Ok(Self { model: TokenModel::open(&folder, &name, &config, Some(spec), None)? })
    }

    /// Embeds one text.
    ///
    /// # Errors
    /// Where the text is longer than the limit and truncation is refused.
    pub fn embed(&self, text: &str) -> Result<SparseEmbedding> {
        Ok(self.embed_batch(&[text])?.swap_remove(0))
    }

    /// Embeds texts, in their order.
    ///
    /// # Errors
    /// As [`SparseEmbedder::embed`]; the error names the text by its index.
    pub fn embed_batch(&self, texts: &[impl AsRef<str> + Sync]) -> Result<Vec<SparseEmbedding>> {
        self.embed_batch_as(texts, Prompt::Default)
    }

    /// Embeds queries: with the prompt that the model puts before a query, where it has one.
    ///
    /// # Errors
    /// As [`SparseEmbedder::embed_batch`].
    pub fn embed_query(&self, queries: &[impl AsRef<str> + Sync]) -> Result<Vec<SparseEmbedding>> {
        self.embed_batch_as(queries, Prompt::Query)
    }

    /// Embeds documents: with the prompt that the model puts before a document, where it has one.
    ///
    /// # Errors
    /// As [`SparseEmbedder::embed_batch`].
    pub fn embed_document(&self, documents: &[impl AsRef<str> + Sync]) -> Result<Vec<SparseEmbedding>> {
        self.embed_batch_as(documents, Prompt::Document)
    }

    /// Embeds texts with a prompt before each.
    ///
    /// # Errors
    /// As [`SparseEmbedder::embed_batch`], and where the model has no prompt of that name.
    pub fn embed_batch_as(&self, texts: &[impl AsRef<str> + Sync], prompt: Prompt<'_>) -> Result<Vec<SparseEmbedding>> {
        let prompt = self.info().prompt_text(prompt)?;
        let bytes = |index: usize| texts[index].as_ref().len();
        let encode = |index: usize| self.model.tokenizer.encode(texts[index].as_ref(), prompt);
        let mut all = Vec::with_capacity(texts.len());
        let wanted = Wanted { sparse: true, ..Wanted::default() };
        self.model.run(
            &Texts { count: texts.len(), bytes: &bytes, encode: &encode },
            wanted,
            &mut |_, mut found| {
                all.append(&mut found.sparse);
                Ok(())
            },
        )?;
        Ok(all)
    }

    /// The entry of the vocabulary with this id, as it is written there.
    pub fn token(&self, id: u32) -> Option<String> {
        self.model.tokenizer.token(id)
    }

    /// What the model is; its dimensions are those of the rows under the sparse head.
    pub fn info(&self) -> &ModelInfo {
        &self.model.info
    }

    /// Where the time of the last finished call went.
    pub fn profile(&self) -> Profile {
        self.model.profile()
    }
}

impl std::fmt::Debug for SparseEmbedder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SparseEmbedder").field("info", self.info()).finish_non_exhaustive()
    }
}

/// Logits of vocabulary entries, pooled over the tokens of each text: the largest, or the sum, of `log(1 + max(logit, 0))`.
pub(crate) struct PooledTerms {
    pooling: TermPooling,
    twice: bool,
    /// Of the text under way: the largest logits, or the sums.
    current: Vec<f32>,
    /// Its index; none before the first token.
    text: Option<usize>,
    done: Vec<SparseEmbedding>,
    finite: bool,
}

impl PooledTerms {
    pub(crate) fn new(texts: usize, vocab: usize, pooling: TermPooling, twice: bool) -> Self {
        let done = vec![SparseEmbedding::default(); texts];
        Self { pooling, twice, current: vec![0.0; vocab], text: None, done, finite: true }
    }

    /// Takes the logits of the next token of a text; texts come one after the other.
    pub(crate) fn add(&mut self, text: usize, logits: &[f32]) {
        if self.text != Some(text) {
            self.flush();
            self.text = Some(text);
        }
        self.finite &= logits.iter().all(|x| x.is_finite());
        match self.pooling {
            // The logarithm grows with its argument, so that it can wait for the largest.
            TermPooling::Max => {
                self.current.iter_mut().zip(logits).for_each(|(largest, &x)| *largest = largest.max(x));
            }
            TermPooling::Sum => {
                let twice = self.twice;
                let weight = |x: f32| if x > 0.0 { saturated(x, twice) } else { 0.0 };
                self.current.iter_mut().zip(logits).for_each(|(sum, &x)| *sum += weight(x));
            }
        }
    }

    /// One embedding a text.
    ///
    /// # Errors
    /// Where a logit is not finite.
    pub(crate) fn finish(mut self) -> Result<Vec<SparseEmbedding>> {
        self.flush();
        if self.finite {
            return Ok(self.done);
        }
        Err(Error::new(ErrorKind::Malformed, "a text gave weights that are not finite")
            .hint("the model's weights overflow f32; check the file with `embral models info`"))
    }

    fn flush(&mut self) {
        let Some(text) = self.text.take() else { return };
        let embedding = &mut self.done[text];
        for (id, value) in (0..).zip(&mut self.current) {
            let value = std::mem::take(value);
            let weight = match self.pooling {
                TermPooling::Max if value > 0.0 => saturated(value, self.twice),
                TermPooling::Max => 0.0,
                TermPooling::Sum => value,
            };
            if weight > 0.0 {
                embedding.ids.push(id);
                embedding.weights.push(weight);
            }
        }
    }
}

/// `log(1 + x)`, or `log(1 + log(1 + x))`.
fn saturated(x: f32, twice: bool) -> f32 {
    if twice { x.ln_1p().ln_1p() } else { x.ln_1p() }
}

/// The largest weight of each id of a text, those of 0 and of the ids `without` left out.
pub(crate) fn largest_weights(ids: &[u32], weights: &[f32], without: &[u32]) -> SparseEmbedding {
    let mut all: Vec<(u32, f32)> =
        ids.iter().copied().zip(weights.iter().copied()).filter(|(id, w)| *w > 0.0 && !without.contains(id)).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)));
    all.dedup_by_key(|(id, _)| *id);
    let (ids, weights) = all.into_iter().unzip();
    SparseEmbedding { ids, weights }
}

#[cfg(test)]
mod tests {
    use super::*;
    use embral_testkit::oracle;

    fn is_sparse(embedding: &SparseEmbedding) {
        assert!(embedding.ids.is_sorted_by(|a, b| a < b), "{embedding:?}");
        assert!(embedding.weights.iter().all(|w| *w > 0.0 && w.is_finite()), "{embedding:?}");
        assert_eq!(embedding.ids.len(), embedding.weights.len());
    }

    /// A text of 0 tokens among others, and logits of both signs.
    #[test]
    fn logits_are_pooled_as_by_definition() {
        const VOCAB: usize = 53;
        const LENGTHS: [usize; 4] = [3, 0, 1, 40];
        let logits = oracle::numbers(3, 44 * VOCAB);
        for (pooling, twice) in
            [(TermPooling::Max, false), (TermPooling::Max, true), (TermPooling::Sum, false), (TermPooling::Sum, true)]
        {
            let mut pooled = PooledTerms::new(LENGTHS.len(), VOCAB, pooling, twice);
            let mut rows = logits.chunks_exact(VOCAB);
            let mut wanted = vec![[0f64; VOCAB]; LENGTHS.len()];
            for (text, &length) in LENGTHS.iter().enumerate() {
                for row in rows.by_ref().take(length) {
                    pooled.add(text, row);
                    for (pooled, &x) in wanted[text].iter_mut().zip(row) {
                        let weight = f64::from(x).max(0.0).ln_1p();
                        let weight = if twice { weight.ln_1p() } else { weight };
                        *pooled = if pooling == TermPooling::Max { pooled.max(weight) } else { *pooled + weight };
                    }
                }
            }
            for (found, wanted) in pooled.finish().unwrap().iter().zip(&wanted) {
                is_sparse(found);
                assert_eq!(found.len(), wanted.iter().filter(|w| **w > 0.0).count());
                for (&id, &weight) in found.ids.iter().zip(&found.weights) {
                    assert!((f64::from(weight) - wanted[id as usize]).abs() < 2e-6, "{pooling:?} {id}");
                }
            }
        }
        let mut broken = PooledTerms::new(1, 2, TermPooling::Max, false);
        broken.add(0, &[f32::NAN, 1.0]);
        assert!(broken.finish().unwrap_err().to_string().contains("not finite"));
    }

    #[test]
    fn an_id_has_the_largest_of_its_weights_and_special_ones_none() {
        let found = largest_weights(&[9, 5, 2, 5, 7, 9, 5], &[1.0, 0.5, 3.0, 0.75, 0.0, -1.0, 0.25], &[2, 3]);
        assert_eq!(found, SparseEmbedding { ids: vec![5, 9], weights: vec![0.75, 1.0] });
        is_sparse(&found);
        assert!(largest_weights(&[], &[], &[]).is_empty());
    }

    #[test]
    fn the_product_is_over_the_ids_that_both_have() {
        let of = |pairs: &[(u32, f32)]| {
            let (ids, weights) = pairs.iter().copied().unzip();
            SparseEmbedding { ids, weights }
        };
        let (a, b) = (of(&[(1, 2.0), (4, 3.0), (9, 1.0)]), of(&[(0, 5.0), (4, 0.5), (9, 2.0), (11, 7.0)]));
        assert_eq!((a.dot(&b), b.dot(&a), a.dot(&SparseEmbedding::default())), (3.5, 3.5, 0.0));
    }
}
