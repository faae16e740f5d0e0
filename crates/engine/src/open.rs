//! From a model's files to something that computes.

use crate::{
    Config, ModelInfo,
    encoder::{Body, Encoder, Form, Native},
    packed::{PackedCache, sampled},
};
use embral_backend::{Backend, Dense};
use embral_cpu::{Cpu, PackedWeights};
use embral_formats::Weights;
use embral_forward::{Head, Precisions, StaticTable, Transformer};
use embral_models::{ModelFolder, Network, StaticSpec, Task, TokenizerFiles, catalogue};
use embral_tokenize::{BertOptions, Options, Tokenizer};
use embral_types::{Error, ErrorKind, Pooling, Precision, Result, Tensor};
use std::path::Path;

/// Tokens of a text that count in the default model, as model2vec has it.
#[cfg(feature = "default-model")]
const DEFAULT_MODEL_TOKENS: usize = 512;

/// A whole model, by what goes in.
pub(crate) enum Model {
    /// Ids: a tokenizer, and an [`Encoder`] behind it.
    Local(Box<Opened>),
    /// Texts: a server, which has the tokenizer.
    #[cfg(feature = "remote")]
    Remote(Box<crate::remote::Remote>),
}

impl Model {
    /// What it is.
    pub(crate) fn info(&self) -> &ModelInfo {
        match self {
            Self::Local(opened) => &opened.info,
            #[cfg(feature = "remote")]
            Self::Remote(remote) => &remote.info,
        }
    }
}

/// A model that is ready to run.
pub(crate) struct Opened<E: ?Sized = dyn Encoder> {
    pub(crate) tokenizer: Tokenizer,
    pub(crate) encoder: Box<E>,
    pub(crate) info: ModelInfo,
    /// Prompt tokens take part in pooling.
    pub(crate) include_prompt: bool,
    /// Rows of the token-type table; 0 where the model is told no token types.
    pub(crate) token_types: usize,
}

impl<E: Encoder + 'static> Opened<E> {
    pub(crate) fn erased(self) -> Opened {
        let Self { tokenizer, encoder, info, include_prompt, token_types } = self;
        Opened { tokenizer, encoder, info, include_prompt, token_types }
    }
}

/// What makes a vector of the token rows of a text.
pub(crate) enum Top {
    /// The pooling and the modules of an embedding model.
    Vector,
    /// As [`Top::Vector`], for a model that may not have any: its token rows are wanted.
    Rows,
    /// This pooling and the layers over its row: a head of another task.
    Head(Pooling, Vec<Head<Cpu>>),
}

/// Opens a model folder. `name` is what the caller called it.
pub(crate) fn folder(path: &Path, name: &str, config: &Config) -> Result<Opened> {
    let packed = PackedCache::of(config);
    Ok(native(path, name, config, &config.precisions(), packed.as_ref())?.erased())
}

/// As [`folder`], with a precision for each site, packed weights out of `packed` where all sites have that of `config`, and the
/// model itself.
pub(crate) fn native(
    path: &Path,
    name: &str,
    config: &Config,
    precisions: &Precisions,
    packed: Option<&PackedCache>,
) -> Result<Opened<Native<Cpu>>> {
    if config.scores.is_some() {
        let message = "scores is about rerankers and classifiers, and this model gives vectors";
        return Err(Error::new(ErrorKind::InvalidInput, message).hint("leave it out"));
    }
    let folder = ModelFolder::read_with(path, &config.onnx)?;
    let pooled = folder.pooling.or(config.pooling).or(catalogue::find(name).and_then(|e| e.pooling)).is_some();
    match folder.task {
        Task::Embedding => {}
        // The same files embed where somebody says how they are pooled.
        Task::Generation if pooled => {}
        other => return Err(other.instead_of("an embedding model", path)),
    }
    with_top(&folder, name, config, precisions, packed, |_| Ok(Top::Vector))
}

