//! A model folder: everything but the numbers.
//!
//! Five forms are read: a sentence-transformers folder (`modules.json`), a plain transformers or model2vec folder (`config.json`
//! alone), a bare `StaticEmbedding` (weights and tokeniser alone), a GGUF file, and an ONNX graph in the place of weights. The file forms are those of sentence-transformers 2 to 6.

use crate::{
    Architecture, Blueprint, GraphSpec, Head, Module, ModuleKind, MultiVectorSpec, OnnxChoice, Outputs, StaticSpec,
    Task, WeightNames,
    config::{self, Config, limit, malformed, unsupported},
    gguf, head, modules, onnx, pooling,
    task::{self, Knobs},
};
use embral_formats::{Weights, safetensors};
use embral_types::{Error, ErrorKind, Pooling, Result};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// A model as its folder describes it.
#[derive(Clone, Debug)]
pub struct ModelFolder {
    /// The folder.
    pub root: PathBuf,
    /// What turns ids into rows.
    pub network: Network,
    /// The safetensors file, the `model.safetensors.index.json` of a sharded model, the GGUF file or the ONNX graph.
    pub weights: PathBuf,
    /// How rows become one vector; `None` where the folder does not say. [`Pooling::Mean`] for static models.
    pub pooling: Option<Pooling>,
    /// Whether the tokens of the prompt take part in pooling.
    pub include_prompt: bool,
    /// What follows pooling, in order.
    pub heads: Vec<Head>,
    /// Components of the embedding: what comes out of the last head. 0 for a graph whose width no file says.
    pub dimensions: usize,
    /// The most tokens of a text, special ones included; `None` where nothing limits it.
    pub max_tokens: Option<usize>,
    /// Whether text is lower-cased before the tokeniser sees it (`do_lower_case` of `sentence_bert_config.json`).
    pub do_lower_case: bool,
    /// Named prompts.
    pub prompts: BTreeMap<String, String>,
    /// The name of the prompt that is used where none is asked for; a key of `prompts`.
    pub default_prompt: Option<String>,
    /// Where the tokeniser is.
    pub tokenizer: TokenizerFiles,
    /// Whether the model is told to which text of a pair a token belongs (`token_type_ids`).
    pub segments: bool,
    /// The widths the embedding may be cut to, largest first, as far as the folder says (`matryoshka_dimensions`).
    pub matryoshka: Vec<usize>,
    /// `cosine`, `dot`, `euclidean` or `manhattan`, where the folder says.
    pub similarity: Option<String>,
    /// What it says it is for.
    pub task: Task,
    /// What can be computed besides one vector a text.
    pub outputs: Outputs,
}

/// What turns ids into rows or, for a static model, into the vector.
#[derive(Clone, Debug, PartialEq)]
pub enum Network {
    /// A transformer encoder.
    Transformer {
        /// The `model_type`.
        architecture: &'static str,
        /// What it computes.
        blueprint: Box<Blueprint>,
        /// Where its tensors are.
        names: WeightNames,
    },
    /// A table of token vectors.
    Static(StaticSpec),
    /// An exported graph.
    Graph(GraphSpec),
}

impl Network {
    /// Components of a row, where that is known.
    fn width(&self) -> Option<usize> {
        match self {
            Self::Transformer { blueprint, .. } => Some(blueprint.hidden),
            Self::Static(spec) => Some(spec.width),
            Self::Graph(spec) => spec.width,
        }
    }
}

