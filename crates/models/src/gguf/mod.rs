//! A GGUF file as a model: its metadata as the configuration that the architecture files read, its tensors under the names they
//! have there, its vocabulary as a `tokenizer.json`.
//!
//! What a GGUF file does not say: modules behind the pooling (none, and vectors are normalised, as llama.cpp has it), prompts, and
//! how BERT's text is normalised (as uncased, which is what llama.cpp does with every WordPiece vocabulary).

mod names;
mod tokenizer;

use crate::{
    Architecture, Head, ModelFolder, Network, Outputs, Task, TokenizerFiles,
    config::{brief, limit, malformed, unsupported},
};
use embral_formats::{
    Weights,
    gguf::{GgufFile, List, Value},
};
use embral_types::{Error, ErrorKind, Pooling, Result};
use names::Renamed;
use serde_json::json;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// The ending of these files.
const EXTENSION: &str = "gguf";

/// The GGUF file that `path` is, or the only one of a folder that holds no other model.
pub(crate) fn find(path: &Path) -> Result<Option<PathBuf>> {
    if is_gguf(path) && path.is_file() {
        return Ok(Some(path.to_owned()));
    }
    let described = ["modules.json", "config.json", "model.safetensors"].iter().any(|name| path.join(name).is_file());
    if described || !path.is_dir() {
        return Ok(None);
    }
    let entries = std::fs::read_dir(path).map_err(|e| Error::io("cannot list", path, e))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut files: Vec<PathBuf> = paths.filter(|path| is_gguf(path) && path.is_file()).collect();
    files.sort();
    match &files[..] {
        [] => Ok(None),
        [file] => Ok(Some(file.clone())),
        several => {
            let names: Vec<_> = several.iter().filter_map(|file| file.file_name()?.to_str()).collect();
            let message = format!("expected one GGUF file, found {}: {}", several.len(), names.join(", "));
            Err(Error::new(ErrorKind::InvalidInput, message).in_file(path).hint("give the path of one of them"))
        }
    }
}

/// The weights under the names of the architecture.
pub(crate) fn open_weights(file: &Path) -> Result<Box<dyn Weights>> {
    let gguf = GgufFile::open(file)?;
    let kind = Kind::of(&gguf).map_err(|e| e.in_file(file))?;
    Ok(Box::new(Renamed::new(gguf, kind.names)))
}

/// Whether a path has the ending of a GGUF file.
pub fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case(EXTENSION))
}

/// Reads the model of a file.
pub(crate) fn read(file: &Path) -> Result<ModelFolder> {
    let gguf = GgufFile::open(file)?;
    model(file, &gguf).map_err(|e| if e.file().is_none() { e.in_file(file) } else { e })
}

fn model(file: &Path, gguf: &GgufFile) -> Result<ModelFolder> {
    let kind = Kind::of(gguf)?;
    let meta = Metadata { values: gguf.metadata(), architecture: kind.gguf };
    let config = (kind.config)(&meta, gguf)?;
    let architecture = Architecture::of(&config)?;
    let (mut blueprint, names) = (architecture.parse)(&config)?;
    if let Some(experts) = &mut blueprint.mlp.experts {
        // llama.cpp's converter turns their second layers, and leaves the bias behind their sum out.
        (experts.bias, experts.down_by_output) = (false, true);
    }
    let (vocabulary, segments) = tokenizer::json(&meta)?;
    Ok(ModelFolder {
        root: file.parent().unwrap_or(Path::new("")).to_owned(),
        weights: file.to_owned(),
        pooling: meta.pooling()?,
        include_prompt: true,
        heads: vec![Head::Normalize],
        dimensions: blueprint.hidden,
        max_tokens: Some(blueprint.max_positions),
        do_lower_case: false,
        prompts: BTreeMap::new(),
        default_prompt: None,
        tokenizer: TokenizerFiles::Inside(vocabulary),
        segments,
        matryoshka: Vec::new(),
        similarity: None,
        task: Task::Embedding,
        outputs: Outputs::default(),
        network: Network::Transformer { architecture: architecture.name, blueprint: Box::new(blueprint), names },
    })
}

