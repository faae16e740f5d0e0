//! Models behind a server: OpenAI-, TEI-, Ollama- and Cohere-type HTTP interfaces.
//!
//! [`Embedder::open`](crate::Embedder::open) takes an address, `KIND+http://HOST/PATH?model=NAME`, and everything that is done with a
//! model of this machine is done with that one. docs/remote.md has the forms of addresses, and the settings that can be part of one.
//! A key is read from `EMBRAL_API_KEY` and shown nowhere. What a server gives for a text may depend on what else it computes: that
//! a text's vector is the same alone and in company is promised for models of this machine only.

mod address;
pub(crate) mod batches;
mod client;
mod clock;
mod dialect;
mod facts;
mod kind;
mod limit;
mod options;
pub(crate) mod retry;
#[cfg(test)]
mod tests;

pub(crate) use client::Failure;
pub use kind::Kind;
pub use options::Options;

use crate::{Config, ModelInfo, Profile, Prompt, prompt::Told};
use address::Address;
use client::{Client, Reply, Request, Secret};
use dialect::{Answer, Ask, Dialect};
use embral_types::{Error, ErrorKind, Pooling, Precision, Result};
use std::{
    borrow::Cow,
    collections::BTreeMap,
    env,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::sync_channel,
    },
    thread,
    time::{Duration, Instant},
};

/// The text that the width of the vectors is learnt from.
pub(crate) const PROBE: &str = "warm up";
/// Bytes of a component in JSON at most, and components of a vector: what bounds an answer.
const VECTOR_BYTES: u64 = 256 << 10;

/// A model behind a server.
pub(crate) struct Remote {
    pub(crate) info: ModelInfo,
    dialect: &'static dyn Dialect,
    client: Arc<Client>,
    address: Address,
    kind: Kind,
    url: String,
    /// As the server calls it.
    model: String,
    /// Its name by the server's own word, where the address gives none.
    pub(crate) told: Option<String>,
    /// Texts of a request.
    pub(crate) batch: usize,
    /// What the server says of the model's contents.
    #[cfg_attr(not(feature = "vector-cache"), expect(dead_code, reason = "only the keys of vectors depend on it"))]
    digest: String,
    dims: Option<usize>,
    normalize: Option<bool>,
    truncation: crate::Truncation,
    /// No server has refused base64 yet.
    base64: AtomicBool,
}

/// A server that nothing was asked of yet: its address, its key and its limits, which stay the same however often it is opened.
#[derive(Clone)]
pub(crate) struct Server {
    address: Address,
    client: Arc<Client>,
}

impl Server {
    /// The server of an address.
    pub(crate) fn new(name: &str, config: &Config) -> Result<Self> {
        let address = Address::parse(name, &config.remote)?;
        refuse(config)?;
        let key = key(&address, &|name| env::var(name).ok().filter(|value| !value.trim().is_empty()))?;
        let client = Client::new(&address.options, key, address.loopback, Arc::new(clock::Wall::default()));
        Ok(Self { address, client: Arc::new(client) })
    }

    /// Requests that may be under way at once.
    pub(crate) fn concurrency(&self) -> usize {
        self.address.options.concurrency
    }

    /// Bytes of text of a request at most.
    pub(crate) fn batch_bytes(&self) -> usize {
        self.address.options.batch_bytes
    }
}

impl Remote {
    /// Finds out what the server is. The width of its vectors is 0 until [`Remote::measure`].
    pub(crate) fn open(name: &str, config: &Config) -> Result<Self> {
        Self::of(Server::new(name, config)?, config)
    }

