//! Text in, vectors out.

use crate::{
    Config, ModelInfo, Profile, Prompt,
    open::{self, Opened},
    session::{Session, Texts},
    store::{ResolveOptions, Store},
};
use embral_types::{Batch, Embeddings, Error, ErrorKind, Result};

/// A model that turns text into vectors.
///
/// The vector of a text is the same, bit for bit, alone, in any batch, in any order and at any thread count. An embedder is
/// shared between threads by reference; calls at the same time are correct, and share the cores.
pub struct Embedder {
    opened: Opened,
    session: Session,
}

impl Embedder {
    /// Opens the default model, which is inside the library: no download, no set-up.
    ///
    /// # Errors
    /// Where the library was built without the feature `default-model`.
    pub fn open_default() -> Result<Self> {
        Self::with_config(Config::default())
    }

    /// Opens a model: a folder, a name of the catalogue, an imported model, or an `org/name` of the hub, which is downloaded
    /// into the shared Hugging Face cache where it is not there yet.
    ///
    /// # Errors
    /// Where the model is not found, or its files disagree with each other; the error names file, tensor, expected and found.
    pub fn open(name_or_path: &str) -> Result<Self> {
        Self::with_config(Config::model(name_or_path))
    }

    /// Opens the model that `config` names.
    ///
    /// # Errors
    /// As [`Embedder::open`], and where the configuration asks for what the model does not have.
    #[expect(clippy::needless_pass_by_value, reason = "a configuration is made for the one embedder it opens")]
    pub fn with_config(config: Config) -> Result<Self> {
        config.check()?;
        let opened = match &config.model {
            None => open_default_model(&config)?,
            Some(name) if name == crate::default_model::NAME => open_default_model(&config)?,
            Some(name) => open::folder(&locate(name, &config)?, name, &config)?,
        };
        let embedder = Self { opened, session: Session::new(config.threads, config.batch_tokens) };
        if config.warm_up {
            embedder.warm_up()?;
        }
        Ok(embedder)
    }

    /// Embeds one text.
    ///
    /// # Errors
    /// Where the text is longer than the limit and truncation is refused.
    pub fn embed(&self, text: &str) -> Result<Vec<f32>> {
        Ok(self.embed_batch(&[text])?.into_vec())
    }

    /// Embeds texts, one row each, in their order.
    ///
    /// # Errors
    /// As [`Embedder::embed`]; the error names the text by its index.
    pub fn embed_batch(&self, texts: &[impl AsRef<str> + Sync]) -> Result<Embeddings> {
        self.embed_batch_as(texts, Prompt::Default)
    }

    /// Embeds queries, one row each: with the prompt that the model puts before a query, where it has one.
    ///
    /// # Errors
    /// As [`Embedder::embed`].
    pub fn embed_query(&self, queries: &[impl AsRef<str> + Sync]) -> Result<Embeddings> {
        self.embed_batch_as(queries, Prompt::Query)
    }

    /// Embeds documents, one row each: with the prompt that the model puts before a document, where it has one.
    ///
    /// # Errors
    /// As [`Embedder::embed`].
    pub fn embed_document(&self, documents: &[impl AsRef<str> + Sync]) -> Result<Embeddings> {
        self.embed_batch_as(documents, Prompt::Document)
    }

    /// Embeds texts with a prompt before each.
    ///
    /// # Errors
    /// As [`Embedder::embed_batch`], and where the model has no prompt of that name.
    pub fn embed_batch_as(&self, texts: &[impl AsRef<str> + Sync], prompt: Prompt<'_>) -> Result<Embeddings> {
        let prompt = self.opened.info.prompt_text(prompt)?;
        let dim = self.dimensions();
        let mut out = vec![0.0; texts.len() * dim];
        let bytes = |index: usize| texts[index].as_ref().len();
        let encode = |index: usize| self.opened.tokenizer.encode(texts[index].as_ref(), prompt);
        let all = Texts { count: texts.len(), bytes: &bytes, encode: &encode };
        self.session.run(&all, &mut |work| {
            // One prompt before every text of a call: its tokens are as many in each.
            let skip = if self.opened.include_prompt { 0 } else { work.encoded.first().map_or(0, |e| e.prompt_tokens) };
            let rows = &mut out[work.first * dim..(work.first + work.batch.len()) * dim];
            let stages = self.opened.encoder.encode(work.batch, skip, rows)?;
            finite(rows, dim, work.first).map(|()| stages)
        })?;
        Ok(Embeddings::new(out, dim))
    }

    /// Components of a vector.
    pub fn dimensions(&self) -> usize {
        self.opened.info.dimensions
    }

    /// The longest text in tokens, special tokens included.
    pub fn max_tokens(&self) -> usize {
        self.opened.info.max_tokens
    }

    /// What the model is.
    pub fn info(&self) -> &ModelInfo {
        &self.opened.info
    }

    /// Where the time of the last finished call went.
    pub fn profile(&self) -> Profile {
        self.session.profile()
    }

    /// The token ids of a text as the model gets them: special tokens in, cut at the limit.
    ///
    /// # Errors
    /// Where the text is longer than the limit and truncation is refused.
    pub fn tokenize(&self, text: &str) -> Result<Vec<u32>> {
        Ok(self.opened.tokenizer.encode(text, "")?.ids)
    }

    /// The number of tokens that each text costs.
    ///
    /// # Errors
    /// As [`Embedder::tokenize`].
    pub fn count_tokens(&self, texts: &[impl AsRef<str> + Sync]) -> Result<Vec<usize>> {
        let bytes = |index: usize| texts[index].as_ref().len();
        let encode = |index: usize| self.opened.tokenizer.encode(texts[index].as_ref(), "");
        let all = Texts { count: texts.len(), bytes: &bytes, encode: &encode };
        Ok(self.session.encode_all(&all)?.iter().map(|e| e.ids.len()).collect())
    }

    fn warm_up(&self) -> Result<()> {
        let _busy = self.session.pool.busy();
        let mut batch = Batch::default();
        batch.push(&self.opened.tokenizer.encode("warm up", "")?.ids);
        self.opened.encoder.encode(&batch, 0, &mut vec![0.0; self.dimensions()])?;
        Ok(())
    }
}

/// Refuses rows that hold a value that is not finite; `first` is the text of the first row.
pub(crate) fn finite(rows: &[f32], width: usize, first: usize) -> Result<()> {
    match rows.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(bad) => {
            let message = format!("text {} gave a vector that is not finite", first + bad / width);
            Err(Error::new(ErrorKind::Malformed, message)
                .hint("the model's weights overflow f32; check the file with `embral models info`"))
        }
    }
}

impl std::fmt::Debug for Embedder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedder").field("info", &self.opened.info).finish_non_exhaustive()
    }
}

#[cfg(feature = "default-model")]
fn open_default_model(config: &Config) -> Result<Opened> {
    open::default_model(config)
}

#[cfg(not(feature = "default-model"))]
fn open_default_model(_: &Config) -> Result<Opened> {
    Err(Error::new(ErrorKind::NotFound, "no model was named, and this build carries no default model")
        .hint("name a model, or build with the feature default-model"))
}

/// The folder of a model, wherever it comes from.
pub(crate) fn locate(name: &str, config: &Config) -> Result<std::path::PathBuf> {
    let options = ResolveOptions { offline: config.offline, revision: config.revision.as_deref(), progress: None };
    Store::open_default()?.resolve(name, options)
}
