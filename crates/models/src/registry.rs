//! The transformer architectures this version runs: one row each.

use crate::{
    Blueprint, WeightNames,
    arch::{
        bert, deberta_v2, distilbert, gemma3, gte, jina_bert, llama, mistral, modernbert, mpnet, nomic_bert, qwen2,
        qwen3, roberta,
    },
    config::{self, Config, malformed, unsupported},
};
use embral_types::Result;
use serde_json::Value;

/// A family of transformers with one form of configuration.
#[derive(Clone, Copy, Debug)]
pub struct Architecture {
    /// The `model_type` of its `config.json`.
    pub name: &'static str,
    /// Reads a `config.json`.
    pub parse: fn(&Value) -> Result<(Blueprint, WeightNames)>,
}

/// Every architecture.
#[rustfmt::skip]
pub const ARCHITECTURES: &[Architecture] = &[
    Architecture { name: "bert", parse: bert::parse },
    Architecture { name: "roberta", parse: roberta::parse },
    Architecture { name: "xlm-roberta", parse: roberta::parse },
    Architecture { name: "camembert", parse: roberta::parse },
    Architecture { name: "distilbert", parse: distilbert::parse },
    Architecture { name: "deberta-v2", parse: deberta_v2::parse },
    Architecture { name: "mpnet", parse: mpnet::parse },
    Architecture { name: "nomic_bert", parse: nomic_bert::parse },
    Architecture { name: "modernbert", parse: modernbert::parse },
    Architecture { name: "jina_bert", parse: jina_bert::parse },
    Architecture { name: "new", parse: gte::parse },
    Architecture { name: "gte", parse: gte::parse },
    Architecture { name: "gemma3_text", parse: gemma3::parse },
    Architecture { name: "qwen2", parse: qwen2::parse },
    Architecture { name: "qwen3", parse: qwen3::parse },
    Architecture { name: "llama", parse: llama::parse },
    Architecture { name: "eurobert", parse: llama::parse_eurobert },
    Architecture { name: "mistral", parse: mistral::parse },
];

impl Architecture {
    /// The architecture of a `config.json`.
    pub fn of(config: &Value) -> Result<Self> {
        let config = Config::of(config)?;
        let stated = config.text("model_type")?.ok_or_else(|| malformed("model_type: the key is missing"))?;
        let name = if jina_bert::is_meant(config)? { "jina_bert" } else { stated };
        let found = ARCHITECTURES.iter().find(|a| a.name == name).copied();
        found.ok_or_else(|| {
            let known = ARCHITECTURES.iter().map(|a| a.name).collect::<Vec<_>>().join(", ");
            unsupported(format!("model_type: expected one of {known}, found {name:?}"))
        })
    }
}

/// Reads the bytes of a transformer's `config.json`.
pub fn parse_config(json: &[u8]) -> Result<(Architecture, Blueprint, WeightNames)> {
    let value = config::from_bytes(json)?;
    let architecture = Architecture::of(&value)?;
    let (blueprint, names) = (architecture.parse)(&value)?;
    Ok((architecture, blueprint, names))
}