/// An architecture of GGUF.
struct Kind {
    /// `general.architecture`.
    gguf: &'static str,
    /// The metadata as a `config.json` of transformers.
    config: fn(&Metadata<'_>, &GgufFile) -> Result<serde_json::Value>,
    /// The tensor names there and here, `{}` being the layer.
    names: &'static [(&'static str, &'static str)],
}

const KINDS: [Kind; 4] = [
    Kind { gguf: "bert", config: bert, names: names::BERT },
    Kind { gguf: "nomic-bert", config: nomic_bert, names: names::NOMIC_BERT },
    Kind { gguf: "nomic-bert-moe", config: nomic_bert_moe, names: names::NOMIC_BERT_MOE },
    Kind { gguf: "qwen3", config: qwen3, names: names::QWEN3 },
];

impl Kind {
    fn of(gguf: &GgufFile) -> Result<&'static Self> {
        let found = match gguf.metadata().get("general.architecture") {
            Some(Value::Text(name)) => name,
            Some(other) => {
                return Err(malformed(format!("general.architecture: expected a text, found {}", other.describe())));
            }
            None => return Err(malformed("general.architecture: the text is missing")),
        };
        KINDS.iter().find(|kind| kind.gguf == found).ok_or_else(|| {
            let known = KINDS.iter().map(|kind| kind.gguf).collect::<Vec<_>>().join(", ");
            unsupported(format!("general.architecture: expected one of {known}, found {found:?}"))
                .hint("take the model in safetensors where there is one")
        })
    }
}

fn rows(gguf: &GgufFile, name: &str) -> Option<usize> {
    gguf.shape(name).and_then(|shape| shape.first().copied())
}

fn missing(name: &str) -> Error {
    Error::new(ErrorKind::Mismatch, "the tensor is missing").in_tensor(name)
}

/// BERT, and XLM-RoBERTa, whose positions begin with the first token where a file was made of it.
fn bert(meta: &Metadata<'_>, gguf: &GgufFile) -> Result<serde_json::Value> {
    let rows = |name: &str| rows(gguf, name);
    Ok(json!({
        "model_type": "bert",
        "hidden_size": meta.number("embedding_length")?,
        "num_hidden_layers": meta.number("block_count")?,
        "num_attention_heads": meta.number("attention.head_count")?,
        "intermediate_size": meta.number("feed_forward_length")?,
        "hidden_act": "gelu",
        "layer_norm_eps": meta.float("attention.layer_norm_epsilon")?,
        "vocab_size": rows("token_embd.weight").ok_or_else(|| missing("token_embd.weight"))?,
        "max_position_embeddings": rows("position_embd.weight").ok_or_else(|| missing("position_embd.weight"))?,
        "type_vocab_size": rows("token_types.weight").unwrap_or(0),
    }))
}

fn nomic_bert(meta: &Metadata<'_>, gguf: &GgufFile) -> Result<serde_json::Value> {
    Ok(json!({
        "model_type": "nomic_bert",
        "activation_function": "swiglu",
        "n_embd": meta.number("embedding_length")?,
        "n_layer": meta.number("block_count")?,
        "n_head": meta.number("attention.head_count")?,
        "n_inner": meta.number("feed_forward_length")?,
        // The length of the training: what the frequencies do beyond it is not in the file.
        "n_positions": meta.number("context_length")?,
        "layer_norm_epsilon": meta.float("attention.layer_norm_epsilon")?,
        "rotary_emb_base": meta.float("rope.freq_base")?,
        "rotary_emb_fraction": 1.0,
        "vocab_size": rows(gguf, "token_embd.weight").ok_or_else(|| missing("token_embd.weight"))?,
        "type_vocab_size": rows(gguf, "token_types.weight").unwrap_or(0),
    }))
}

/// NomicBert with experts in some blocks; unlike the one without, it has no gates, and biases.
fn nomic_bert_moe(meta: &Metadata<'_>, gguf: &GgufFile) -> Result<serde_json::Value> {
    let mut config = nomic_bert(meta, gguf)?;
    config["activation_function"] = json!("gelu");
    for bias in ["qkv_proj_bias", "mlp_fc1_bias", "mlp_fc2_bias"] {
        config[bias] = json!(true);
    }
    config["moe_every_n_layers"] = json!(meta.number("moe_every_n_layers")?);
    config["num_experts"] = json!(meta.number("expert_count")?);
    config["moe_top_k"] = json!(meta.number("expert_used_count")?);
    Ok(config)
}