/// Where the tokeniser of a model is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenizerFiles {
    /// A `tokenizer.json`.
    Json(PathBuf),
    /// The bytes of a `tokenizer.json`, made of what the file of the weights says.
    Inside(Vec<u8>),
    /// A WordPiece `vocab.txt`, with what `tokenizer_config.json` says of BERT's normalisation.
    Vocab {
        /// The vocabulary.
        vocab: PathBuf,
        /// `do_lower_case`: true where it is not stated.
        lower_case: bool,
        /// `strip_accents`: as `lower_case` where it is not stated.
        strip_accents: bool,
        /// `tokenize_chinese_chars`, every ideograph a word of its own: true where it is not stated.
        split_ideographs: bool,
    },
    /// The `vocab.json` and `merges.txt` of RoBERTa.
    Pairs {
        /// The vocabulary.
        vocab: PathBuf,
        /// Which pairs are merged, the first first.
        merges: PathBuf,
        /// `add_prefix_space`: false where it is not stated.
        prefix_space: bool,
    },
}

/// The names that `sentence_bert_config.json` had for other architectures before sentence-transformers 1.0.
const LIMIT_FILES: [&str; 7] = [
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
];

impl ModelFolder {
    /// Reads a folder, a GGUF file or an ONNX file with its folder: every configuration file whole, of the weights only the header.
    pub fn read(root: &Path) -> Result<Self> {
        Self::read_with(root, &OnnxChoice::default())
    }

    /// As [`ModelFolder::read`], with a say in whether an ONNX graph is taken where there are weights too.
    pub fn read_with(root: &Path, choice: &OnnxChoice) -> Result<Self> {
        if onnx::is_onnx(root) && root.is_file() {
            // Links are not followed: a cache of models has files under other names than their links.
            let file = std::path::absolute(root).map_err(|e| Error::io("cannot read", root, e))?;
            return Self::of_folder(&onnx::folder_of(root), &OnnxChoice::File(file));
        }
        match gguf::find(root)? {
            Some(file) if choice.is_named() => {
                Err(unsupported("expected an ONNX graph, found a GGUF file").in_file(file).hint("leave --onnx out"))
            }
            Some(file) => gguf::read(&file),
            None => Self::of_folder(root, choice),
        }
    }

    fn of_folder(root: &Path, choice: &OnnxChoice) -> Result<Self> {
        if !root.is_dir() {
            return Err(Error::new(ErrorKind::NotFound, "there is no such folder").in_file(root));
        }
        let modules_file = root.join("modules.json");
        let stated = config::read(&modules_file)?;
        let plain = stated.is_none();
        let modules = match stated {
            Some(value) => modules::parse(&value).map_err(|e| e.in_file(&modules_file))?,
            None => vec![Module { kind: plain_kind(root, choice)?, path: String::new() }],
        };
        let (first, rest) = modules.split_first().expect("a parsed module list has a module");
        let mut folder = match first.kind {
            ModuleKind::Transformer | ModuleKind::MlmTransformer => {
                return Self::of_transformer(root, &root.join(&first.path), &modules, plain, choice);
            }
            ModuleKind::StaticEmbedding if choice.is_named() => {
                let message = "expected a transformer, found a static model, which is a table and needs no graph";
                return Err(unsupported(message).in_file(root).hint("leave --onnx out"));
            }
            ModuleKind::StaticEmbedding => static_embedding(root, &root.join(&first.path))?,
            other => {
                let message = format!("expected Transformer or StaticEmbedding as the first module, found {other:?}");
                return Err(unsupported(message).in_file(modules_file));
            }
        };
        folder.add_modules(rest, head::SENTENCES)?;
        folder.add_prompts()?;
        Ok(folder)
    }