/// Opens the transformer of a folder with what `top` makes to stand on it.
pub(crate) fn with_top(
    folder: &ModelFolder,
    name: &str,
    config: &Config,
    precisions: &Precisions,
    packed: Option<&PackedCache>,
    top: impl FnOnce(&Cpu) -> Result<Top>,
) -> Result<Opened<Native<Cpu>>> {
    let path = &*folder.root;
    let entry = catalogue::find(name);
    let mut backend = Cpu::new(config.threads);
    let mut info = described(folder, name, config, backend.describe());
    if let Network::Graph(spec) = &folder.network {
        if !matches!(top(&backend)?, Top::Vector) {
            // Which a graph does not have.
            folder.open_weights()?;
        }
        return graph(folder, spec, info, backend, config);
    }
    let tokenizer = tokenizer(folder)?;
    let weights = folder.open_weights()?;
    info.fingerprint = fingerprint(&*weights);
    count(&*weights, &mut info)?;
    let top = top(&backend)?;
    let mut token_types = 0;
    let (body, options) = match &folder.network {
        Network::Transformer { architecture, blueprint, names } => {
            let stated = config.pooling.or(folder.pooling).or(entry.and_then(|e| e.pooling));
            let pooling = match &top {
                Top::Head(pooling, _) => *pooling,
                Top::Rows => stated.unwrap_or(Pooling::Cls),
                Top::Vector => stated.ok_or_else(|| no_pooling(path))?,
            };
            crate::precision::check(&config.parts, blueprint.layers)?;
            token_types = if folder.segments { blueprint.embedding.token_types } else { 0 };
            let limit = blueprint.max_positions;
            let stated = folder.max_tokens.map_or(limit, |n| n.min(limit));
            let max_tokens = within(config.max_tokens.unwrap_or(stated), limit).map_err(|e| e.in_file(path))?;
            info.architecture = (*architecture).to_owned();
            (info.layers, info.hidden) = (blueprint.layers, blueprint.hidden);
            (info.max_tokens, info.pooling) = (max_tokens, pooling);
            let packed = packed.and_then(|packed| Some((packed, packed.file(&*weights, config.precision)?)));
            if let Some((_, file)) = &packed {
                backend = backend.with_packed(PackedWeights::open(file.clone(), config.precision));
            }
            let model = Box::new(Transformer::load(&backend, blueprint, names, &*weights, precisions)?);
            if let Some((packed, file)) = packed {
                packed.keep(&mut backend, &file);
            }
            let options = token_options(folder, Some(max_tokens), config);
            (Body::Transformer { model, pooling }, options)
        }
        Network::Graph(_) => unreachable!("a graph is opened above"),
        Network::Static(spec) => {
            if let Some(other) = config.pooling.filter(|&p| p != Pooling::Mean) {
                return Err(only_mean(other).in_file(path));
            }
            only_stored(config)?;
            let options = static_options(spec.drop_unknown(), folder.max_tokens, &tokenizer, config);
            info.architecture = "static".to_owned();
            info.hidden = spec.width;
            info.max_tokens = options.max_tokens.unwrap_or(usize::MAX);
            (Body::Static(static_table(&backend, spec, &*weights)?), options)
        }
    };
    let heads = match top {
        Top::Head(_, heads) => heads,
        Top::Vector | Top::Rows => load_heads(&backend, &folder.heads)?,
    };
    drop(weights);
    let before_cut = norm_before_cut(&backend, &heads, (info.hidden, path, name))?;
    let tokenizer = tokenizer.with(options)?;
    let native = Native { backend, body, heads, before_cut, form: UNSETTLED };
    let opened = finish(native, tokenizer, info, folder.include_prompt, config)?;
    Ok(Opened { token_types, ..opened })
}

