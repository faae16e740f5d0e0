//! `embral models info`: what a model is, on this machine or as the catalogue knows it.

use super::list;
use anyhow::Result;
use embral::{
    Classifier, Config, Embedder, Error, ErrorKind, GraphInfo, ModelInfo, MultiVectorEmbedder, Reranker,
    SparseEmbedder, Task,
    catalogue::{self, Entry},
    default_model,
    memory::{self, Memory},
};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
};

/// The object of `models info --json`. What is not known is null.
#[derive(serde::Serialize)]
struct About {
    name: String,
    /// `machine`, `server`, or `catalogue` where the model itself is not here.
    from: &'static str,
    repo: Option<String>,
    presets: Vec<&'static str>,
    task: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    labels: Vec<String>,
    path: Option<PathBuf>,
    architecture: Option<String>,
    dimensions: usize,
    matryoshka: Vec<usize>,
    max_tokens: Option<usize>,
    layers: Option<usize>,
    hidden: Option<usize>,
    parameters: Option<usize>,
    weight_bytes: Option<usize>,
    pooling: Option<&'static str>,
    normalize: Option<bool>,
    prompts: BTreeMap<String, String>,
    default_prompt: Option<String>,
    precision: &'static str,
    licence: Option<String>,
    memory: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    graph: Option<Graph>,
    notes: Vec<String>,
}

/// The exported graph of a model.
#[derive(serde::Serialize)]
struct Graph {
    file: PathBuf,
    inputs: Vec<String>,
    output: String,
    pooled: bool,
    operators: usize,
    opset: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    producer: Option<String>,
    integers: bool,
    device: String,
}

/// Bytes of memory.
#[derive(serde::Serialize)]
struct Bytes {
    estimated: bool,
    weights: BTreeMap<&'static str, usize>,
    batch: Option<Work>,
    longest: Option<Work>,
}

#[derive(serde::Serialize)]
struct Work {
    tokens: usize,
    bytes: usize,
}

pub(super) fn run(name: Option<&str>, json: bool) -> Result<String> {
    let config = Config { model: name.map(str::to_owned), warm_up: false, ..Config::default() };
    // Looking at a model does not fetch it; one behind an address is asked.
    let config = Config { offline: !config.is_remote(), ..config };
    let entry = config.named().and_then(catalogue::find);
    let about = match (here(&config, entry), entry) {
        (Err(e), Some(entry)) if is_absent(&e) => known(entry),
        (found, _) => found?,
    };
    if json { Ok(serde_json::to_string_pretty(&about)? + "\n") } else { table(&about) }
}

/// Whether an error says that the model is not on this machine.
fn is_absent(e: &anyhow::Error) -> bool {
    e.downcast_ref::<Error>().is_some_and(|e| matches!(e.kind(), ErrorKind::Offline | ErrorKind::NotFound))
}

/// The model itself.
fn here(config: &Config, entry: Option<&Entry>) -> Result<About> {
    let task = embral::task(config)?;
    let memory = if config.is_remote() { None } else { memory::of(config)?.map(bytes) };
    let remote = config.is_remote();
    let config = config.clone();
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
    // A folder is known by its own name where nothing else names it.
    let folder = || catalogue::find(info.path.as_ref()?.file_name()?.to_str()?);
    let entry = entry.or_else(folder);
    let licence = Some(default_model::LICENCE.to_owned()).filter(|_| info.name == default_model::NAME);
    let licence =
        licence.or_else(|| info.path.as_deref().and_then(licence_of)).or_else(|| entry.and_then(|e| e.licence.clone()));
    let local = |value: usize| Some(value).filter(|_| !remote);
    Ok(About {
        presets: list::presets_of(&info.name),
        from: if remote { "server" } else { "machine" },
        repo: entry.map(|e| e.repo.clone()),
        task: task.name(),
        labels,
        path: info.path,
        architecture: Some(info.architecture),
        dimensions: info.dimensions,
        matryoshka: info.matryoshka,
        max_tokens: Some(info.max_tokens).filter(|&n| n < usize::MAX),
        layers: local(info.layers),
        hidden: local(info.hidden),
        parameters: local(info.parameters),
        weight_bytes: local(info.weight_bytes),
        pooling: Some(info.pooling.name()).filter(|_| task == Task::Embedding && !remote),
        normalize: Some(info.normalize),
        prompts: info.prompts,
        default_prompt: info.default_prompt,
        precision: info.precision.name(),
        licence,
        memory,
        graph: info.graph.map(|found| graph(found, info.device)),
        notes: entry.map_or_else(Vec::new, |e| e.notes.clone()),
        name: info.name,
    })
}