    /// `modules` behind the transformer in `at`, which is the first of them; in a `plain` folder nothing says so.
    fn of_transformer(root: &Path, at: &Path, modules: &[Module], plain: bool, choice: &OnnxChoice) -> Result<Self> {
        let (mut folder, config, limits) = transformer(root, at, choice)?;
        let rest = &modules[1..];
        let has = |kind: ModuleKind| rest.iter().find(|module| module.kind == kind);
        let file = root.join("config_sentence_transformers.json");
        let stated =
            config::read(&file)?.map(|value| Knobs::read(&value, true)).transpose().map_err(|e| e.in_file(file))?;
        let knobs = limits.knobs.or(stated.unwrap_or_default());
        if plain {
            folder.add_pooling_alone()?;
        }
        folder.task = if has(ModuleKind::Pooling).is_some() || folder.pooling.is_some() {
            if let Some(task) = limits.task.as_deref().filter(|task| *task != "feature-extraction") {
                let message =
                    format!("transformer_task: expected \"feature-extraction\" before Pooling, found {task:?}");
                return Err(unsupported(message).in_file(at.join(LIMIT_FILES[0])));
            }
            Task::Embedding
        } else if has(ModuleKind::SpladePooling).is_some() {
            Task::Sparse
        } else if has(ModuleKind::LogitScore).is_some() {
            Task::Generation
        } else if has(ModuleKind::MultiVectorMask).is_some() || knobs.declared {
            Task::MultiVector
        } else {
            task::of_config(&config, limits.task.as_deref()).map_err(|e| e.in_file(at.join("config.json")))?
        };
        folder.outputs =
            task::outputs(folder.task, &config, at, root).map_err(|e| e.in_file(at.join("config.json")))?;
        let tokens = folder.task == Task::MultiVector && folder.outputs.multi_vector.is_none();
        folder.add_modules(rest, if tokens { head::TOKENS } else { head::SENTENCES })?;
        let read = |module: &Module| {
            let file = root.join(&module.path).join("config.json");
            config::require(&file).map(|value| (value, file))
        };
        if tokens {
            let mask = has(ModuleKind::MultiVectorMask).map(read).transpose()?;
            let heads = std::mem::take(&mut folder.heads);
            let spec = MultiVectorSpec::of_modules(heads, mask.as_ref().map(|(value, _)| value), knobs);
            folder.outputs.multi_vector = Some(spec.map_err(|e| e.in_file(root))?);
        }
        if let Some(module) = has(ModuleKind::SpladePooling) {
            let (value, file) = read(module)?;
            let spec = folder.outputs.sparse.take().ok_or_else(|| {
                unsupported(
                    "expected the head of a masked language model before SpladePooling, found none that is known",
                )
                .in_file(at.join("config.json"))
            })?;
            folder.outputs.sparse = Some(spec.pooled(&value).map_err(|e| e.in_file(file))?);
        }
        if let Some(module) = has(ModuleKind::LogitScore) {
            let (value, file) = read(module)?;
            folder.outputs.yes_no = Some(task::parse_logit_score(&value).map_err(|e| e.in_file(file))?);
        }
        folder.add_prompts()?;
        Ok(folder)
    }

    /// Opens the weights.
    ///
    /// # Errors
    /// Where they cannot be read, and where the model is a graph.
    pub fn open_weights(&self) -> Result<Box<dyn Weights>> {
        if let Network::Graph(spec) = &self.network {
            return Err(onnx::no_weights(&spec.file));
        }
        if gguf::is_gguf(&self.weights) { gguf::open_weights(&self.weights) } else { safetensors::open(&self.weights) }
    }

    /// Components of the embedding where token rows have `width` components.
    ///
    /// # Errors
    /// Where the heads are for rows of another width.
    pub fn width_after(&self, width: usize) -> Result<usize> {
        head::width_after_all(&self.heads, width).map_err(|e| e.in_file(&self.root))
    }

    /// Whether the last step is L2 normalisation.
    pub fn normalizes(&self) -> bool {
        self.heads.last() == Some(&Head::Normalize)
    }