    /// As [`Remote::open`], of a server that may have been opened before.
    pub(crate) fn of(Server { address, client }: Server, config: &Config) -> Result<Self> {
        let kind = match address.kind {
            Some(kind) => kind,
            None => facts::kind(&client, &address.base)?,
        };
        if matches!(kind, Kind::Ollama | Kind::OpenAi) && config.truncation == crate::Truncation::Left {
            let message = format!("a server of kind {kind} cannot be told to cut long texts at their start");
            return Err(Error::new(ErrorKind::InvalidInput, message).hint("leave the truncation out"));
        }
        let bare = !address.base.split_once("://").is_some_and(|(_, rest)| rest.contains('/'));
        let facts = facts::of(kind, &client, &address, bare)?;
        let dialect = dialect::of(kind);
        let url = format!("{}{}", address.base, dialect.path(bare));
        let model = facts.model;
        let prompts: Vec<&str> = match kind {
            Kind::Cohere => vec!["query", "document", "classification", "clustering"],
            Kind::Tei => address.options.prompts.iter().map(String::as_str).collect(),
            Kind::OpenAi | Kind::Ollama if !address.options.prompts.is_empty() => {
                let message =
                    format!("{kind}-type servers know no prompts by name: expected no prompts= in the address");
                return Err(Error::new(ErrorKind::InvalidInput, message)
                    .hint("give the prompt as text: --prompt-text, or Prompt::Text"));
            }
            Kind::OpenAi | Kind::Ollama => Vec::new(),
        };
        let info = ModelInfo {
            name: match model.as_str() {
                "" => format!("{kind}+{}", address.base),
                model => format!("{kind}+{}?model={model}", address.base),
            },
            fingerprint: format!("{url} {model} {}", facts.digest),
            path: None,
            architecture: format!("remote ({kind})"),
            dimensions: 0,
            width: 0,
            max_tokens: facts.max_tokens.unwrap_or(usize::MAX),
            parameters: 0,
            layers: 0,
            hidden: 0,
            pooling: facts.pooling.unwrap_or(Pooling::Mean),
            normalize: config.normalize.unwrap_or(false),
            prompts: prompts.into_iter().map(|name| (name.to_owned(), String::new())).collect::<BTreeMap<_, _>>(),
            default_prompt: None,
            matryoshka: Vec::new(),
            precision: Precision::F32,
            weight_bytes: 0,
            device: format!("{} ({kind})", address.host),
            graph: None,
            remarks: Vec::new(),
        };
        Ok(Self {
            info,
            dialect,
            client,
            kind,
            url,
            model,
            told: facts.told,
            batch: address.options.batch_texts.unwrap_or(dialect.batch()).min(facts.batch.unwrap_or(usize::MAX)),
            digest: facts.digest,
            dims: config.dims,
            normalize: config.normalize,
            truncation: config.truncation,
            base64: AtomicBool::new(true),
            address,
        })
    }

    /// What stands for the contents of the model in the key of a vector: all that the server tells, and where it is.
    #[cfg(feature = "vector-cache")]
    pub(crate) fn identity(&self) -> [&[u8]; 4] {
        ["remote".as_bytes(), self.url.as_bytes(), self.model.as_bytes(), self.digest.as_bytes()]
    }

    /// Texts of as many requests as may be under way.
    pub(crate) fn texts_at_once(&self) -> usize {
        self.batch.saturating_mul(self.address.options.concurrency)
    }

    /// Learns the width from the vector of [`PROBE`].
    pub(crate) fn measure(&mut self, row: &[f32]) -> Result<()> {
        if let Some(dims) = self.dims.filter(|&dims| dims != row.len()) {
            let message = format!("{}: asked for {dims} components, found {}", self.url, row.len());
            return Err(Error::new(ErrorKind::Mismatch, message)
                .hint("the server or the model cannot cut vectors: leave the dimensions out"));
        }
        (self.info.dimensions, self.info.width) = (row.len(), row.len());
        self.info.hidden = row.len();
        let length = row.iter().map(|x| f64::from(x * x)).sum::<f64>().sqrt();
        self.info.normalize = self.normalize == Some(true) || (length - 1.0).abs() < 1e-3;
        Ok(())
    }

