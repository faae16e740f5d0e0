//! The transformer architectures this version runs: one row each.

use crate::{
    Blueprint, WeightNames,
    arch::{bert, qwen3},
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
pub const ARCHITECTURES: &[Architecture] =
    &[Architecture { name: "bert", parse: bert::parse }, Architecture { name: "qwen3", parse: qwen3::parse }];

impl Architecture {
    /// The architecture of a `config.json`.
    pub fn of(config: &Value) -> Result<Self> {
        let name =
            Config::of(config)?.text("model_type")?.ok_or_else(|| malformed("model_type: the key is missing"))?;
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
