//! The models known by name: what their own folders do not say, and what a person chooses by.
//!
//! The table is catalogue.json, which is read once, at the first question. What a folder says is believed over what stands there, and
//! what is not known is not there.

use crate::{ARCHITECTURES, Task};
use embral_types::Pooling;
use serde::{Deserialize, Deserializer, de::Error as _};
use std::{collections::BTreeMap, sync::LazyLock};

/// A known model.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The short name, as `all-MiniLM-L6-v2`.
    pub name: String,
    /// The name on the hub, `org/name`.
    pub repo: String,
    /// Other names that people know it by.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// What it is for.
    pub task: Task,
    /// The `model_type` of its configuration; `static` for tables of token vectors.
    pub architecture: Option<String>,
    /// Blocks of a transformer.
    pub layers: Option<usize>,
    /// The width of a token row.
    pub hidden: Option<usize>,
    /// Components of the embedding; of a reranker, its one score, and of a sparse model, the entries of its vocabulary.
    pub dims: usize,
    /// The most tokens of a text; `None` where nothing limits them.
    pub max_tokens: Option<usize>,
    /// How token rows become one vector.
    #[serde(default, deserialize_with = "pooling")]
    pub pooling: Option<Pooling>,
    /// Whether vectors have length 1.
    pub normalize: Option<bool>,
    /// Named prompts: `query` and `document` where the model distinguishes them.
    #[serde(default)]
    pub prompts: BTreeMap<String, String>,
    /// The widths the embedding may be cut to, largest first.
    #[serde(default)]
    pub matryoshka: Vec<usize>,
    /// Whether a vector is layer-normed, without scale and shift, before it is cut.
    #[serde(default)]
    pub norm_before_cut: bool,
    /// Parameters, in millions.
    pub parameters: Option<f32>,
    /// Those of the table of token rows, in millions: they are looked up, not multiplied, and stay f32 in every precision.
    pub table_parameters: Option<f32>,
    /// Megabytes of the weight file.
    pub size_mb: Option<u32>,
    /// SPDX identifier of the weights' licence.
    pub licence: Option<String>,
    /// What goes wrong with it most easily, and what else to know.
    #[serde(default)]
    pub notes: Vec<String>,
}

impl Entry {
    /// Whether this version runs it: whether its architecture is one that is read.
    pub fn supported(&self) -> bool {
        let name = self.architecture.as_deref();
        name.is_some_and(|name| name == STATIC || ARCHITECTURES.iter().any(|a| a.name == name))
    }
}

/// A name for a need, and the model that is chosen for it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// The name of the need.
    pub name: String,
    /// The name of the model: of an [`Entry`], or of the model inside the library.
    pub model: String,
    /// Why it was chosen.
    pub why: String,
}

/// The architecture of tables of token vectors.
const STATIC: &str = "static";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Catalogue {
    presets: Vec<Preset>,
    models: Vec<Entry>,
}

static CATALOGUE: LazyLock<Catalogue> =
    LazyLock::new(|| serde_json::from_str(include_str!("catalogue.json")).expect("a test reads the catalogue"));

/// Every known model.
pub fn entries() -> &'static [Entry] {
    &CATALOGUE.models
}

/// Every preset.
pub fn presets() -> &'static [Preset] {
    &CATALOGUE.presets
}

/// The preset called `name`, in any case.
pub fn preset(name: &str) -> Option<&'static Preset> {
    presets().iter().find(|preset| preset.name.eq_ignore_ascii_case(name))
}

/// The model called `name`: a short name, `org/name`, an alias, or a preset, in any case.
pub fn find(name: &str) -> Option<&'static Entry> {
    let name = preset(name).map_or(name, |preset| &preset.model);
    let is = |known: &str| known.eq_ignore_ascii_case(name);
    entries().iter().find(|e| is(&e.name) || is(&e.repo) || e.aliases.iter().any(|alias| is(alias)))
}

fn pooling<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Pooling>, D::Error> {
    let name = <&str>::deserialize(from)?;
    name.parse().map(Some).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_found_short_and_long_by_alias_and_need_in_any_case() {
        for name in [
            "all-MiniLM-L6-v2",
            "ALL-minilm-l6-V2",
            "sentence-transformers/all-minilm-l6-v2",
            "all-minilm",
            "Efficient",
        ] {
            assert_eq!(find(name).unwrap().dims, 384, "{name}");
        }
        assert!(find("all-MiniLM-L").is_none() && find("").is_none());
    }

    #[test]
    fn every_entry_is_whole_and_alone_under_its_names() {
        let mut names: BTreeSet<String> = presets().iter().map(|preset| preset.name.clone()).collect();
        for entry in entries() {
            let name = &*entry.name;
            for known in [&entry.name, &entry.repo].into_iter().chain(&entry.aliases) {
                assert!(names.insert(known.to_lowercase()), "{known} twice");
            }
            assert_eq!(entry.repo.split_once('/').map(|(_, name)| name), Some(name));
            assert!(entry.aliases.iter().all(|alias| !alias.contains('/')), "{name}");
            assert!(entry.matryoshka.first().is_none_or(|&first| first == entry.dims), "{name}");
            assert!(entry.matryoshka.is_sorted_by(|a, b| a > b), "{name}");
            if let (Some(size), Some(parameters)) = (entry.size_mb, entry.parameters) {
                assert!(size as f32 > parameters * 1.9, "{name}: no weight takes less than two bytes");
            }
            assert_eq!(entry.pooling.is_some(), entry.task == Task::Embedding, "{name}");
            assert!(entry.notes.iter().all(|note| note.ends_with('.')), "{name}");
            for (role, text) in &entry.prompts {
                assert!(["query", "document", "classification", "clustering"].contains(&&**role), "{name}: {role}");
                assert!(!text.is_empty() || role == "document", "{name}: {role} is empty");
            }
        }
    }

    #[test]
    fn every_architecture_is_one_that_is_read_but_of_those_that_say_so() {
        let not_run: Vec<&str> = entries().iter().filter(|e| !e.supported()).map(|e| &*e.name).collect();
        assert_eq!(not_run, ["jina-embeddings-v3", "embeddinggemma-2"]);
    }

    #[test]
    fn every_preset_is_an_embedding_model_that_runs() {
        let names: Vec<&str> = presets().iter().map(|p| &*p.name).collect();
        assert_eq!(names, ["ultra-efficient", "efficient", "high-quality", "multilingual", "code", "long"]);
        for preset in presets() {
            let Some(entry) = find(&preset.name) else {
                assert_eq!(preset.name, "ultra-efficient", "only the model inside the library is no entry");
                continue;
            };
            assert_eq!((&entry.name, entry.task), (&preset.model, Task::Embedding));
            assert!(entry.supported() && !preset.why.is_empty() && entry.licence.is_some(), "{}", preset.name);
        }
    }
}