    /// `input` is what the modules take: sentences, or tokens.
    fn add_modules(&mut self, modules: &[Module], input: &str) -> Result<()> {
        let mut width = self.network.width();
        self.dimensions = head::width_after_all(&self.heads, width.unwrap_or(0))?;
        for (index, module) in modules.iter().enumerate() {
            let folder = self.root.join(&module.path);
            let file = folder.join("config.json");
            let head = match module.kind {
                ModuleKind::Normalize if self.normalizes() => continue,
                ModuleKind::Normalize => Head::Normalize,
                ModuleKind::Dense => {
                    let value = config::require(&file)?;
                    head::dense(&value, &find_weights(&folder)?, input)
                        .map(Head::Dense)
                        .map_err(|e| e.in_file(&file))?
                }
                ModuleKind::LayerNorm => {
                    let value = config::require(&file)?;
                    head::layer_norm(&value, &find_weights(&folder)?).map_err(|e| e.in_file(&file))?
                }
                ModuleKind::Pooling if index == 0 && !matches!(self.network, Network::Static(_)) => {
                    let value = config::require(&file)?;
                    width = self.pooled(&value).map_err(|e| e.in_file(&file))?;
                    self.dimensions = width.unwrap_or(0);
                    continue;
                }
                // What these say is read by who opened the folder.
                ModuleKind::MultiVectorMask if input == head::TOKENS => continue,
                ModuleKind::SpladePooling | ModuleKind::LogitScore if modules.len() == 1 => continue,
                _ => {
                    let message = format!(
                        "expected one Transformer and then Pooling, or one StaticEmbedding, and then Dense, LayerNorm or Normalize, \
                         found {:?} as module {}",
                        module.kind,
                        index + 1
                    );
                    return Err(unsupported(message).in_file(self.root.join("modules.json")));
                }
            };
            // What no file says is said by the graph, and the chain is followed then.
            if width.is_some() {
                self.dimensions = head.width_after(self.dimensions).map_err(|e| e.in_file(&file))?;
            }
            self.heads.push(head);
        }
        Ok(())
    }

    /// `1_Pooling/config.json` of a folder that has come without its `modules.json`.
    fn add_pooling_alone(&mut self) -> Result<()> {
        let file = self.root.join("1_Pooling").join("config.json");
        match config::read(&file)? {
            Some(value) => self.pooled(&value).map(|_| ()).map_err(|e| e.in_file(file)),
            None => Ok(()),
        }
    }

    /// Takes what a Pooling module says, and gives the width of what it pools.
    fn pooled(&mut self, value: &Value) -> Result<Option<usize>> {
        let spec = pooling::parse(value)?;
        let width = self.network.width();
        width.map_or(Ok(()), |width| spec.check_width(width))?;
        (self.pooling, self.include_prompt) = (Some(spec.pooling), spec.include_prompt);
        Ok(width.or(spec.width))
    }

    /// `config_sentence_transformers.json`, which any form of folder may have.
    fn add_prompts(&mut self) -> Result<()> {
        let file = self.root.join("config_sentence_transformers.json");
        let Some(value) = config::read(&file)? else { return Ok(()) };
        let prompts = parse_prompts(&value).map_err(|e| e.in_file(file))?;
        (self.prompts, self.default_prompt, self.similarity) = (prompts.prompts, prompts.default, prompts.similarity);
        Ok(())
    }
}

/// What `config_sentence_transformers.json` says about prompts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prompts {
    /// Named prompts.
    pub prompts: BTreeMap<String, String>,
    /// The name of the prompt that is used where none is asked for; a key of `prompts`.
    pub default: Option<String>,
    /// The `similarity_fn_name`.
    pub similarity: Option<String>,
}

impl Prompts {
    /// Reads the bytes of a `config_sentence_transformers.json`.
    pub fn parse(json: &[u8]) -> Result<Self> {
        parse_prompts(&config::from_bytes(json)?)
    }
}

