//! Text in, vectors out.

#[cfg(feature = "vector-cache")]
use crate::cache::Cache;
use crate::{
    Config, ModelInfo, Profile, Prompt,
    open::{self, Model, Opened},
    prompt::Told,
    store::{ResolveOptions, Store},
    windows::{self, Window},
};
use embral_kernels::Pool;
use embral_tokenize::Encoded;
use embral_types::{Batch, Embeddings, Error, ErrorKind, Result};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// A model that turns text into vectors.
///
/// The vector of a text is the same, bit for bit, alone, in any batch, in any order and at any thread count. An embedder is
/// shared between threads by reference; calls at the same time are correct, and share the cores.
pub struct Embedder {
    pub(crate) model: Model,
    #[cfg(feature = "vector-cache")]
    cache: Option<Cache>,
    batch_tokens: usize,
    pool: Arc<Pool>,
    profile: Mutex<Profile>,
}

/// Which of the caller's texts the text of an index is: those whose vectors are kept are left out of a call.
pub(crate) type Place<'a> = &'a (dyn Fn(usize) -> usize + Sync);

/// A call under way.
struct Call<'a> {
    /// The ids of the texts from `done` on, as far as they are tokenised.
    ids: Vec<Encoded>,
    /// The texts whose vectors are there.
    done: usize,
    out: &'a mut [f32],
    profile: &'a mut Profile,
    place: Place<'a>,
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
        if config.batch_tokens == 0 || config.threads == Some(0) {
            return Err(Error::new(ErrorKind::InvalidInput, "batch_tokens and threads are at least 1, found 0"));
        }
        let model = match &config.model {
            None => open_default_model(&config)?,
            Some(name) if name == crate::default_model::NAME => open_default_model(&config)?,
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
            batch_tokens: config.batch_tokens,
            pool: Pool::shared(config.threads),
            profile: Mutex::new(Profile::default()),
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
        profile.close(milliseconds(start.elapsed()));
        *self.profile.lock().unwrap_or_else(PoisonError::into_inner) = profile;
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
        let mut call = Call { ids: Vec::new(), done: 0, out, profile, place };
        let _busy = self.pool.busy();
        let encode = |index: usize| encode(opened, texts[index].as_ref(), place(index), prompt);
        let mut windows = windows::ranges(texts, self.batch_tokens).map(|range| Window::new(range, &encode));
        let mut next = windows.next();
        if let Some(first) = &next {
            let start = Instant::now();
            first.run(&self.pool);
            call.profile.tokenize_ms += milliseconds(start.elapsed());
        }
        while let Some(window) = next {
            let (mut ids, work) = window.finish()?;
            call.profile.tokenize_work_ms += milliseconds(work);
            call.profile.truncated += ids.iter().filter(|e| e.truncated).count();
            call.ids.append(&mut ids);
            next = windows.next();
            match &next {
                Some(next) => {
                    let waited = next.run_during(&self.pool, || self.embed_ids(opened, &mut call, false))?;
                    call.profile.tokenize_ms += milliseconds(waited);
                }
                None => self.embed_ids(opened, &mut call, true)?,
            }
        }
        Ok(())
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
        *self.profile.lock().unwrap_or_else(PoisonError::into_inner)
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
                let encode = |index: usize| encode(opened, texts[index].as_ref(), index, "");
                let window = Window::new(0..texts.len(), &encode);
                window.run(&self.pool);
                Ok(window.finish()?.0.iter().map(|e| e.ids.len()).collect())
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
        let _busy = self.pool.busy();
        work()
    }

    /// Tokens computed together.
    pub(crate) fn batch_tokens(&self) -> usize {
        self.batch_tokens
    }

    /// Warms a model of this machine up, where that is wanted, and learns the width of another.
    fn ready(mut self, warm_up: bool) -> Result<Self> {
        match &mut self.model {
            Model::Local(opened) if warm_up => {
                let _busy = self.pool.busy();
                let mut batch = Batch::default();
                batch.push(&opened.tokenizer.encode("warm up", "")?.ids);
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

    fn told<'a>(&'a self, prompt: Prompt<'a>) -> Result<Told<'a>> {
        let text = self.prompt_text(prompt)?;
        match (&self.model, prompt) {
            #[cfg(feature = "remote")]
            (Model::Remote(_), Prompt::Name(name)) => Ok(Told { text: "", name: Some(name) }),
            _ => Ok(Told { text, name: None }),
        }
    }

    pub(crate) fn prompt_text<'a>(&'a self, prompt: Prompt<'a>) -> Result<&'a str> {
        let info = self.info();
        let text = match prompt {
            Prompt::None => "",
            Prompt::Text(text) => text,
            Prompt::Default => {
                info.default_prompt.as_ref().and_then(|name| info.prompts.get(name)).map_or("", String::as_str)
            }
            Prompt::Name(name) => info.prompts.get(name).ok_or_else(|| {
                let known: Vec<&str> = info.prompts.keys().map(String::as_str).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                Error::new(ErrorKind::NotFound, format!("{} has no prompt {name:?}; it has: {known}", info.name))
                    .hint("give the prompt as text")
            })?,
        };
        Ok(text)
    }

    /// Computes the vectors of the texts whose ids are there, batch by batch. Unless they are the `last`, a rest of less than
    /// half a batch is left for a batch with those that follow.
    fn embed_ids(&self, opened: &Opened, call: &mut Call<'_>, last: bool) -> Result<()> {
        let Call { ids, done: first, out, profile, place } = call;
        let dim = self.dimensions();
        // One prompt before every text of a call: its tokens are as many in each.
        let skip = if opened.include_prompt { 0 } else { ids.first().map_or(0, |e| e.prompt_tokens) };
        let mut batch = Batch::default();
        let mut done = 0;
        while done < ids.len() {
            let start = Instant::now();
            batch.clear();
            for e in &ids[done..] {
                if !batch.is_empty() && batch.tokens() + e.ids.len() > self.batch_tokens {
                    break;
                }
                batch.push(&e.ids);
            }
            profile.pack_ms += milliseconds(start.elapsed());
            let rest = done + batch.len() == ids.len() && batch.tokens() < self.batch_tokens / 2;
            // The first batch is computed in any case: there would be nothing to do while the next texts are tokenised.
            if rest && !last && done > 0 {
                break;
            }
            profile.tokens += batch.tokens();
            let from = *first + done;
            let rows = &mut out[from * dim..(from + batch.len()) * dim];
            let stages = opened.encoder.encode(&batch, skip, rows)?;
            profile.inference_ms += milliseconds(stages.inference);
            profile.pool_ms += milliseconds(stages.pool);
            profile.normalize_ms += milliseconds(stages.finish);
            if let Some(bad) = rows.iter().position(|x| !x.is_finite()) {
                return Err(Error::new(
                    ErrorKind::Malformed,
                    format!("text {} gave a vector that is not finite", place(from + bad / dim)),
                )
                .hint("the model's weights overflow f32; check the file with `embral models info`"));
            }
            done += batch.len();
        }
        ids.drain(..done);
        *first += done;
        Ok(())
    }
}

impl std::fmt::Debug for Embedder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedder").field("info", self.info()).finish_non_exhaustive()
    }
}

/// The ids of the text that is `index` in the caller's list.
fn encode(opened: &Opened, text: &str, index: usize, prompt: &str) -> Result<Encoded> {
    opened.tokenizer.encode(text, prompt).map_err(|e| {
        let message = format!("text {index}: {}", e.message());
        Error::new(e.kind(), message).because(e)
    })
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
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
    let options = ResolveOptions { offline: config.offline, revision: config.revision.as_deref(), progress: None };
    Store::open_default()?.resolve(name, options)
}
