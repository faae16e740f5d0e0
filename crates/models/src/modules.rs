//! `modules.json`: the modules of a sentence-transformers folder.

use crate::config::{self, Config, malformed, unsupported};
use embral_types::Result;
use serde_json::Value;
use std::path::{Component, Path};

/// The most modules in a folder; real ones have two to four.
const MOST: usize = 64;

/// One module: what it is, and where in the folder its files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// What it does.
    pub kind: ModuleKind,
    /// Its folder below the model's; empty for the model's own.
    pub path: String,
}

/// The modules this version runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModuleKind {
    /// A transformer of the transformers library.
    Transformer,
    /// Token rows to one vector.
    Pooling,
    /// A linear layer.
    Dense,
    /// L2 normalisation.
    Normalize,
    /// A layer norm.
    LayerNorm,
    /// A table of token vectors.
    StaticEmbedding,
    /// A transformer with its head of a masked language model.
    MlmTransformer,
    /// Logits of vocabulary entries to a sparse vector.
    SpladePooling,
    /// Which tokens have a vector.
    MultiVectorMask,
    /// Logits of the next token to a score.
    LogitScore,
}

/// Module types are Python paths whose front differs between versions of sentence-transformers; the last component does not.
const KINDS: [(&str, ModuleKind); 10] = [
    ("Transformer", ModuleKind::Transformer),
    ("Pooling", ModuleKind::Pooling),
    ("Dense", ModuleKind::Dense),
    ("Normalize", ModuleKind::Normalize),
    ("LayerNorm", ModuleKind::LayerNorm),
    ("StaticEmbedding", ModuleKind::StaticEmbedding),
    ("MLMTransformer", ModuleKind::MlmTransformer),
    ("SpladePooling", ModuleKind::SpladePooling),
    ("MultiVectorMask", ModuleKind::MultiVectorMask),
    ("LogitScore", ModuleKind::LogitScore),
];

/// Reads the bytes of a `modules.json`.
pub fn parse_modules(json: &[u8]) -> Result<Vec<Module>> {
    parse(&config::from_bytes(json)?)
}

pub(crate) fn parse(value: &Value) -> Result<Vec<Module>> {
    let Value::Array(modules) = value else {
        return Err(malformed(format!("expected a list of modules, found {}", config::brief(value))));
    };
    if modules.is_empty() || modules.len() > MOST {
        return Err(malformed(format!("expected 1 to {MOST} modules, found {}", modules.len())));
    }
    modules.iter().map(parse_module).collect()
}

fn parse_module(value: &Value) -> Result<Module> {
    let config = Config::of(value)?;
    let full = config.text("type")?.ok_or_else(|| malformed("type: the key of a module is missing"))?;
    let name = full.rsplit('.').next().unwrap_or(full);
    let Some((_, kind)) = KINDS.iter().find(|(known, _)| *known == name) else {
        let known = KINDS.map(|(known, _)| known).join(", ");
        return Err(unsupported(format!("unknown module {full:?}: expected one of {known}")));
    };
    let path = config.text("path")?.unwrap_or_default();
    let inside = Path::new(path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !inside {
        return Err(malformed(format!("path: expected a folder inside the model, found {path:?}")));
    }
    Ok(Module { kind: *kind, path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_generations_of_type_names_are_one() {
        let modules = parse_modules(
            br#"[{"idx":0,"name":"0","path":"","type":"sentence_transformers.models.Transformer"},
                {"idx":1,"name":"1","path":"1_Pooling","type":"sentence_transformers.sentence_transformer.modules.pooling.Pooling"},
                {"idx":2,"path":"2_Normalize","type":"sentence_transformers.base.modules.Normalize"}]"#,
        )
        .unwrap();
        let kinds: Vec<_> = modules.iter().map(|m| m.kind).collect();
        assert_eq!(kinds, [ModuleKind::Transformer, ModuleKind::Pooling, ModuleKind::Normalize]);
        assert_eq!(modules[1].path, "1_Pooling");
    }

    #[test]
    fn what_is_no_list_of_known_modules_inside_the_folder_is_refused() {
        let refused = |json: &str| parse_modules(json.as_bytes()).unwrap_err().to_string();
        assert!(refused(r#"[{"type":"my_code.WordWeights"}]"#).contains("unknown module \"my_code.WordWeights\""));
        assert!(refused("{}").contains("list of modules"));
        assert!(refused("[]").contains("found 0"));
        assert!(refused("[1]").contains("found 1"));
        assert!(refused(r#"[{"path":""}]"#).contains("type"));
        for path in ["../x", "/etc", "a/../../b"] {
            assert!(
                refused(&format!(r#"[{{"type":"Dense","path":"{path}"}}]"#)).contains("inside the model"),
                "{path}"
            );
        }
    }
}