fn parse_prompts(value: &Value) -> Result<Prompts> {
    let config = Config::of(value)?;
    let mut prompts = BTreeMap::new();
    for (name, prompt) in config.object("prompts")?.into_iter().flat_map(Config::entries) {
        let text = prompt.as_str().ok_or_else(|| {
            malformed(format!("prompts: expected a string for {name:?}, found {}", config::brief(prompt)))
        })?;
        prompts.insert(name.clone(), text.to_owned());
    }
    let default = config.text("default_prompt_name")?.map(str::to_owned);
    if let Some(name) = default.as_ref().filter(|name| !prompts.contains_key(*name)) {
        let known: Vec<&String> = prompts.keys().collect();
        return Err(malformed(format!("default_prompt_name: expected one of the prompts {known:?}, found {name:?}")));
    }
    Ok(Prompts { prompts, default, similarity: config.text("similarity_fn_name")?.map(str::to_owned) })
}

/// What a folder without `modules.json` is.
fn plain_kind(root: &Path, choice: &OnnxChoice) -> Result<ModuleKind> {
    let file = root.join("config.json");
    match config::read(&file)? {
        Some(value) => {
            let name = Config::of(&value).and_then(|c| c.text("model_type")).map_err(|e| e.in_file(&file))?;
            Ok(if name == Some("model2vec") { ModuleKind::StaticEmbedding } else { ModuleKind::Transformer })
        }
        None if root.join("model.safetensors").is_file() && root.join("tokenizer.json").is_file() => {
            Ok(ModuleKind::StaticEmbedding)
        }
        None if onnx::find(root, root, choice, false)?.is_some() => Ok(ModuleKind::Transformer),
        None => Err(Error::new(ErrorKind::NotFound, "expected modules.json or config.json, found neither")
            .in_file(root)
            .hint("give the folder that holds config.json, model.safetensors or model.onnx, and tokenizer.json")),
    }
}

/// The folder without its modules, its `config.json`, and what its limits file says.
fn transformer(root: &Path, folder: &Path, choice: &OnnxChoice) -> Result<(ModelFolder, Value, Limits)> {
    let file = folder.join("config.json");
    let found = find_weights(folder);
    let (value, network, weights) = match onnx::find(root, folder, choice, found.is_ok())? {
        Some(graph) => {
            let value = onnx::config(folder)?;
            let spec = onnx::spec(graph.clone(), &value).map_err(|e| e.in_file(&file))?;
            (value, Network::Graph(spec), graph)
        }
        None => {
            let value = config::require(&file)?;
            let parsed = Architecture::of(&value).and_then(|a| Ok((a, (a.parse)(&value)?)));
            let (architecture, (blueprint, names)) = parsed.map_err(|e| {
                // A network that is not known here may be run as it was exported.
                let graph = onnx::find(root, folder, &OnnxChoice::Always, false).is_ok();
                let e = e.in_file(&file);
                if graph { e.hint("the folder has an ONNX graph too: --onnx, or Config::onnx, runs that") } else { e }
            })?;
            let (architecture, blueprint) = (architecture.name, Box::new(blueprint));
            (value, Network::Transformer { architecture, blueprint, names }, found?)
        }
    };
    let limits = Limits::read(folder)?;
    let stated = limits.max_seq_length.or(model_max_length(folder)?);
    let positions = match &network {
        Network::Transformer { blueprint, .. } => Some(blueprint.max_positions),
        Network::Graph(spec) => spec.positions,
        Network::Static(_) => None,
    };
    let read = ModelFolder {
        root: root.to_owned(),
        weights,
        pooling: None,
        include_prompt: true,
        heads: Vec::new(),
        dimensions: network.width().unwrap_or(0),
        max_tokens: stated.into_iter().chain(positions).min(),
        do_lower_case: limits.do_lower_case,
        prompts: BTreeMap::new(),
        default_prompt: None,
        tokenizer: tokenizer_of(folder, &network)?,
        segments: segments(folder)?,
        matryoshka: matryoshka(&value).map_err(|e| e.in_file(&file))?,
        similarity: None,
        task: Task::Embedding,
        outputs: Outputs::default(),
        network,
    };
    Ok((read, value, limits))
}

