//! Text in, vectors out.

#[cfg(feature = "vector-cache")]
use crate::cache::Cache;
use crate::{
    Config, ModelInfo, Profile, Prompt,
    encoder::Form,
    open::{self, Model, Opened},
    prompt::Told,
    session::{Place, Session, Texts, warm_up_text},
    store::{ResolveOptions, Store},
};
use embral_types::{Batch, Embeddings, Error, ErrorKind, Result};
use std::time::Instant;

/// A model that turns text into vectors.
///
/// The vector of a text is the same, bit for bit, alone, in any batch, in any order and at any thread count. An embedder is
/// shared between threads by reference; calls at the same time are correct, and share the cores.
pub struct Embedder {
    pub(crate) model: Model,
    #[cfg(feature = "vector-cache")]
    pub(crate) cache: Option<Cache>,
    pub(crate) session: Session,
}

impl Embedder {
    /// Opens the default model, which is inside the library: no download, no set-up.
    ///
    /// # Errors
    /// Where the library was built without the feature `default-model`.
    pub fn open_default() -> Result<Self> {
        Self::with_config(Config::default())
    }

    /// Opens a model: a folder, a name of the catalogue, an imported model, an `org/name` of the hub, which is downloaded into the
    /// shared Hugging Face cache where it is not there yet, or the address of a server, such as `openai+http://localhost:8000/v1?model=NAME`
    /// (docs/remote.md).
    ///
    /// # Errors
    /// Where the model is not found, its files disagree with each other, or the server does not answer; the error names the place, and
    /// what was expected and found.
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
        let model = match config.named() {
            None => open_default_model(&config)?,
            Some(name) if config.is_remote() => open_remote(name, &config)?,
            Some(name) => Model::Local(Box::new(open::folder(&locate(name, &config)?, name, &config)?)),
        };
        #[cfg(not(feature = "vector-cache"))]
        if config.vector_cache.is_some() {
            return Err(Error::new(ErrorKind::Unsupported, "vectors are to be kept, and this build keeps none")
                .hint("build with the feature vector-cache"));
        }
        let embedder = Self {
            #[cfg(feature = "vector-cache")]
            cache: Cache::of(&model, &config)?,
            model,
            session: Session::new(config.threads, config.batch_tokens),
        };
        embedder.ready(config.warm_up)
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
        let start = Instant::now();
        let told = self.told(prompt)?;
        let mut profile = Profile { texts: texts.len(), ..Profile::default() };
        let mut out = vec![0.0; texts.len() * self.dimensions()];
        #[cfg(feature = "vector-cache")]
        match &self.cache {
            Some(cache) => self.embed_with(cache, texts, told, &mut out, &mut profile)?,
            None => self.compute(texts, told, &|i| i, &mut out, &mut profile)?,
        }
        #[cfg(not(feature = "vector-cache"))]
        self.compute(texts, told, &|i| i, &mut out, &mut profile)?;
        self.session.keep(profile, start);
        Ok(Embeddings::new(out, self.dimensions()))
    }

    /// One vector a text into `out`, by whatever the model is.
    pub(crate) fn compute(
        &self,
        texts: &[impl AsRef<str> + Sync],
        told: Told<'_>,
        place: Place<'_>,
        out: &mut [f32],
        profile: &mut Profile,
    ) -> Result<()> {
        match &self.model {
            Model::Local(opened) => self.embed_locally(opened, texts, told.text, place, out, profile),
            #[cfg(feature = "remote")]
            Model::Remote(remote) => {
                let dim = self.dimensions();
                let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
                remote.embed(&texts, told, place, profile, &mut |range, rows| {
                    out[range.start * dim..range.end * dim].copy_from_slice(rows);
                })
            }
        }
    }

    /// Texts to vectors by ids, the ids of the next texts while the vectors of the ones before are computed.
    fn embed_locally(
        &self,
        opened: &Opened,
        texts: &[impl AsRef<str> + Sync],
        prompt: &str,
        place: Place<'_>,
        out: &mut [f32],
        profile: &mut Profile,
    ) -> Result<()> {
        let dim = self.dimensions();
        let bytes = |index: usize| texts[index].as_ref().len();
        let encode = |index: usize| opened.tokenizer.encode(texts[index].as_ref(), prompt);
        let all = Texts { count: texts.len(), bytes: &bytes, encode: &encode };
        self.session.run_into(&all, place, profile, &mut |work| {
            // One prompt before every text of a call: its tokens are as many in each.
            let skip = if opened.include_prompt { 0 } else { work.encoded.first().map_or(0, |e| e.prompt_tokens) };
            let rows = &mut out[work.first * dim..(work.first + work.batch.len()) * dim];
            let stages = opened.encoder.encode(work.batch, skip, rows)?;
            finite(rows, dim, |row| place(work.first + row)).map(|()| stages)
        })
    }

    /// Components of a vector.
    pub fn dimensions(&self) -> usize {
        self.info().dimensions
    }

    /// The longest text in tokens, special tokens included.
    pub fn max_tokens(&self) -> usize {
        self.info().max_tokens
    }

    /// How many texts a call has at least where nothing is to stand idle: one for a model of this machine, a whole round of requests for
    /// one behind a server.
    pub fn texts_at_once(&self) -> usize {
        match &self.model {
            Model::Local(_) => 1,
            #[cfg(feature = "remote")]
            Model::Remote(remote) => remote.texts_at_once(),
        }
    }

    /// What the model is.
    pub fn info(&self) -> &ModelInfo {
        self.model.info()
    }

    /// Where the time of the last finished call went.
    pub fn profile(&self) -> Profile {
        self.session.profile()
    }

    /// The token ids of a text as the model gets them: special tokens in, cut at the limit.
    ///
    /// # Errors
    /// Where the text is longer than the limit and truncation is refused, and where the model is behind a server that does not tell: only
    /// TEI-type servers do.
    pub fn tokenize(&self, text: &str) -> Result<Vec<u32>> {
        match &self.model {
            Model::Local(opened) => Ok(opened.tokenizer.encode(text, "")?.ids),
            #[cfg(feature = "remote")]
            Model::Remote(remote) => Ok(remote.tokenize(&[text])?.concat()),
        }
    }

    /// The number of tokens that each text costs.
    ///
    /// # Errors
    /// As [`Embedder::tokenize`].
    pub fn count_tokens(&self, texts: &[impl AsRef<str> + Sync]) -> Result<Vec<usize>> {
        match &self.model {
            Model::Local(opened) => {
                let bytes = |index: usize| texts[index].as_ref().len();
                let encode = |index: usize| opened.tokenizer.encode(texts[index].as_ref(), "");
                let all = Texts { count: texts.len(), bytes: &bytes, encode: &encode };
                Ok(self.session.encode_all(&all)?.iter().map(|e| e.ids.len()).collect())
            }
            #[cfg(feature = "remote")]
            Model::Remote(remote) => {
                let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
                Ok(remote.tokenize(&texts)?.iter().map(Vec::len).collect())
            }
        }
    }

    /// The model as it is computed on this machine.
    ///
    /// # Errors
    /// Where it is not.
    pub(crate) fn local(&self) -> Result<&Opened> {
        match &self.model {
            Model::Local(opened) => Ok(opened),
            #[cfg(feature = "remote")]
            Model::Remote(_) => Err(Error::new(
                ErrorKind::Unsupported,
                "this needs the tokens of the model, and a model behind a server gives vectors only",
            )
            .hint("open the model itself, by its name or folder")),
        }
    }

    /// Runs `work` as a call of its own, in line with others of the pool.
    pub(crate) fn in_pool<T>(&self, work: impl FnOnce() -> T) -> T {
        let _busy = self.session.pool.busy();
        work()
    }

    /// The form of the vectors.
    pub(crate) fn form(&self) -> Form {
        Form { dims: self.info().dimensions, l2: self.info().normalize }
    }

    /// Tokens computed together.
    pub(crate) fn batch_tokens(&self) -> usize {
        self.session.batch_tokens()
    }

    /// Warms a model of this machine up, where that is wanted, and learns the width of another.
    fn ready(mut self, warm_up: bool) -> Result<Self> {
        match &mut self.model {
            Model::Local(opened) if warm_up => {
                let _busy = self.session.pool.busy();
                let mut batch = Batch::default();
                batch.push(&warm_up_text(|text| opened.tokenizer.encode(text, ""))?.ids);
                opened.encoder.encode(&batch, 0, &mut vec![0.0; opened.info.dimensions])?;
            }
            Model::Local(_) => {}
            #[cfg(feature = "remote")]
            Model::Remote(remote) => {
                use crate::remote::PROBE;
                #[cfg(feature = "vector-cache")]
                if let Some(cache) = &self.cache
                    && let [Some(row)] = &cache.get(&[cache.key(Told::default(), PROBE)])[..]
                {
                    remote.measure(row)?;
                    return Ok(self);
                }
                let mut row = Vec::new();
                let mut profile = Profile::default();
                remote.embed(&[PROBE], Told::default(), &|i| i, &mut profile, &mut |_, found| row = found.to_vec())?;
                remote.measure(&row)?;
                #[cfg(feature = "vector-cache")]
                if let Some(cache) = &self.cache {
                    cache.put(&[cache.key(Told::default(), PROBE)], &row, row.len());
                }
            }
        }
        Ok(self)
    }

    pub(crate) fn told<'a>(&'a self, prompt: Prompt<'a>) -> Result<Told<'a>> {
        match &self.model {
            Model::Local(_) => Ok(Told { text: self.prompt_text(prompt)?, name: None }),
            #[cfg(feature = "remote")]
            Model::Remote(remote) => remote.prompt(prompt),
        }
    }

    /// The text that a prompt is; of a prompt that a server puts before texts itself, its name.
    ///
    /// # Errors
    /// Where the model has no prompt of that name; the error lists those it has.
    pub fn prompt_text<'a>(&'a self, prompt: Prompt<'a>) -> Result<&'a str> {
        match &self.model {
            Model::Local(opened) => opened.info.prompt_text(prompt),
            #[cfg(feature = "remote")]
            Model::Remote(remote) => remote.info.prompt_name(prompt),
        }
    }
}

