//! `embral doctor`: what embral finds on this machine and what it would use.

use anyhow::Result;
use clap::Args;
use embral::{
    Config, Embedder, default_model,
    store::{PackedFolder, Store},
};
use std::{fmt::Write as _, io::Write as _, path::PathBuf, time::Instant};

/// Print what embral finds on this machine: CPU, memory, caches, models
#[derive(Args, Debug)]
pub(crate) struct Flags {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// The object of `--json`.
#[derive(serde::Serialize)]
struct Findings {
    version: &'static str,
    features: Vec<&'static str>,
    cpu: String,
    isa: String,
    isa_available: Vec<String>,
    bf16: Option<String>,
    int8: Option<String>,
    slow: Vec<&'static str>,
    cores: usize,
    threads: usize,
    memory_bytes: Option<u64>,
    memory_free_bytes: Option<u64>,
    hub_cache: PathBuf,
    imported: PathBuf,
    packed: Option<PathBuf>,
    packed_bytes: u64,
    vectors: Option<PathBuf>,
    vectors_bytes: u64,
    models: Vec<Model>,
    default_model: Option<&'static str>,
    environment: Vec<(&'static str, String)>,
    trial: Trial,
}

#[derive(serde::Serialize)]
struct Model {
    name: String,
    bytes: u64,
}

/// The default model on one text: the proof that this machine gives vectors.
#[derive(serde::Serialize)]
#[serde(untagged)]
enum Trial {
    Works { dimensions: usize, load_ms: f64, text_ms: f64 },
    Fails { error: String },
}

/// Variables that change what embral does.
const VARIABLES: [&str; 14] = [
    "EMBRAL_ISA",
    "EMBRAL_THREADS",
    "EMBRAL_HOME",
    "EMBRAL_CACHE",
    "EMBRAL_PACKED_CACHE",
    crate::vectors::VARIABLE,
    "EMBRAL_API_KEY",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "HF_ENDPOINT",
    "HF_HUB_OFFLINE",
    "HF_TOKEN",
    "HF_TOKEN_PATH",
];

/// Variables whose value is not shown.
const SECRET: [&str; 2] = ["HF_TOKEN", "EMBRAL_API_KEY"];

pub(crate) fn run(flags: &Flags) -> Result<()> {
    let findings = look()?;
    let out = if flags.json { serde_json::to_string_pretty(&findings)? + "\n" } else { print(&findings)? };
    Ok(std::io::stdout().write_all(out.as_bytes())?)
}

fn look() -> Result<Findings> {
    let cpu = embral::cpu();
    let store = Store::open_default()?;
    let packed = store.packed();
    let features = [
        ("default-model", cfg!(feature = "default-model")),
        ("hub", cfg!(feature = "hub")),
        ("import", cfg!(feature = "import")),
        ("parquet", cfg!(feature = "parquet")),
        ("remote", cfg!(feature = "remote")),
        ("vector-cache", cfg!(feature = "vector-cache")),
    ];
    let variable = |name: &'static str| {
        let value = std::env::var(name).ok()?;
        Some((name, if SECRET.contains(&name) { "set".to_owned() } else { value }))
    };
    Ok(Findings {
        version: env!("CARGO_PKG_VERSION"),
        features: features.into_iter().filter_map(|(name, on)| on.then_some(name)).collect(),
        cpu: cpu.name,
        isa: cpu.isa,
        isa_available: cpu.available,
        bf16: cpu.bf16,
        int8: cpu.int8,
        slow: cpu.slow.iter().map(|precision| precision.name()).collect(),
        cores: cpu.cores,
        threads: cpu.threads,
        memory_bytes: memory("MemTotal:"),
        memory_free_bytes: memory("MemAvailable:"),
        hub_cache: store.environment().hub_cache.clone(),
        imported: store.environment().imported.clone(),
        packed_bytes: packed.as_ref().map_or(Ok(0), PackedFolder::bytes)?,
        packed: packed.map(|p| p.path().to_owned()),
        vectors: store.environment().vectors.clone(),
        vectors_bytes: vectors_bytes(&store),
        models: store.list()?.into_iter().map(|m| Model { name: m.name, bytes: m.bytes }).collect(),
        default_model: cfg!(feature = "default-model").then_some(default_model::NAME),
        environment: VARIABLES.into_iter().filter_map(variable).collect(),
        trial: trial(),
    })
}

#[cfg(feature = "vector-cache")]
fn vectors_bytes(store: &Store) -> u64 {
    store.vectors().map_or(0, |vectors| vectors.bytes())
}

#[cfg(not(feature = "vector-cache"))]
fn vectors_bytes(_: &Store) -> u64 {
    0
}

fn trial() -> Trial {
    let start = Instant::now();
    let attempt = || -> embral::Result<Trial> {
        let embedder = Embedder::with_config(Config::default())?;
        let load_ms = start.elapsed().as_secs_f64() * 1e3;
        let begin = Instant::now();
        let dimensions = embedder.embed("a cat sat on the mat")?.len();
        Ok(Trial::Works { dimensions, load_ms, text_ms: begin.elapsed().as_secs_f64() * 1e3 })
    };
    attempt().unwrap_or_else(|e| Trial::Fails { error: e.to_string() })
}

/// A line of Linux's memory figures, in bytes; nothing on other systems.
fn memory(key: &str) -> Option<u64> {
    let figures = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = figures.lines().find_map(|l| l.strip_prefix(key))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

fn print(f: &Findings) -> Result<String> {
    let mut out = String::new();
    let mut row = |key: &str, value: &str| writeln!(out, "{key:<14}  {value}");
    row("embral", &format!("{} ({})", f.version, f.features.join(", ")))?;
    row("CPU", &f.cpu)?;
    row("instructions", &format!("{} (of {})", f.isa, f.isa_available.join(", ")))?;
    for (precision, dots) in [("bf16", &f.bf16), ("int8", &f.int8)] {
        let what = dots.as_deref().unwrap_or("no instructions of its own");
        let slow = if f.slow.contains(&precision) { ": no faster than f32 here" } else { "" };
        row(precision, &format!("{what}{slow}"))?;
    }
    row("threads", &format!("{} on {} cores", f.threads, f.cores))?;
    if let (Some(all), Some(free)) = (f.memory_bytes, f.memory_free_bytes) {
        row("memory", &format!("{:.1} GB, {:.1} GB free", all as f64 / 1e9, free as f64 / 1e9))?;
    }
    row("hub cache", &f.hub_cache.display().to_string())?;
    row("imported into", &f.imported.display().to_string())?;
    if let Some(packed) = &f.packed {
        row("packed weights", &format!("{} ({:.1} MB)", packed.display(), f.packed_bytes as f64 / 1e6))?;
    }
    if let Some(vectors) = f.vectors.as_ref().filter(|_| f.vectors_bytes > 0) {
        row("vector cache", &format!("{} ({:.1} MB)", vectors.display(), f.vectors_bytes as f64 / 1e6))?;
    }
    if f.models.is_empty() {
        row("models", "none yet (embral models pull NAME, or embral models import FILE)")?;
    }
    for (i, model) in f.models.iter().enumerate() {
        let key = if i == 0 { "models" } else { "" };
        row(key, &format!("{} ({:.1} MB)", model.name, model.bytes as f64 / 1e6))?;
    }
    row("default model", f.default_model.unwrap_or("none in this build: name one with -m"))?;
    for (i, (name, value)) in f.environment.iter().enumerate() {
        row(if i == 0 { "environment" } else { "" }, &format!("{name}={value}"))?;
    }
    match &f.trial {
        Trial::Works { dimensions, load_ms, text_ms } => row(
            "trial",
            &format!("a vector of {dimensions} components: opened in {load_ms:.1} ms, embedded in {text_ms:.2} ms"),
        )?,
        Trial::Fails { error } => row("trial", &format!("failed: {error}"))?,
    }
    Ok(out)
}
