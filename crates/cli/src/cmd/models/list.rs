//! `embral models list`: the models on this machine, those that are known by name, and the presets.

use anyhow::Result;
use embral::{
    Task, catalogue, default_model,
    store::{Store, StoredSource},
};
use std::{fmt::Write as _, path::Path};

/// A row of `models list --json`.
#[derive(serde::Serialize)]
struct Row<'a> {
    name: &'a str,
    source: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a Path>,
    presets: Vec<&'a str>,
}

pub(super) fn here(json: bool) -> Result<String> {
    let stored = Store::open_default()?.list()?;
    let mut rows = Vec::new();
    if cfg!(feature = "default-model") {
        let presets = presets_of(default_model::NAME);
        rows.push(Row { name: default_model::NAME, source: "embral", bytes: None, path: None, presets });
    }
    rows.extend(stored.iter().map(|model| Row {
        name: &model.name,
        source: source(model.source),
        bytes: Some(model.bytes),
        path: Some(&model.path),
        presets: presets_of(&model.name),
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
    writeln!(out, "\npreset           model")?;
    for preset in catalogue::presets() {
        let there = rows.iter().any(|row| row.presets.contains(&&*preset.name));
        let fetch = if there { "" } else { "  (not on this machine)" };
        writeln!(out, "{:<15}  {}{fetch}", preset.name, preset.model)?;
    }
    Ok(out)
}

fn source(source: StoredSource) -> &'static str {
    match source {
        StoredSource::Hub => "hub",
        StoredSource::Imported => "imported",
    }
}

/// The presets that stand for a model, by any of its names.
pub(super) fn presets_of(name: &str) -> Vec<&'static str> {
    let name = catalogue::find(name).map_or(name, |entry| &entry.name);
    catalogue::presets().iter().filter(|preset| preset.model == name).map(|preset| &*preset.name).collect()
}

/// A row of `models list --catalogue --json`.
#[derive(serde::Serialize)]
struct Known<'a> {
    name: &'a str,
    repo: &'a str,
    aliases: &'a [String],
    presets: Vec<&'a str>,
    task: &'a str,
    architecture: Option<&'a str>,
    dims: usize,
    matryoshka: &'a [usize],
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<usize>,
    parameters: Option<f32>,
    size_mb: Option<u32>,
    licence: Option<&'a str>,
    supported: bool,
}

pub(super) fn known(json: bool) -> Result<String> {
    let rows: Vec<Known<'_>> = catalogue::entries()
        .iter()
        .map(|e| Known {
            name: &e.name,
            repo: &e.repo,
            aliases: &e.aliases,
            presets: presets_of(&e.name),
            task: task_name(e.task),
            architecture: e.architecture.as_deref(),
            dims: e.dims,
            matryoshka: &e.matryoshka,
            max_tokens: e.max_tokens,
            parameters: e.parameters,
            size_mb: e.size_mb,
            licence: e.licence.as_deref(),
            supported: e.supported(),
        })
        .collect();
    if json {
        return Ok(serde_json::to_string_pretty(&rows)? + "\n");
    }
    let width = rows.iter().map(|r| r.repo.len()).max().unwrap_or(4);
    let mut out = format!(
        "{:<width$}  {:<12}  {:>5}  {:>6}  {:>8}  {:<16}  {:<7}  preset\n",
        "name", "task", "dims", "tokens", "size", "licence", "runs"
    );
    for r in &rows {
        let runs = if r.supported { "yes" } else { "not yet" };
        let (dims, tokens) = (r.dims, r.max_tokens.map_or_else(|| "any".to_owned(), |n| n.to_string()));
        let size = r.size_mb.map_or_else(|| "unknown".to_owned(), |size| format!("{size} MB"));
        let (repo, task, licence) = (r.repo, r.task, r.licence.unwrap_or("unknown"));
        let line = format!(
            "{repo:<width$}  {task:<12}  {dims:>5}  {tokens:>6}  {size:>8}  {licence:<16}  {runs:<7}  {}",
            r.presets.join(", ")
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(out)
}

/// What a model of the catalogue is for: those that score or answer are rerankers.
pub(super) fn task_name(task: Task) -> &'static str {
    match task {
        Task::Classification | Task::Generation => "reranking",
        other => other.name(),
    }
}