fn static_embedding(root: &Path, folder: &Path) -> Result<ModelFolder> {
    let weights = find_weights(folder)?;
    let file = root.join("config.json");
    let config = config::read(&file)?;
    let spec = StaticSpec::detect(config.as_ref(), &*safetensors::open(&weights)?).map_err(|e| e.in_file(&file))?;
    // model2vec states normalisation in config.json; in its sentence-transformers form, where it has no modules.json, beside the
    // prompts.
    let mut normalize = false;
    for name in ["config.json", "config_sentence_transformers.json"] {
        let file = root.join(name);
        if let Some(value) = config::read(&file)? {
            let stated = Config::of(&value).and_then(|c| c.flag_or("normalize", false)).map_err(|e| e.in_file(file))?;
            normalize |= stated;
        }
    }
    Ok(ModelFolder {
        root: root.to_owned(),
        weights,
        pooling: Some(Pooling::Mean),
        include_prompt: true,
        heads: if normalize { vec![Head::Normalize] } else { Vec::new() },
        dimensions: spec.width,
        max_tokens: spec.max_tokens(),
        do_lower_case: false,
        prompts: BTreeMap::new(),
        default_prompt: None,
        tokenizer: find_tokenizer(folder)?,
        segments: false,
        matryoshka: config.as_ref().map_or(Ok(Vec::new()), matryoshka).map_err(|e| e.in_file(&file))?,
        similarity: None,
        task: Task::Embedding,
        outputs: Outputs::default(),
        network: Network::Static(spec),
    })
}

/// `matryoshka_dimensions`, which some models state in `config.json`.
fn matryoshka(config: &Value) -> Result<Vec<usize>> {
    let Some(Value::Array(widths)) = Config::of(config)?.get("matryoshka_dimensions") else { return Ok(Vec::new()) };
    let width =
        |value: &Value| value.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| limit::WIDTH.contains(n));
    let widths: Option<Vec<usize>> = widths.iter().map(width).collect();
    let mut widths = widths.ok_or_else(|| malformed("matryoshka_dimensions: expected numbers from 1 to 65536"))?;
    widths.sort_unstable_by(|a, b| b.cmp(a));
    widths.dedup();
    Ok(widths)
}

#[derive(Default)]
struct Limits {
    max_seq_length: Option<usize>,
    do_lower_case: bool,
    /// `transformer_task`.
    task: Option<String>,
    knobs: Knobs,
}

impl Limits {
    fn read(folder: &Path) -> Result<Self> {
        for name in LIMIT_FILES {
            let file = folder.join(name);
            if let Some(value) = config::read(&file)? {
                return Self::parse(&value).map_err(|e| e.in_file(file));
            }
        }
        Ok(Self::default())
    }

    fn parse(value: &Value) -> Result<Self> {
        let config = Config::of(value)?;
        Ok(Self {
            max_seq_length: config.optional_number("max_seq_length", 1..=usize::MAX)?,
            do_lower_case: config.flag_or("do_lower_case", false)?,
            task: config.text("transformer_task")?.map(str::to_owned),
            knobs: Knobs::read(value, false)?,
        })
    }
}

/// The limit that `tokenizer_config.json` states.
fn model_max_length(folder: &Path) -> Result<Option<usize>> {
    let file = folder.join("tokenizer_config.json");
    let Some(value) = config::read(&file)? else { return Ok(None) };
    // Tokenisers without a limit state 1e30 as an integer, which is no 64-bit number.
    let length = Config::of(&value).map_err(|e| e.in_file(file))?.get("model_max_length").and_then(Value::as_u64);
    Ok(length.and_then(|n| usize::try_from(n).ok()).filter(|&n| n > 0))
}

