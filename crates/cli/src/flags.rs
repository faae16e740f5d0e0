//! Flags that several commands share: which model, and how it is run.

use crate::{
    download::Download,
    failure::usage,
    vectors::{self, Where},
};
use anyhow::Result;
use clap::Args;
use embral::{
    Config, CpuInfo, Embedder, ModelInfo, OnnxChoice, PartPrecision, Pooling, Precision, Prompt, Truncation, cpu,
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
    /// Run the folder's ONNX graph, model.onnx or onnx/model.onnx, in the place of its weights; with a FILE, that graph of the
    /// folder, such as --onnx=model_quantized.onnx [default: a graph is run where there are no weights]
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "model.onnx")]
    onnx: Option<PathBuf>,
    /// The numbers in which the model is computed: f32, bf16 or int8
    #[arg(long, value_name = "KIND", default_value = "f32")]
    precision: Precision,
    /// Compute a part of a layer in other numbers, such as 5.down=bf16; may be given several times [parts: qkv, attention, out, up,
    /// down; embral inspect shows what each loses]
    #[arg(long, value_name = "LAYER.PART=KIND")]
    part_precision: Vec<PartPrecision>,
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
    /// Put a prompt of the model before every text: query, document, or another name of `embral models info` [default: as the model
    /// says]
    #[arg(long, value_name = "NAME", conflicts_with = "prompt_text")]
    prompt: Option<String>,
    /// Put this text before every text
    #[arg(long, value_name = "TEXT")]
    prompt_text: Option<String>,
}

/// A model to be opened, resolved from its flags.
#[derive(Clone, Debug)]
pub(crate) struct ModelChoice {
    /// How to open it.
    pub(crate) config: Config,
    /// What is put before the texts, where something is named.
    pub(crate) prompt: Option<Chosen>,
    vector_cache: Option<Where>,
    vector_cache_size: Option<u64>,
}

/// A prompt, as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Chosen {
    /// A prompt of the model.
    Name(String),
    /// This text.
    Text(String),
}

impl Chosen {
    /// What a pair of flags says, of which one is given at most.
    pub(crate) fn of(name: Option<&String>, text: Option<&String>) -> Option<Self> {
        name.cloned().map(Self::Name).or_else(|| text.cloned().map(Self::Text))
    }

    /// As the library takes it.
    pub(crate) fn prompt(&self) -> Prompt<'_> {
        match self {
            Self::Name(name) => Prompt::Name(name),
            Self::Text(text) => Prompt::Text(text),
        }
    }
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
            onnx: self.onnx.clone().map_or(OnnxChoice::IfAlone, OnnxChoice::File),
            precision: self.precision,
            parts: self.part_precision.clone(),
            dims: self.dims.map(NonZeroUsize::get),
            pooling: self.pooling,
            normalize: self.no_normalize.then_some(false),
            max_tokens: self.max_tokens.map(NonZeroUsize::get),
            truncation: self.truncate,
            batch_tokens: self.batch_tokens.map_or(standard.batch_tokens, NonZeroUsize::get),
            packed_cache: !self.no_packed_cache,
            ..standard
        };
        let prompt = Chosen::of(self.prompt.as_ref(), self.prompt_text.as_ref());
        let (vector_cache, vector_cache_size) = (self.vector_cache.clone(), self.vector_cache_size);
        ModelChoice { config, prompt, vector_cache, vector_cache_size }
    }
}

impl ModelChoice {
    /// What is put before the texts.
    pub(crate) fn prompt(&self) -> Prompt<'_> {
        self.prompt.as_ref().map_or(Prompt::Default, Chosen::prompt)
    }

    /// Opens the model, fetching it with a word about it where it is not on this machine, and with one about a precision that
    /// rounds, unless `quiet`.
    pub(crate) fn open(&self, quiet: bool) -> Result<Embedder> {
        if !self.config.is_remote() {
            fetch(&self.config)?;
        }
        let vector_cache = vectors::resolve(self.vector_cache.as_ref(), self.vector_cache_size)?;
        let embedder = Embedder::with_config(Config { vector_cache, ..self.config.clone() })?;
        // A prompt that is not there is found out before any text is read.
        embedder.prompt_text(self.prompt())?;
        self.say_rounding(quiet);
        for remark in embedder.info().remarks.iter().filter(|_| !quiet) {
            eprintln!("embral: {remark}");
        }
        if !quiet && let Some(warning) = untrained_cut(self.config.dims, embedder.info()) {
            eprintln!("embral: {warning}");
        }
        Ok(embedder)
    }

    /// Fetches a model that gives something else than one vector a text.
    pub(crate) fn fetch_other(&self) -> Result<()> {
        if self.vector_cache.is_some() || self.vector_cache_size.is_some() {
            return Err(usage("--vector-cache and --vector-cache-size keep vectors of texts alone: leave them out"));
        }
        fetch(&self.config).map(|_| ())
    }

    /// Says which precision rounds, unless `quiet`.
    pub(crate) fn say_rounding(&self, quiet: bool) {
        if quiet {
            return;
        }
        if self.config.precision != Precision::F32 {
            eprintln!("embral: {}", rounding(self.config.precision, &cpu()));
        }
        if !self.config.parts.is_empty() {
            let parts: Vec<String> = self.config.parts.iter().map(ToString::to_string).collect();
            eprintln!("embral: parts in other numbers: {}", parts.join(" "));
        }
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

/// Says on standard error that a model was trained with prompts and none is put before the texts, unless `quiet`. Vectors without
/// the prompt look like any others and find less.
pub(crate) fn remind(info: &ModelInfo, prompt: Prompt<'_>, quiet: bool) {
    let names = info.prompt_names();
    if prompt == Prompt::Default && info.default_prompt.is_none() && !names.is_empty() && !quiet {
        eprintln!(
            "embral: {} was trained with prompts, and none is named: pass --prompt with one of {}, or --prompt-text \"\" for none",
            info.name,
            names.join(", ")
        );
    }
}

/// The folder of the model, fetched with a word about it where it is not on this machine; none for the model inside embral.
pub(crate) fn fetch(config: &Config) -> Result<Option<PathBuf>> {
    let Some(name) = config.named() else { return Ok(None) };
    let mut download = Download::default();
    let revision = config.revision.as_deref();
    let onnx = config.onnx.clone();
    let options = ResolveOptions { offline: config.offline, revision, onnx, progress: Some(&mut download) };
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