/// Refuses rows that hold a value that is not finite; `text` is the text of a row.
pub(crate) fn finite(rows: &[f32], width: usize, text: impl Fn(usize) -> usize) -> Result<()> {
    match rows.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(bad) => {
            let message = format!("text {} gave a vector that is not finite", text(bad / width));
            Err(Error::new(ErrorKind::Malformed, message)
                .hint("the model's weights overflow f32; check the file with `embral models info`"))
        }
    }
}

impl std::fmt::Debug for Embedder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedder").field("info", self.info()).finish_non_exhaustive()
    }
}

#[cfg(feature = "default-model")]
fn open_default_model(config: &Config) -> Result<Model> {
    Ok(Model::Local(Box::new(open::default_model(config)?)))
}

#[cfg(not(feature = "default-model"))]
fn open_default_model(_: &Config) -> Result<Model> {
    Err(Error::new(ErrorKind::NotFound, "no model was named, and this build carries no default model")
        .hint("name a model, or build with the feature default-model"))
}

#[cfg(feature = "remote")]
fn open_remote(name: &str, config: &Config) -> Result<Model> {
    Ok(Model::Remote(Box::new(crate::remote::Remote::open(name, config)?)))
}

#[cfg(not(feature = "remote"))]
fn open_remote(name: &str, _: &Config) -> Result<Model> {
    Err(Error::new(ErrorKind::Unsupported, format!("{name} is the address of a server, and this build speaks to none"))
        .hint("build with the feature remote"))
}

/// The folder of a model, wherever it comes from.
pub(crate) fn locate(name: &str, config: &Config) -> Result<std::path::PathBuf> {
    let revision = config.revision.as_deref();
    let options = ResolveOptions { offline: config.offline, revision, onnx: config.onnx.clone(), progress: None };
    Store::open_default()?.resolve(name, options)
}
