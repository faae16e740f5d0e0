//! Flags that several commands share: which model, and how it is run.

use crate::{
    download::Download,
    vectors::{self, Where},
};
use anyhow::Result;
use clap::Args;
use embral::{
    Config, CpuInfo, Embedder, ModelInfo, Pooling, Precision, Prompt, Truncation, cpu, default_model,
    store::{ResolveOptions, Store},
};
use std::{num::NonZeroUsize, path::PathBuf};

/// Flags of a model, as typed.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Model")]
pub(crate) struct ModelFlags {
    /// The model: a folder, a name of `embral models list`, an org/name of the Hugging Face hub, or the address of a server, such as
    /// openai+http://localhost:8000/v1?model=NAME [default: the model inside embral]
    #[arg(short, long, value_name = "MODEL")]
    model: Option<String>,
    /// Branch, tag or commit of a hub model
    #[arg(long, value_name = "REV")]
    revision: Option<String>,
    /// Never touch the network, as HF_HUB_OFFLINE=1 does
    #[arg(long)]
    offline: bool,
    /// Threads that work [default: one for each core]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// The numbers in which the model is computed: f32, bf16 or int8
    #[arg(long, value_name = "KIND", default_value = "f32")]
    precision: Precision,
    /// Keep the first N components only and normalise what is kept (Matryoshka)
    #[arg(long, value_name = "N")]
    dims: Option<NonZeroUsize>,
    /// How token vectors become one: mean, cls, max or last [default: as the model says]
    #[arg(long, value_name = "KIND")]
    pooling: Option<Pooling>,
    /// Leave the vectors at the length they have
    #[arg(long)]
    no_normalize: bool,
    /// The longest text in tokens [default: the model's limit]
    #[arg(long, value_name = "N")]
    max_tokens: Option<NonZeroUsize>,
    /// What to do with a longer text: cut its end (right), cut its start (left), or fail (error)
    #[arg(long, value_name = "SIDE", default_value = "right")]
    truncate: Truncation,
    /// Tokens computed together [default: what suits most CPUs]
    #[arg(long, value_name = "N")]
    batch_tokens: Option<NonZeroUsize>,
    /// Neither use nor keep packed weights in the cache folder, as EMBRAL_PACKED_CACHE=0 does
    #[arg(long)]
    no_packed_cache: bool,
    /// Keep vectors, and take those of texts embedded before: on (in the user's cache folder), memory, off, or a folder [default: what
    /// EMBRAL_VECTOR_CACHE says, else off]
    #[arg(long, value_name = "WHERE")]
    vector_cache: Option<Where>,
    /// The most bytes of the vectors that are kept, such as 500MB or 4GiB [default: 1GiB]
    #[arg(long, value_name = "SIZE", value_parser = vectors::bytes)]
    vector_cache_size: Option<u64>,
    /// Put before every text: a prompt of the model by name, else this text [default: as the model says]
    #[arg(long, value_name = "NAME|TEXT")]
    prompt: Option<String>,
}

/// A model to be opened, resolved from its flags.
#[derive(Clone, Debug)]
pub(crate) struct ModelChoice {
    /// How to open it.
    pub(crate) config: Config,
    /// The prompt's name or text.
    pub(crate) prompt: Option<String>,
    vector_cache: Option<Where>,
    vector_cache_size: Option<u64>,
}

impl ModelFlags {
    /// What the flags ask for.
    pub(crate) fn resolve(&self) -> ModelChoice {
        let standard = Config::default();
        let config = Config {
            model: self.model.clone(),
            revision: self.revision.clone(),
            offline: self.offline,
            threads: self.threads.map(NonZeroUsize::get),
            precision: self.precision,
            dims: self.dims.map(NonZeroUsize::get),
            pooling: self.pooling,
            normalize: self.no_normalize.then_some(false),
            max_tokens: self.max_tokens.map(NonZeroUsize::get),
            truncation: self.truncate,
            batch_tokens: self.batch_tokens.map_or(standard.batch_tokens, NonZeroUsize::get),
            packed_cache: !self.no_packed_cache,
            ..standard
        };
        let (vector_cache, vector_cache_size) = (self.vector_cache.clone(), self.vector_cache_size);
        ModelChoice { config, prompt: self.prompt.clone(), vector_cache, vector_cache_size }
    }
}