/// What `tokenizer_config.json` says about `token_type_ids`: its `model_input_names` or, where they are not stated, its class. The generic
/// class of transformers 5, `TokenizersBackend`, has none; that of transformers 4 has them, as have the tokenisers of the models that
/// have token types.
fn segments(folder: &Path) -> Result<bool> {
    let file = folder.join("tokenizer_config.json");
    let Some(value) = config::read(&file)? else { return Ok(true) };
    let config = Config::of(&value).map_err(|e| e.in_file(&file))?;
    match config.get("model_input_names") {
        Some(Value::Array(names)) => Ok(names.iter().any(|name| name.as_str() == Some("token_type_ids"))),
        _ => Ok(config.text("tokenizer_class").map_err(|e| e.in_file(&file))? != Some("TokenizersBackend")),
    }
}

fn find_weights(folder: &Path) -> Result<PathBuf> {
    let names = ["model.safetensors", "model.safetensors.index.json"];
    if let Some(found) = names.iter().map(|name| folder.join(name)).find(|path| path.is_file()) {
        return Ok(found);
    }
    if folder.join("pytorch_model.bin").is_file() || folder.join("pytorch_model.bin.index.json").is_file() {
        return Err(unsupported("the weights are in pytorch_model.bin, which is a program and not only data")
            .in_file(folder)
            .hint("save the model again with sentence-transformers, which writes model.safetensors"));
    }
    let message = format!("expected {} or {}, found neither", names[0], names[1]);
    Err(Error::new(ErrorKind::NotFound, message).in_file(folder))
}

/// The tokeniser of a transformer's folder; of a graph, the one that lies beside it where the folder has none.
fn tokenizer_of(folder: &Path, network: &Network) -> Result<TokenizerFiles> {
    let beside = match network {
        Network::Graph(spec) => spec.file.parent(),
        _ => None,
    };
    find_tokenizer(folder).or_else(|e| beside.map_or(Err(e), find_tokenizer))
}

fn find_tokenizer(folder: &Path) -> Result<TokenizerFiles> {
    let [json, vocab, pairs, merges] =
        ["tokenizer.json", "vocab.txt", "vocab.json", "merges.txt"].map(|name| folder.join(name));
    if json.is_file() {
        return Ok(TokenizerFiles::Json(json));
    }
    let file = folder.join("tokenizer_config.json");
    let value = config::read(&file)?.unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    if vocab.is_file() {
        with_vocabulary(vocab, &value).map_err(|e| e.in_file(file))
    } else if pairs.is_file() && merges.is_file() {
        with_pairs(pairs, merges, &value).map_err(|e| e.in_file(file))
    } else {
        let message = "expected tokenizer.json, vocab.txt, or vocab.json and merges.txt, found none";
        Err(Error::new(ErrorKind::NotFound, message).in_file(folder))
    }
}

/// `vocab` and `merges` with what a `tokenizer_config.json` says, as `RobertaTokenizer` of transformers takes it.
fn with_pairs(vocab: PathBuf, merges: PathBuf, config: &Value) -> Result<TokenizerFiles> {
    let config = Config::of(config)?;
    if let Some(class) = config.text("tokenizer_class")?.filter(|class| !class.starts_with("RobertaTokenizer")) {
        return Err(unsupported(format!("tokenizer_class: expected RobertaTokenizer, found {class:?}"))
            .hint("save the tokenizer again with transformers, which writes tokenizer.json"));
    }
    Ok(TokenizerFiles::Pairs { vocab, merges, prefix_space: config.flag_or("add_prefix_space", false)? })
}

/// `vocab` with the flags of a `tokenizer_config.json`, as `BertTokenizer` of transformers takes them.
fn with_vocabulary(vocab: PathBuf, config: &Value) -> Result<TokenizerFiles> {
    let config = Config::of(config)?;
    let lower_case = config.flag_or("do_lower_case", true)?;
    Ok(TokenizerFiles::Vocab {
        vocab,
        lower_case,
        strip_accents: config.flag_or("strip_accents", lower_case)?,
        split_ideographs: config.flag_or("tokenize_chinese_chars", true)?,
    })
}