/// What the catalogue says of a model that is not on this machine.
fn known(entry: &Entry) -> About {
    let many = |millions: f32| (f64::from(millions) * 1e6) as usize;
    About {
        name: entry.name.clone(),
        from: "catalogue",
        repo: Some(entry.repo.clone()),
        presets: list::presets_of(&entry.name),
        task: list::task_name(entry.task),
        labels: Vec::new(),
        path: None,
        architecture: entry.architecture.clone(),
        dimensions: entry.dims,
        matryoshka: entry.matryoshka.clone(),
        max_tokens: entry.max_tokens,
        layers: entry.layers,
        hidden: entry.hidden,
        parameters: entry.parameters.map(many),
        weight_bytes: entry.size_mb.map(|size| size as usize * 1_000_000),
        pooling: entry.pooling.map(embral::Pooling::name),
        normalize: entry.normalize,
        prompts: entry.prompts.clone(),
        default_prompt: None,
        precision: "f32",
        licence: entry.licence.clone(),
        memory: memory::estimate(entry).map(bytes),
        graph: None,
        notes: entry.notes.clone(),
    }
}

fn graph(found: GraphInfo, device: String) -> Graph {
    let GraphInfo { file, inputs, output, pooled, operators, opset, producer, integers, .. } = found;
    Graph { file, inputs, output, pooled, operators, opset, producer, integers, device }
}

fn bytes(memory: Memory) -> Bytes {
    let work = |w: memory::Work| Work { tokens: w.tokens, bytes: w.bytes };
    Bytes {
        estimated: memory.estimated,
        weights: memory.weights.into_iter().map(|(precision, bytes)| (precision.name(), bytes)).collect(),
        batch: memory.batch.map(work),
        longest: memory.longest.map(work),
    }
}

/// `license` in the lines between dashes at the beginning of a README.md, as the hub has it.
fn licence_of(folder: &Path) -> Option<String> {
    let text = std::fs::read_to_string(folder.join("README.md")).ok()?;
    let mut lines = text.lines();
    lines.next().filter(|line| line.trim_end() == "---")?;
    let stated = lines.take_while(|line| line.trim_end() != "---").find_map(|line| line.strip_prefix("license:"))?;
    Some(stated.trim().trim_matches(['"', '\'']).to_owned()).filter(|name| !name.is_empty())
}