    /// Embeds texts. `keep` is given the rows of each request as they come, with their place among the texts; after an error, those
    /// that were under way. `place` says which of the caller's texts one is.
    pub(crate) fn embed(
        &self,
        texts: &[&str],
        told: Told<'_>,
        place: &(dyn Fn(usize) -> usize + Sync),
        profile: &mut Profile,
        keep: &mut dyn FnMut(Range<usize>, &[f32]),
    ) -> Result<()> {
        let start = Instant::now();
        let batches: Vec<Range<usize>> = batches::ranges(texts, self.batch, self.address.options.batch_bytes);
        let next = AtomicUsize::new(0);
        let workers = self.address.options.concurrency.min(batches.len());
        let mut failed: Option<(usize, Error)> = None;
        thread::scope(|scope| {
            let (sender, answers) = sync_channel(workers);
            for _ in 0..workers {
                let (sender, next, batches) = (sender.clone(), &next, &batches);
                scope.spawn(move || {
                    while let Some(range) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let answer =
                            self.request(&texts[range.clone()], told, &|i| place(range.start + i), Duration::MAX);
                        if answer.is_err() {
                            next.store(batches.len(), Ordering::Relaxed);
                        }
                        if sender.send((range.clone(), answer)).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(sender);
            for (range, answer) in answers {
                match answer {
                    Ok(answer) => {
                        profile.tokens += usize::try_from(answer.tokens.unwrap_or(0)).unwrap_or(0);
                        keep(range, &answer.rows.concat());
                    }
                    // Of several errors, that of the first text.
                    Err(e) if failed.as_ref().is_none_or(|(first, _)| range.start < *first) => {
                        failed = Some((range.start, e));
                    }
                    Err(_) => {}
                }
            }
        });
        profile.inference_ms += start.elapsed().as_secs_f64() * 1e3;
        failed.map_or(Ok(()), |(_, e)| Err(e))
    }

    /// Embeds texts one request after the other, all of them within a time; one row each.
    pub(crate) fn embed_within(&self, texts: &[&str], told: Told<'_>, within: Duration) -> Result<Vec<f32>> {
        let start = Instant::now();
        let mut rows = Vec::new();
        for range in batches::ranges(texts, self.batch, self.address.options.batch_bytes) {
            let left = within.saturating_sub(start.elapsed());
            let answer = self.request(&texts[range.clone()], told, &|i| range.start + i, left)?;
            rows.extend(answer.rows.into_iter().flatten());
        }
        Ok(rows)
    }

    /// What a prompt is to this server.
    ///
    /// # Errors
    /// Where it has no prompt of that name.
    pub(crate) fn prompt<'a>(&'a self, prompt: Prompt<'a>) -> Result<Told<'a>> {
        let text = self.info.prompt_name(prompt)?;
        Ok(match prompt {
            Prompt::Name(_) | Prompt::Query | Prompt::Document => {
                Told { text: "", name: Some(text).filter(|name| !name.is_empty()) }
            }
            _ => Told { text, name: None },
        })
    }

    /// One request, in halves where it is too large for the server. Each half has the time of the whole.
    fn request(
        &self,
        texts: &[&str],
        told: Told<'_>,
        place: &dyn Fn(usize) -> usize,
        within: Duration,
    ) -> Result<Answer> {
        let told_texts: Vec<Cow<'_, str>> = match told.text {
            "" => texts.iter().map(|&text| text.into()).collect(),
            prompt => texts.iter().map(|text| format!("{prompt}{text}").into()).collect(),
        };
        let base64 = self.base64.load(Ordering::Relaxed);
        let ask = Ask {
            model: &self.model,
            texts: &told_texts,
            dims: self.dims,
            normalize: self.normalize,
            truncation: self.truncation,
            prompt: told.name,
            base64,
        };
        let body = self.dialect.request(&ask).to_string();
        let bytes: usize = told_texts.iter().map(|text| text.len()).sum();
        let request = Request {
            url: &self.url,
            body: Some(body.as_bytes()),
            tokens: batches::tokens(&told_texts),
            most: (1 << 20) + texts.len() as u64 * VECTOR_BYTES + 6 * bytes as u64,
            within,
        };
        let failure = match self.client.ask(&request, |reply| self.rows(&reply, texts.len())) {
            Ok(answer) => return Ok(answer),
            Err(failure) => failure,
        };
        let status = failure.status();
        let says = |word: &str| failure.what.contains(word);
        if base64 && matches!(status, Some(400 | 422)) && (says("encoding_format") || says("base64")) {
            self.base64.store(false, Ordering::Relaxed);
            return self.request(texts, told, place, within);
        }
        let too_large = status == Some(413) || matches!(status, Some(400 | 422)) && says("batch size");
        if too_large && texts.len() > 1 {
            let half = texts.len() / 2;
            let mut first = self.request(&texts[..half], told, place, within)?;
            let rest = self.request(&texts[half..], told, &|i| place(half + i), within)?;
            first.rows.extend(rest.rows);
            first.tokens = first.tokens.zip(rest.tokens).map(|(a, b)| a + b);
            return Ok(first);
        }
        let named = match texts.len() {
            1 => format!(" (text {})", place(0)),
            n => format!(" ({n} texts, from {} to {})", place(0), place(n - 1)),
        };
        Err(failure.error(&self.url, &named))
    }

    /// The vectors of an answer to `count` texts, each of the model's width and finite.
    fn rows(&self, reply: &Reply, count: usize) -> Result<(Answer, Option<u64>), Failure> {
        let mut answer = self.dialect.answer(&reply.body).map_err(|wrong| {
            let what = format!("expected the answer of a server of kind {}: {}", self.kind, wrong.what);
            if wrong.cut { Failure::cut(what) } else { Failure::wrong(what) }
        })?;
        if answer.rows.len() != count {
            let found = answer.rows.len();
            return Err(Failure::wrong(format!("expected {count} vectors, one a text, found {found}")));
        }
        let width = match (self.info.dimensions, answer.rows.first()) {
            (0, Some(first)) => first.len(),
            (width, _) => width,
        };
        for (i, row) in answer.rows.iter_mut().enumerate() {
            if row.len() != width || row.is_empty() {
                let what = format!("expected vectors of {width} components, found {} in number {i}", row.len());
                return Err(Failure::wrong(what));
            }
            if let Some(at) = row.iter().position(|x| !x.is_finite()) {
                let what = format!("expected numbers, found {} as component {at} of vector {i}", row[at]);
                return Err(Failure::wrong(what));
            }
            if self.normalize == Some(true) {
                let length = row.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
                if length > 0.0 {
                    row.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
                }
            }
        }
        answer.tokens = answer.tokens.or(reply.tokens);
        let tokens = answer.tokens;
        Ok((answer, tokens))
    }

    /// The ids of texts, from a server that tells them.
    pub(crate) fn tokenize(&self, texts: &[&str]) -> Result<Vec<Vec<u32>>> {
        if self.kind != Kind::Tei {
            let message =
                format!("{} is computed elsewhere, and a server of this kind tells no tokens", self.info.name);
            return Err(Error::new(ErrorKind::Unsupported, message).hint("TEI-type servers do"));
        }
        #[derive(serde::Deserialize)]
        struct Token {
            id: u32,
        }
        let url = format!("{}/tokenize", self.address.base);
        let mut ids = Vec::with_capacity(texts.len());
        for range in batches::ranges(texts, self.batch, self.address.options.batch_bytes) {
            let texts = &texts[range];
            let body = serde_json::json!({ "inputs": texts, "add_special_tokens": true }).to_string();
            let bytes: usize = texts.iter().map(|text| text.len()).sum();
            // A token is some hundred bytes of JSON.
            let most = (1 << 20) + 256 * bytes as u64;
            let request = Request { url: &url, body: Some(body.as_bytes()), tokens: 0, most, within: Duration::MAX };
            let read = |reply: Reply| -> Result<_, Failure> {
                let rows: Vec<Vec<Token>> = serde_json::from_slice(&reply.body)
                    .map_err(|e| Failure::wrong(format!("expected the tokens of a TEI-type server: {e}")))?;
                if rows.len() != texts.len() {
                    let what = format!("expected the tokens of {} texts, found {}", texts.len(), rows.len());
                    return Err(Failure::wrong(what));
                }
                Ok((rows, None))
            };
            let rows = self.client.ask(&request, read).map_err(|failure| failure.error(&url, ""))?;
            ids.extend(rows.into_iter().map(|row| row.into_iter().map(|token| token.id).collect::<Vec<_>>()));
        }
        Ok(ids)
    }
}

/// The vectors of the body of an answer, as a fuzz target reads them.
#[doc(hidden)]
pub fn parse_answer(kind: Kind, body: &[u8]) -> Result<Vec<Vec<f32>>> {
    let answer = dialect::of(kind).answer(body).map_err(|wrong| Error::new(ErrorKind::Malformed, wrong.what))?;
    Ok(answer.rows)
}

/// What a configuration may not ask of a model that is computed elsewhere.
fn refuse(config: &Config) -> Result<()> {
    if config.offline {
        return Err(Error::new(
            ErrorKind::Offline,
            "a model behind an address needs the network, and offline mode is on",
        ));
    }
    let asked = match config {
        Config { precision, .. } if *precision != Precision::F32 => "precision",
        Config { parts, .. } if !parts.is_empty() => "precision",
        Config { pooling: Some(_), .. } => "pooling",
        Config { max_tokens: Some(_), .. } => "longest text",
        Config { revision: Some(_), .. } => "revision",
        _ => return Ok(()),
    };
    let message = format!("a {asked} was asked for, and that of a model behind an address is the choice of its server");
    Err(Error::new(ErrorKind::InvalidInput, message).hint("leave it out"))
}

/// The key for a server, where there is one.
fn key(address: &Address, variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<Secret>> {
    let secret = |value: String| Secret(value.trim().to_owned());
    if let Some(name) = &address.options.key_variable {
        let value = variable(name).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("the address takes its API key from {name}, which is not set"))
                .hint(format!("export {name}=…"))
        })?;
        return Ok(Some(secret(value)));
    }
    let of_host = Kind::ALL.into_iter().filter(|kind| kind.hosts().contains(&address.host.as_str()));
    let names = std::iter::once("EMBRAL_API_KEY").chain(of_host.flat_map(|kind| kind.key_variables().iter().copied()));
    Ok(names.into_iter().find_map(variable).map(secret))
}