fn qwen3(meta: &Metadata<'_>, gguf: &GgufFile) -> Result<serde_json::Value> {
    let heads = meta.number("attention.head_count")?;
    let vocabulary = rows(gguf, "token_embd.weight");
    Ok(json!({
        "model_type": "qwen3",
        "hidden_size": meta.number("embedding_length")?,
        "num_hidden_layers": meta.number("block_count")?,
        "num_attention_heads": heads,
        "num_key_value_heads": meta.optional_number("attention.head_count_kv")?.unwrap_or(heads),
        "head_dim": meta.optional_number("attention.key_length")?,
        "intermediate_size": meta.number("feed_forward_length")?,
        "hidden_act": "silu",
        "rms_norm_eps": meta.float("attention.layer_norm_rms_epsilon")?,
        "rope_theta": meta.float("rope.freq_base")?,
        "max_position_embeddings": meta.number("context_length")?,
        "vocab_size": vocabulary,
    }))
}

/// The metadata, the keys of the architecture under their short names.
struct Metadata<'a> {
    values: &'a BTreeMap<String, Value>,
    architecture: &'static str,
}

impl<'a> Metadata<'a> {
    fn number(&self, key: &str) -> Result<usize> {
        let key = format!("{}.{key}", self.architecture);
        integer(&key, self.values.get(&key))?.ok_or_else(|| malformed(format!("{key}: the number is missing")))
    }

    fn optional_number(&self, key: &str) -> Result<Option<usize>> {
        let key = format!("{}.{key}", self.architecture);
        integer(&key, self.values.get(&key))
    }

    fn float(&self, key: &str) -> Result<f64> {
        let key = format!("{}.{key}", self.architecture);
        match self.values.get(&key) {
            // As the f32 it was, and not with the digits that f64 adds.
            Some(&Value::Float(x)) if x.is_finite() => Ok((x as f32).to_string().parse().unwrap_or(x)),
            Some(other) => Err(malformed(format!("{key}: expected a finite float, found {}", other.describe()))),
            None => Err(malformed(format!("{key}: the float is missing"))),
        }
    }

    fn pooling(&self) -> Result<Option<Pooling>> {
        match self.optional_number("pooling_type")? {
            None | Some(0) => Ok(None),
            Some(1) => Ok(Some(Pooling::Mean)),
            Some(2) => Ok(Some(Pooling::Cls)),
            Some(3) => Ok(Some(Pooling::Last)),
            Some(other) => {
                let key = format!("{}.pooling_type", self.architecture);
                Err(unsupported(format!("{key}: expected 0 to 3 (none, mean, CLS, last), found {other}")))
            }
        }
    }

    fn text(&self, key: &str) -> Result<Option<&'a str>> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(other) => Err(malformed(format!("{key}: expected a text, found {}", other.describe()))),
        }
    }

    fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.values.get(key) {
            None => Ok(None),
            Some(&Value::Flag(flag)) => Ok(Some(flag)),
            Some(other) => Err(malformed(format!("{key}: expected true or false, found {}", other.describe()))),
        }
    }

    fn list(&self, key: &str) -> Option<&'a List> {
        match self.values.get(key) {
            Some(Value::List(list)) => Some(list),
            _ => None,
        }
    }

    fn texts(&self, key: &str) -> Result<&'a [String]> {
        match self.list(key) {
            Some(List::Texts(texts)) => Ok(texts),
            _ => Err(malformed(format!("{key}: expected a list of texts, found {}", self.describe(key)))),
        }
    }

    fn describe(&self, key: &str) -> String {
        self.values.get(key).map_or_else(|| "nothing".to_owned(), Value::describe)
    }
}

fn integer(key: &str, value: Option<&Value>) -> Result<Option<usize>> {
    match value {
        None => Ok(None),
        Some(&Value::Integer(n)) if (0..=*limit::POSITIONS.end() as i128).contains(&n) => Ok(Some(n as usize)),
        Some(other) => {
            let found = json!(other.describe());
            Err(malformed(format!(
                "{key}: expected a whole number up to {}, found {}",
                limit::POSITIONS.end(),
                brief(&found)
            )))
        }
    }
}
