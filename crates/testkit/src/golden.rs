//! Golden models: a tiny folder and what the reference computes for it.
//!
//! `cargo xtask golden` writes them. A golden that differs from another in a few files holds only those; it is put together in a
//! temporary folder when it is loaded.

use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

/// One row of reference values a text, computed in f64.
pub type Rows = Vec<Vec<f64>>;

/// A model folder with its texts and the reference's results.
#[derive(Debug)]
pub struct Golden {
    /// The whole model.
    pub folder: PathBuf,
    /// The texts.
    pub texts: Vec<String>,
    /// A text by its place, and its rows behind the last block, without a prompt; none for static models.
    pub hidden: Option<(usize, Rows)>,
    /// The ids of each text, special tokens and truncation included, without a prompt.
    pub ids: Vec<Vec<u32>>,
    /// The embedding of each text, with the model's default prompt if it has one.
    pub embeddings: Rows,
    /// The embedding of each text under each prompt by name.
    pub prompts: BTreeMap<String, Rows>,
    /// The embedding of each text without a prompt, where the model has prompts.
    pub unprompted: Option<Rows>,
    assembled: Option<TempDir>,
}

impl Golden {
    /// The folder of all goldens.
    pub fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/golden")
    }

    /// The names of all goldens, sorted.
    pub fn names() -> Vec<String> {
        let root = Self::root();
        let entries = fs::read_dir(&root).unwrap_or_else(|e| panic!("{}: {e}", root.display()));
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("a readable folder").path())
            .filter(|path| path.join("golden.json").is_file())
            .map(|path| path.file_name().expect("a named folder").to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// Loads the golden called `name`.
    ///
    /// # Panics
    /// Where it is not there or not whole.
    pub fn load(name: &str) -> Self {
        let part = Self::root().join(name);
        let file = part.join("golden.json");
        let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));

        let assembled = value["over"].as_str().map(|base| {
            let whole = tempfile::tempdir().expect("a temporary folder");
            copy(&Self::root().join(base), whole.path());
            for absent in list(&value["without"]) {
                fs::remove_file(whole.path().join(absent.as_str().expect("a file name"))).expect("a file of the base");
            }
            copy(&part, whole.path());
            whole
        });
        let prompts = value["prompts"].as_object().into_iter().flatten();
        Self {
            folder: assembled.as_ref().map_or(part, |whole| whole.path().to_owned()),
            texts: list(&value["texts"]).iter().map(|v| v.as_str().expect("a text").to_owned()).collect(),
            hidden: value["hidden"]["text"].as_u64().map(|text| (text as usize, rows(&value["hidden"]["rows"]))),
            ids: list(&value["ids"]).iter().map(|row| list(row).iter().map(id).collect()).collect(),
            embeddings: rows(&value["embeddings"]),
            prompts: prompts.map(|(name, value)| (name.clone(), rows(value))).collect(),
            unprompted: value.get("unprompted").map(rows),
            assembled,
        }
    }

    /// A copy of the model in a folder of its own, for tests that change files.
    pub fn copy_of(&self) -> TempDir {
        let copied = tempfile::tempdir().expect("a temporary folder");
        copy(&self.folder, copied.path());
        copied
    }

    /// Whether the model lies in a temporary folder, which is removed with this value.
    pub fn is_assembled(&self) -> bool {
        self.assembled.is_some()
    }
}

pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub(crate) fn id(value: &Value) -> u32 {
    value.as_u64().and_then(|id| id.try_into().ok()).expect("a token id")
}

pub(crate) fn rows(value: &Value) -> Rows {
    let row = |row: &Value| list(row).iter().map(|v| v.as_f64().expect("a number")).collect();
    list(value).iter().map(row).collect()
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a writable folder");
    for entry in fs::read_dir(from).unwrap_or_else(|e| panic!("{}: {e}", from.display())) {
        let path = entry.expect("a readable folder").path();
        let target = to.join(path.file_name().expect("a named file"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            // Not fs::copy: a read-only checkout must not make a copy that cannot be changed.
            fs::write(&target, fs::read(&path).expect("a readable file")).expect("a writable file");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_golden_is_a_folder_with_a_row_a_text() {
        let names = Golden::names();
        assert!(names.contains(&"tiny_bert".to_owned()), "{names:?}");
        for name in names {
            let golden = Golden::load(&name);
            let texts = golden.texts.len();
            assert!(texts > 0 && golden.embeddings.len() == texts && golden.ids.len() == texts, "{name}");
            for rows in golden.prompts.values().chain(&golden.unprompted) {
                assert_eq!(rows.len(), texts, "{name}");
            }
            let width = golden.embeddings[0].len();
            assert!(golden.embeddings.iter().all(|row| row.len() == width), "{name}");
            if let Some((text, rows)) = &golden.hidden {
                assert_eq!(rows.len(), golden.ids[*text].len(), "{name}");
            }
            let has = |file: &str| golden.folder.join(file).is_file();
            assert!(has("modules.json") || has("model.gguf"), "{name}");
        }
    }

    #[test]
    fn a_golden_over_another_has_the_files_of_both() {
        let sharded = Golden::load("tiny_bert_sharded");
        assert!(sharded.is_assembled() && sharded.folder.join("tokenizer.json").is_file());
        assert!(!sharded.folder.join("model.safetensors").exists());
        assert!(sharded.folder.join("model.safetensors.index.json").is_file());
        let copied = sharded.copy_of();
        fs::write(copied.path().join("config.json"), "{}").expect("the copy can be changed");
    }
}
