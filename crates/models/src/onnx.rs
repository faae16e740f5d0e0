//! A folder with an exported ONNX graph: which file is meant, and what `config.json` says around it.
//!
//! The layouts are those of `optimum` and of sentence-transformers: `model.onnx` in the folder of the transformer, or in `onnx/` below the
//! model's folder or the transformer's.

use crate::{
    Architecture,
    config::{self, Config, limit, unsupported},
};
use embral_types::{Error, ErrorKind, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The ending of these files.
const EXTENSION: &str = "onnx";
/// The graph that is meant where none is named.
const FILE: &str = "model.onnx";
/// The folder of graphs.
const FOLDER: &str = "onnx";

/// Whether a folder's ONNX graph is run, and which.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OnnxChoice {
    /// `model.onnx` or `onnx/model.onnx`, where there are no weights that are read as such.
    #[default]
    IfAlone,
    /// `model.onnx` or `onnx/model.onnx`, whatever else there is.
    Always,
    /// This file, by its path below the model's folder or by its name in `onnx/`.
    File(PathBuf),
}

impl OnnxChoice {
    /// Whether a graph is asked for.
    pub fn is_named(&self) -> bool {
        *self != Self::IfAlone
    }
}

/// A graph, and what the files around it say of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphSpec {
    /// The file.
    pub file: PathBuf,
    /// The `model_type` of `config.json`, where it is there.
    pub architecture: Option<String>,
    /// Components of a token's row, where the configuration says.
    pub width: Option<usize>,
    /// The most tokens of a text, where the configuration says.
    pub positions: Option<usize>,
}

/// Whether a path has the ending of an ONNX file.
pub fn is_onnx(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case(EXTENSION))
}

/// The folder of the model that a file belongs to: the one that holds it, or the one above `onnx/` where the model is described there.
pub(crate) fn folder_of(file: &Path) -> PathBuf {
    let here = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // `.` and `..` have no name.
    let real = here.canonicalize().unwrap_or_else(|_| here.to_owned());
    let above = real.parent().filter(|_| real.file_name().is_some_and(|name| name == FOLDER));
    let describes = |folder: &&Path| ["modules.json", "config.json"].iter().any(|name| folder.join(name).is_file());
    above.filter(describes).map_or_else(|| here.to_owned(), Path::to_owned)
}

/// The graph that is meant in a model's folder, `at` being that of its transformer; none where weights are run in its place.
pub(crate) fn find(root: &Path, at: &Path, choice: &OnnxChoice, weights: bool) -> Result<Option<PathBuf>> {
    let folders = [at.to_owned(), at.join(FOLDER), root.to_owned(), root.join(FOLDER)];
    let search = |name: &Path| folders.iter().map(|folder| folder.join(name)).find(|file| file.is_file());
    let missing = |message: String| {
        let mut names: Vec<String> = folders.iter().flat_map(|folder| list(root, folder)).collect();
        names.sort();
        names.dedup();
        let hint = match &names[..] {
            [] => "leave --onnx out, or export the model to ONNX".to_owned(),
            names => format!("name one of {} (--onnx=FILE, or Config::onnx)", names.join(", ")),
        };
        Err(Error::new(ErrorKind::NotFound, message).in_file(root).hint(hint))
    };
    match choice {
        OnnxChoice::File(name) => {
            // A path of its own, as a shell completes it.
            let found = search(name).or_else(|| Some(name.clone()).filter(|file| file.is_file() && is_onnx(file)));
            match found {
                Some(file) => Ok(Some(file)),
                None => missing(format!("there is no graph {}", name.display())),
            }
        }
        OnnxChoice::Always => match search(Path::new(FILE)) {
            Some(file) => Ok(Some(file)),
            None => missing(format!("expected {FILE} or {FOLDER}/{FILE}, found neither")),
        },
        OnnxChoice::IfAlone if weights => Ok(None),
        OnnxChoice::IfAlone => match search(Path::new(FILE)) {
            Some(file) => Ok(Some(file)),
            None if folders.iter().any(|folder| !list(root, folder).is_empty()) => {
                missing(format!("expected {FILE} or {FOLDER}/{FILE}, found other graphs"))
            }
            None => Ok(None),
        },
    }
}

/// The graphs in a folder, as they are named from `root`.
fn list(root: &Path, folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let files = entries.filter(|path| is_onnx(path) && path.is_file());
    files.map(|path| path.strip_prefix(root).unwrap_or(&path).display().to_string()).collect()
}

/// The graph in `file` with what `config` says; a configuration of an architecture that is not known says less.
pub(crate) fn spec(file: PathBuf, config: &Value) -> Result<GraphSpec> {
    if let Ok((blueprint, _)) = Architecture::of(config).and_then(|architecture| (architecture.parse)(config)) {
        return Ok(GraphSpec {
            file,
            architecture: Config::of(config)?.text("model_type")?.map(str::to_owned),
            width: Some(blueprint.hidden),
            positions: Some(blueprint.max_positions),
        });
    }
    let config = Config::of(config)?;
    let first = |keys: &[&str], range: std::ops::RangeInclusive<usize>| {
        let found = keys.iter().map(|key| config.optional_number(key, range.clone()));
        found.collect::<Result<Vec<_>>>().map(|numbers| numbers.into_iter().flatten().next())
    };
    Ok(GraphSpec {
        file,
        architecture: config.text("model_type")?.map(str::to_owned),
        width: first(&["hidden_size", "d_model", "dim", "n_embd"], limit::WIDTH)?,
        positions: first(&["max_position_embeddings", "n_positions"], limit::POSITIONS)?,
    })
}

/// The `config.json` of a folder with a graph; nothing in place of one that is not there.
pub(crate) fn config(folder: &Path) -> Result<Value> {
    Ok(config::read(&folder.join("config.json"))?.unwrap_or_else(|| Value::Object(serde_json::Map::new())))
}

/// The error where weights are wanted of a model that is a graph.
pub(crate) fn no_weights(file: &Path) -> Error {
    unsupported("an ONNX graph is run as it is, and gives one vector a text; this needs the weights of the model")
        .in_file(file)
        .hint("take the model in safetensors")
}