/// What is known of a model before its weights are looked at.
fn described(folder: &ModelFolder, name: &str, config: &Config, device: String) -> ModelInfo {
    let entry = catalogue::find(name);
    let mut prompts = folder.prompts.clone();
    // sentence-transformers writes `query` and `document`, both empty, into models without prompts.
    if prompts.values().all(String::is_empty)
        && let Some(entry) = entry
    {
        prompts.extend(entry.prompts.clone());
    }
    ModelInfo {
        name: name.to_owned(),
        fingerprint: String::new(),
        path: Some(folder.root.clone()),
        architecture: String::new(),
        dimensions: 0,
        width: 0,
        max_tokens: 0,
        parameters: 0,
        layers: 0,
        hidden: 0,
        pooling: Pooling::Mean,
        normalize: folder.normalizes(),
        prompts,
        default_prompt: folder.default_prompt.clone(),
        matryoshka: entry
            .filter(|_| folder.matryoshka.is_empty())
            .map_or_else(|| folder.matryoshka.clone(), |e| e.matryoshka.clone()),
        precision: config.precision,
        weight_bytes: 0,
        device,
        graph: None,
        remarks: Vec::new(),
    }
}

#[cfg(feature = "onnx")]
use crate::onnx::open as graph;

#[cfg(not(feature = "onnx"))]
fn graph(
    _: &ModelFolder,
    spec: &embral_models::GraphSpec,
    _: ModelInfo,
    _: Cpu,
    _: &Config,
) -> Result<Opened<Native<Cpu>>> {
    let message = "the model is an ONNX graph, and this build runs none";
    Err(Error::new(ErrorKind::Unsupported, message).in_file(&spec.file).hint("build with the feature onnx"))
}

/// How the tokenizer of a transformer is set.
pub(crate) fn token_options(folder: &ModelFolder, max_tokens: Option<usize>, config: &Config) -> Options {
    Options { max_tokens, truncation: config.truncation, lower_case: folder.do_lower_case, ..Options::default() }
}

/// `max_tokens`, which a model of `limit` positions has to have room for.
pub(crate) fn within(max_tokens: usize, limit: usize) -> Result<usize> {
    if max_tokens > limit {
        let message = format!("--max-tokens {max_tokens} is beyond the model's {limit} positions");
        return Err(Error::new(ErrorKind::InvalidInput, message)
            .hint(format!("give {limit} or fewer, or cut longer texts into chunks")));
    }
    Ok(max_tokens)
}

pub(crate) fn no_pooling(path: &Path) -> Error {
    Error::new(ErrorKind::Mismatch, "the folder does not say how token rows are pooled")
        .in_file(path)
        .hint("state it: --pooling mean|cls|max|last, or Config::pooling")
}

/// What [`finish`] puts in the place of.
pub(crate) const UNSETTLED: Form = Form { dims: 0, l2: false };

/// The layer norm before a cut, of a model that was trained with it: over rows of `hidden` components and the heads behind them.
pub(crate) fn norm_before_cut(
    backend: &Cpu,
    heads: &[Head<Cpu>],
    (hidden, path, name): (usize, &Path, &str),
) -> Result<Option<Head<Cpu>>> {
    let width = heads.iter().fold(hidden, |width, head| head.width(width));
    // A folder is known by the name of the model where nothing else names it.
    let known = catalogue::find(name).or_else(|| catalogue::find(path.file_name()?.to_str()?));
    if !known.is_some_and(|entry| entry.norm_before_cut) {
        return Ok(None);
    }
    let ones = Tensor::from_f32(vec![width], &vec![1.0; width]);
    Head::layer_norm(backend, &ones, None, embral_models::LAYER_NORM_EPS).map(Some)
}

/// The tokenizer of a folder, with no limit yet.
pub(crate) fn tokenizer(folder: &ModelFolder) -> Result<Tokenizer> {
    match &folder.tokenizer {
        TokenizerFiles::Json(file) => Tokenizer::from_file(file),
        TokenizerFiles::Inside(json) => Tokenizer::from_bytes(json),
        &TokenizerFiles::Vocab { ref vocab, lower_case, strip_accents, split_ideographs } => {
            let strip_accents = Some(strip_accents);
            Tokenizer::from_vocab(vocab, &BertOptions { lower_case, strip_accents, split_ideographs })
        }
        TokenizerFiles::Pairs { vocab, merges, prefix_space } => Tokenizer::from_pairs(vocab, merges, *prefix_space),
    }
}

