//! Text in, vectors out.

use crate::{
    Config, ModelInfo, Profile, Prompt,
    open::{self, Opened},
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
    opened: Opened,
    batch_tokens: usize,
    pool: Arc<Pool>,
    profile: Mutex<Profile>,
}

/// A call under way.
struct Call {
    /// The ids of the texts from `done` on, as far as they are tokenised.
    ids: Vec<Encoded>,
    /// The texts whose vectors are there.
    done: usize,
    out: Vec<f32>,
    profile: Profile,
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
        if config.batch_tokens == 0 || config.threads == Some(0) {
            return Err(Error::new(ErrorKind::InvalidInput, "batch_tokens and threads are at least 1, found 0"));
        }
        let opened = match &config.model {
            None => open_default_model(&config)?,
            Some(name) if name == crate::default_model::NAME => open_default_model(&config)?,
            Some(name) => open::folder(&locate(name, &config)?, name, &config)?,
        };
        let embedder = Self {
            opened,
            batch_tokens: config.batch_tokens,
            pool: Pool::shared(config.threads),
            profile: Mutex::new(Profile::default()),
        };
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

    /// Embeds texts with a prompt before each.
    ///
    /// # Errors
    /// As [`Embedder::embed_batch`], and where the model has no prompt of that name.
    pub fn embed_batch_as(&self, texts: &[impl AsRef<str> + Sync], prompt: Prompt<'_>) -> Result<Embeddings> {
        let start = Instant::now();
        let prompt = self.prompt_text(prompt)?;
        let dim = self.dimensions();
        let mut call = Call {
            ids: Vec::new(),
            done: 0,
            out: vec![0.0; texts.len() * dim],
            profile: Profile { texts: texts.len(), ..Profile::default() },
        };
        let _busy = self.pool.busy();
        let encode = |index: usize| self.encode(texts[index].as_ref(), index, prompt);
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
                    let waited = next.run_during(&self.pool, || self.embed_ids(&mut call, false))?;
                    call.profile.tokenize_ms += milliseconds(waited);
                }
                None => self.embed_ids(&mut call, true)?,
            }
        }
        let Call { out, mut profile, .. } = call;
        profile.close(milliseconds(start.elapsed()));
        *self.profile.lock().unwrap_or_else(PoisonError::into_inner) = profile;
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
        *self.profile.lock().unwrap_or_else(PoisonError::into_inner)
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
        let encode = |index: usize| self.encode(texts[index].as_ref(), index, "");
        let window = Window::new(0..texts.len(), &encode);
        window.run(&self.pool);
        Ok(window.finish()?.0.iter().map(|e| e.ids.len()).collect())
    }

    /// The model as it is computed on this machine.
    ///
    /// # Errors
    /// Where it is not.
    #[expect(clippy::unnecessary_wraps, reason = "what needs ids and rows asks here, whatever else models may be")]
    pub(crate) fn local(&self) -> Result<&Opened> {
        Ok(&self.opened)
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

    fn warm_up(&self) -> Result<()> {
        let _busy = self.pool.busy();
        let mut batch = Batch::default();
        batch.push(&self.opened.tokenizer.encode("warm up", "")?.ids);
        self.opened.encoder.encode(&batch, 0, &mut vec![0.0; self.dimensions()])?;
        Ok(())
    }

    pub(crate) fn prompt_text<'a>(&'a self, prompt: Prompt<'a>) -> Result<&'a str> {
        let info = &self.opened.info;
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

    /// The ids of the text that is `index` in the caller's list.
    fn encode(&self, text: &str, index: usize, prompt: &str) -> Result<Encoded> {
        self.opened.tokenizer.encode(text, prompt).map_err(|e| {
            let message = format!("text {index}: {}", e.message());
            Error::new(e.kind(), message).because(e)
        })
    }

    /// Computes the vectors of the texts whose ids are there, batch by batch. Unless they are the `last`, a rest of less than
    /// half a batch is left for a batch with those that follow.
    fn embed_ids(&self, call: &mut Call, last: bool) -> Result<()> {
        let Call { ids, done: first, out, profile } = call;
        let dim = self.dimensions();
        // One prompt before every text of a call: its tokens are as many in each.
        let skip = if self.opened.include_prompt { 0 } else { ids.first().map_or(0, |e| e.prompt_tokens) };
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
            let stages = self.opened.encoder.encode(&batch, skip, rows)?;
            profile.inference_ms += milliseconds(stages.inference);
            profile.pool_ms += milliseconds(stages.pool);
            profile.normalize_ms += milliseconds(stages.finish);
            if let Some(bad) = rows.iter().position(|x| !x.is_finite()) {
                return Err(Error::new(
                    ErrorKind::Malformed,
                    format!("text {} gave a vector that is not finite", from + bad / dim),
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
        f.debug_struct("Embedder").field("info", &self.opened.info).finish_non_exhaustive()
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
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
