//! Golden models of other tasks than one vector a text: a tiny folder, and what the reference computes for it.

use crate::golden::{Golden, Rows, copy, id, list, rows};
use serde_json::Value;
use std::{fs, path::PathBuf};
use tempfile::TempDir;

/// A model folder and the reference's results by name.
#[derive(Debug)]
pub struct TaskGolden {
    value: Value,
    whole: TempDir,
}

/// Ids and weights of one text.
pub type SparseRow = (Vec<u32>, Vec<f64>);

impl TaskGolden {
    /// Loads the golden called `name`, put together in a temporary folder.
    ///
    /// # Panics
    /// Where it is not there or not whole.
    pub fn load(name: &str) -> Self {
        let whole = tempfile::tempdir().expect("a temporary folder");
        let value = assemble(name, &whole);
        Self { value, whole }
    }

    /// The model.
    pub fn folder(&self) -> PathBuf {
        self.whole.path().to_owned()
    }

    /// The texts.
    pub fn texts(&self) -> Vec<String> {
        list(&self.value["texts"]).iter().map(text).collect()
    }

    /// The pairs of texts.
    pub fn pairs(&self) -> Vec<(String, String)> {
        list(&self.value["pairs"]).iter().map(|pair| (text(&pair[0]), text(&pair[1]))).collect()
    }

    /// The ids of each pair, where they are told.
    pub fn pair_ids(&self) -> Vec<Vec<u32>> {
        list(&self.value["pair_ids"]).iter().map(|pair| list(&pair["ids"]).iter().map(id).collect()).collect()
    }

    /// Rows of numbers under a name.
    pub fn rows(&self, name: &str) -> Rows {
        rows(&self.value[name])
    }

    /// Rows of numbers for each text under a name.
    pub fn tokens(&self, name: &str) -> Vec<Rows> {
        list(&self.value[name]).iter().map(rows).collect()
    }

    /// The names under `labels`.
    pub fn labels(&self) -> Vec<String> {
        list(&self.value["labels"]).iter().map(text).collect()
    }

    /// Ids and weights of each text.
    pub fn sparse(&self) -> Vec<SparseRow> {
        let row = |row: &Value| {
            let weights = list(&row["weights"]).iter().map(|w| w.as_f64().expect("a weight")).collect();
            (list(&row["ids"]).iter().map(id).collect(), weights)
        };
        list(&self.value["sparse"]).iter().map(row).collect()
    }
}

/// Copies the files of a golden, and before them of what it is over, into `whole`; the content of its `tasks.json`.
fn assemble(name: &str, whole: &TempDir) -> Value {
    let part = Golden::root().join(name);
    let file = part.join("tasks.json");
    let value: Value = match fs::read_to_string(&file) {
        Ok(text) => serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display())),
        Err(_) => Value::Null,
    };
    if let Some(base) = value["over"].as_str() {
        assemble(base, whole);
        for absent in list(&value["without"]) {
            fs::remove_file(whole.path().join(text(absent))).expect("a file of the base");
        }
    }
    copy(&part, whole.path());
    value
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}