/// Opens the model inside the library.
#[cfg(feature = "default-model")]
pub(crate) fn default_model(config: &Config) -> Result<Opened> {
    use crate::default_model::{FILES, MATRYOSHKA, NAME};
    if let Some(other) = config.pooling.filter(|&p| p != Pooling::Mean) {
        return Err(only_mean(other));
    }
    only_stored(config)?;
    let weights = embral_formats::safetensors::SafetensorsFile::from_bytes("the default model", FILES.weights)?;
    let backend = Cpu::new(config.threads);
    let table = StaticTable::load(&backend, &weights.get("embeddings")?, Some(&weights.get("weights")?), None)?;
    let tokenizer = Tokenizer::from_bytes(FILES.tokenizer)?;
    let options = static_options(true, Some(DEFAULT_MODEL_TOKENS), &tokenizer, config);
    let mut info = ModelInfo {
        name: NAME.to_owned(),
        fingerprint: fingerprint(&weights),
        path: None,
        architecture: "static".to_owned(),
        dimensions: 0,
        width: 0,
        max_tokens: options.max_tokens.unwrap_or(usize::MAX),
        parameters: 0,
        layers: 0,
        hidden: table.width(),
        pooling: Pooling::Mean,
        normalize: true,
        prompts: std::collections::BTreeMap::new(),
        default_prompt: None,
        matryoshka: MATRYOSHKA.to_vec(),
        precision: config.precision,
        weight_bytes: 0,
        device: backend.describe(),
        graph: None,
        remarks: Vec::new(),
    };
    count(&weights, &mut info)?;
    let tokenizer = tokenizer.with(options)?;
    let body = Body::Static(table);
    let native = Native { backend, body, heads: Vec::new(), before_cut: None, form: UNSETTLED };
    Ok(finish(native, tokenizer, info, true, config)?.erased())
}

/// Settles width and normalisation, which depend on the model and the configuration together.
pub(crate) fn finish(
    mut native: Native<Cpu>,
    tokenizer: Tokenizer,
    mut info: ModelInfo,
    include_prompt: bool,
    config: &Config,
) -> Result<Opened<Native<Cpu>>> {
    let width = native.width();
    let dims = config.dims.unwrap_or(width);
    if dims == 0 || dims > width {
        let message = format!("cannot keep {dims} components: the vectors of {} have {width}", info.name);
        let hint = match &info.matryoshka[..] {
            [] => format!("give 1 to {width}"),
            trained => format!("give 1 to {width}; the model was trained to be cut to {trained:?}"),
        };
        return Err(Error::new(ErrorKind::InvalidInput, message).hint(hint));
    }
    (info.dimensions, info.width) = (dims, width);
    info.normalize = config.normalize.unwrap_or(info.normalize || dims < width);
    native.form = Form { dims, l2: info.normalize };
    Ok(Opened { tokenizer, encoder: Box::new(native), info, include_prompt, token_types: 0 })
}

fn only_mean(found: Pooling) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("a static model has mean pooling only, found {found}"))
}

/// What was asked for beside plain f32, of a model that can be computed in no other numbers.
pub(crate) fn other_numbers(config: &Config) -> Option<String> {
    match (config.precision, config.parts.first()) {
        (Precision::F32, part) => part.map(ToString::to_string),
        (other, _) => Some(other.to_string()),
    }
}

/// A table is looked up, not multiplied.
fn only_stored(config: &Config) -> Result<()> {
    let Some(found) = other_numbers(config) else { return Ok(()) };
    let message = format!("a static model is a table, which is used as it is stored; found precision {found}");
    Err(Error::new(ErrorKind::InvalidInput, message)
        .hint("leave the precision out: a static model takes microseconds a text as it is"))
}