fn table(about: &About) -> Result<String> {
    let unknown = || "unknown".to_owned();
    let number = |n: Option<usize>| n.map_or_else(unknown, |n| n.to_string());
    let mut out = String::new();
    let mut row = |key: &str, value: &str| writeln!(out, "{key:<12}  {value}");
    row("name", &about.name)?;
    if about.from == "server" {
        row("kind", about.architecture.as_deref().unwrap_or_default())?;
        row("dimensions", &about.dimensions.to_string())?;
        if let Some(tokens) = about.max_tokens {
            row("max tokens", &tokens.to_string())?;
        }
        row("normalised", if about.normalize == Some(true) { "yes" } else { "no" })?;
        for name in about.prompts.keys() {
            row("prompt", &format!("{name}: of the server"))?;
        }
        return Ok(out);
    }
    match (&about.path, about.from) {
        (Some(path), _) => row("path", &path.display().to_string())?,
        (None, "catalogue") => row("path", &format!("not on this machine: embral models pull {}", about.name))?,
        (None, _) => row("path", "inside embral")?,
    }
    if let Some(repo) = &about.repo {
        row("repository", repo)?;
    }
    if !about.presets.is_empty() {
        row("preset", &about.presets.join(", "))?;
    }
    row("architecture", &about.architecture.clone().unwrap_or_else(unknown))?;
    row("task", about.task)?;
    if !about.labels.is_empty() {
        row("labels", &about.labels.join(", "))?;
    } else if !["sparse", "generation", "reranking"].contains(&about.task) {
        row("dimensions", &about.dimensions.to_string())?;
    }
    if !about.matryoshka.is_empty() {
        row("Matryoshka", &about.matryoshka.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))?;
    }
    let limit = about.max_tokens.map_or_else(|| "no limit".to_owned(), |n| n.to_string());
    row("max tokens", &limit)?;
    if about.graph.is_none() && about.layers != Some(0) && about.architecture.as_deref() != Some("static") {
        row("layers", &format!("{} of width {}", number(about.layers), number(about.hidden)))?;
    }
    if let Some(graph) = &about.graph {
        graph_rows(graph, &mut row)?;
    }
    row("parameters", &about.parameters.map_or_else(unknown, |n| format!("{:.1} million", n as f64 / 1e6)))?;
    row("weights", &about.weight_bytes.map_or_else(unknown, megabytes))?;
    if about.task == "embedding" {
        let pooled = about.graph.as_ref().is_some_and(|graph| graph.pooled);
        row("pooling", if pooled { "in the graph" } else { about.pooling.unwrap_or("unknown") })?;
        row("normalised", about.normalize.map_or("unknown", |yes| if yes { "yes" } else { "no" }))?;
    }
    row("precision", about.precision)?;
    for (name, text) in &about.prompts {
        let default = if about.default_prompt.as_ref() == Some(name) { " (default)" } else { "" };
        row("prompt", &format!("{name}{default}: {text:?}"))?;
    }
    row("licence", about.licence.as_deref().unwrap_or("unknown"))?;
    if let Some(memory) = &about.memory {
        let about = if memory.estimated { "about " } else { "" };
        // Most exact first, which is not the order of the alphabet.
        let of = |name: &&str| Some(format!("{name} {about}{}", megabytes(*memory.weights.get(*name)?)));
        let weights: Vec<String> = ["f32", "bf16", "int8"].iter().filter_map(of).collect();
        let estimated = if memory.estimated { "  (estimated from the number of parameters)" } else { "" };
        row("memory", &format!("{}{estimated}", weights.join(", ")))?;
        for work in memory.batch.iter().chain(&memory.longest) {
            row("", &format!("and {about}{} for {} tokens at once", megabytes(work.bytes), work.tokens))?;
        }
    }
    for note in &about.notes {
        row("note", note)?;
    }
    Ok(out)
}

/// What an exported graph is.
fn graph_rows(graph: &Graph, row: &mut dyn FnMut(&str, &str) -> std::fmt::Result) -> std::fmt::Result {
    row("graph", &graph.file.display().to_string())?;
    let producer = graph.producer.as_ref().map_or_else(String::new, |name| format!(", exported by {name}"));
    let numbers = if graph.integers { ", with 8-bit integers or weights of few bits" } else { "" };
    row("operators", &format!("{}, opset {}{producer}{numbers}", graph.operators, graph.opset))?;
    row("inputs", &graph.inputs.join(", "))?;
    let kind = if graph.pooled { "one vector a text" } else { "one row a token" };
    row("output", &format!("{}, {kind}", graph.output))?;
    row("runs on", &graph.device)
}

fn megabytes(bytes: usize) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