impl ModelChoice {
    /// Opens the model, fetching it with a word about it where it is not on this machine, and with one about a precision that
    /// rounds, unless `quiet`.
    pub(crate) fn open(&self, quiet: bool) -> Result<Embedder> {
        if !self.config.is_remote() {
            fetch(&self.config)?;
        }
        let vector_cache = vectors::resolve(self.vector_cache.as_ref(), self.vector_cache_size)?;
        let embedder = Embedder::with_config(Config { vector_cache, ..self.config.clone() })?;
        if !quiet && self.config.precision != Precision::F32 {
            eprintln!("embral: {}", rounding(self.config.precision, &cpu()));
        }
        if !quiet && let Some(warning) = untrained_cut(self.config.dims, embedder.info()) {
            eprintln!("embral: {warning}");
        }
        Ok(embedder)
    }
}

/// What is said where a model is cut to a width that it was not trained to be cut to.
fn untrained_cut(dims: Option<usize>, info: &ModelInfo) -> Option<String> {
    let dims = dims.filter(|dims| !info.matryoshka.contains(dims) && *dims < info.width)?;
    match info.matryoshka.last() {
        None => Some(format!("{} was not trained to be cut (Matryoshka): {dims} components may lose much", info.name)),
        Some(&least) if dims < least => Some(format!(
            "{} was trained to be cut to {:?}: {dims} components may lose much",
            info.name, info.matryoshka
        )),
        // Between two widths that it was trained for.
        Some(_) => None,
    }
}

/// What a precision other than f32 runs on.
fn rounding(precision: Precision, cpu: &CpuInfo) -> String {
    let dots = match precision {
        Precision::F32 => None,
        Precision::Bf16 => cpu.bf16.as_deref(),
        Precision::Int8 => cpu.int8.as_deref(),
    };
    let by = dots.map_or_else(|| format!("{}, which has no instruction for it", cpu.isa), str::to_owned);
    let gain = if cpu.slow.contains(&precision) { ": no faster than f32 here" } else { "" };
    format!("computing in {precision} ({by}){gain}")
}

/// The prompt that a user means: one of the model by that name, else the text itself.
pub(crate) fn prompt<'a>(given: Option<&'a str>, embedder: &Embedder) -> Prompt<'a> {
    match given {
        None => Prompt::Default,
        Some(name) if embedder.info().prompts.contains_key(name) => Prompt::Name(name),
        Some(text) => Prompt::Text(text),
    }
}

/// The folder of the model, fetched with a word about it where it is not on this machine; none for the model inside embral.
pub(crate) fn fetch(config: &Config) -> Result<Option<PathBuf>> {
    let Some(name) = config.model.as_deref().filter(|name| *name != default_model::NAME) else { return Ok(None) };
    let mut download = Download::default();
    let revision = config.revision.as_deref();
    let options = ResolveOptions { offline: config.offline, revision, progress: Some(&mut download) };
    Ok(Some(Store::open_default()?.resolve(name, options)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_precision_names_its_instruction_and_says_where_it_gains_nothing() {
        let mut cpu = CpuInfo { isa: "avx2".to_owned(), int8: Some("avx-vnni".to_owned()), bf16: None, ..cpu() };
        cpu.slow = vec![Precision::Bf16];
        assert_eq!(rounding(Precision::Int8, &cpu), "computing in int8 (avx-vnni)");
        let slow = "computing in bf16 (avx2, which has no instruction for it): no faster than f32 here";
        assert_eq!(rounding(Precision::Bf16, &cpu), slow);
    }
}