fn static_options(drop_unknown: bool, max_tokens: Option<usize>, tokenizer: &Tokenizer, config: &Config) -> Options {
    let limit = config.max_tokens.or(max_tokens);
    Options {
        max_tokens: limit,
        truncation: config.truncation,
        special_tokens: false,
        drop_unknown,
        // model2vec cuts the text before it splits it; a text that is refused or kept at its end is not cut blindly.
        char_cap: limit
            .filter(|_| config.truncation == crate::Truncation::Right && drop_unknown)
            .map(|limit| limit.saturating_mul(tokenizer.median_token_chars())),
        ..Options::default()
    }
}

fn static_table(backend: &Cpu, spec: &StaticSpec, weights: &dyn Weights) -> Result<StaticTable<Cpu>> {
    let token_weights = spec.token_weights.as_deref().map(|name| finite(weights, name)).transpose()?;
    let mapping = spec.mapping.as_deref().map(|name| weights.get(name)).transpose()?;
    StaticTable::load(backend, &finite(weights, &spec.table)?, token_weights.as_ref(), mapping.as_ref())
        .map_err(|e| e.in_file(weights.file()))
}

/// The layers after pooling; a last Normalize is left to the end, where it is fused with the cut.
pub(crate) fn load_heads(backend: &Cpu, heads: &[embral_models::Head]) -> Result<Vec<Head<Cpu>>> {
    match heads.split_last() {
        Some((embral_models::Head::Normalize, before)) => load_layers(backend, before),
        _ => load_layers(backend, heads),
    }
}

/// Layers over rows, each from its own file.
pub(crate) fn load_layers(backend: &Cpu, specs: &[embral_models::Head]) -> Result<Vec<Head<Cpu>>> {
    use embral_models::Head as Spec;
    let load = |spec: &Spec| match spec {
        Spec::Normalize => Ok(Head::L2),
        Spec::Dense(dense) => {
            let weights = embral_formats::open(&dense.weights)?;
            // A file of one layer and nothing else, as bge-m3 has it, names its parts alone.
            let (weight, bias) = match weights.contains("linear.weight") {
                true => ("linear.weight", "linear.bias"),
                false => ("weight", "bias"),
            };
            let layer = Dense {
                weight: expect(&*weights, weight, &[dense.outputs, dense.inputs])?,
                bias: dense.bias.then(|| expect(&*weights, bias, &[dense.outputs])).transpose()?,
            };
            Head::dense(backend, layer, dense.activation)
        }
        Spec::LayerNorm { width, eps, weights } => {
            let weights = embral_formats::open(weights)?;
            let gamma = expect(&*weights, "norm.weight", &[*width])?;
            let beta = expect(&*weights, "norm.bias", &[*width])?;
            Head::layer_norm(backend, &gamma, Some(&beta), *eps)
        }
    };
    specs.iter().map(load).collect()
}

/// The tensor of that name, of that shape, finite.
pub(crate) fn expect<'w>(weights: &'w dyn Weights, name: &str, shape: &[usize]) -> Result<Tensor<'w>> {
    let tensor = finite(weights, name)?;
    if tensor.shape() != shape {
        let message = format!("expected shape {shape:?}, found {:?}", tensor.shape());
        return Err(Error::new(ErrorKind::Mismatch, message).in_file(weights.file()).in_tensor(name));
    }
    Ok(tensor)
}

/// The tensor of that name, without values that are not finite.
pub(crate) fn finite<'w>(weights: &'w dyn Weights, name: &str) -> Result<Tensor<'w>> {
    let tensor = weights.get(name)?;
    embral_formats::check_finite(name, &tensor).map_err(|e| e.in_file(weights.file()))?;
    Ok(tensor)
}

fn fingerprint(weights: &dyn Weights) -> String {
    format!("{:032x}", embral_formats::packed::hash(&sampled(weights).0))
}

fn count(weights: &dyn Weights, info: &mut ModelInfo) -> Result<()> {
    for name in weights.names() {
        match weights.size(&name) {
            Ok((values, bytes)) => {
                info.parameters += values;
                info.weight_bytes += bytes;
            }
            // A buffer in a format that no layer reads, such as the booleans of an old mask, is no weight.
            Err(e) if e.kind() == ErrorKind::Unsupported => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
