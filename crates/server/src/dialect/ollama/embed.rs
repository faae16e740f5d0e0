//! `/api/embed` and `/api/embeddings`.

use super::{Named, duration::KeepAlive, not_found, read};
use crate::{
    failure::Failure,
    front::{Asked, json},
    models::Lease,
    pipeline::{Item, Wish},
};
use axum::response::Response;
use embral::{Truncation, serving::Wanted};
use serde::{Deserialize, Serialize};
use std::time::Instant;

#[derive(Debug, Deserialize)]
struct Embed {
    #[serde(flatten)]
    named: Named,
    #[serde(default)]
    input: Option<Texts>,
    #[serde(default)]
    truncate: Option<bool>,
    #[serde(default)]
    dimensions: Option<i64>,
    #[serde(default)]
    keep_alive: Option<KeepAlive>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "invalid input type: expected a text or a list of texts")]
enum Texts {
    One(String),
    Many(Vec<String>),
}

#[derive(Serialize)]
struct Embedded<'a> {
    model: &'a str,
    embeddings: Vec<&'a [f32]>,
    total_duration: u64,
    load_duration: u64,
    prompt_eval_count: usize,
}

async fn lease(asked: &Asked, named: &Named) -> Result<Lease, Failure> {
    let name = named.get()?;
    asked.app.models.lease(Some(name)).await.map_err(|failure| not_found(failure, name))
}

/// Sets how long the model is kept, and closes it where that is not at all and nobody else uses it.
fn keep(asked: &Asked, lease: Lease, keep_alive: Option<KeepAlive>) {
    let Some(KeepAlive(seconds)) = keep_alive else { return };
    lease.keep_for(seconds);
    if seconds == 0 {
        let slot = std::sync::Arc::clone(&lease.slot);
        drop(lease);
        asked.app.models.close_if_idle(&slot);
    }
}

pub(super) async fn embed(asked: Asked) -> Result<Response, Failure> {
    let start = Instant::now();
    let request: Embed = read(&asked)?;
    let lease = lease(&asked, &request.named).await?;
    let texts = match request.input {
        None => Vec::new(),
        Some(Texts::One(text)) if text.is_empty() => Vec::new(),
        Some(Texts::One(text)) => vec![text],
        Some(Texts::Many(texts)) => texts,
    };
    let truncation = match (request.truncate, lease.model().truncation()) {
        (Some(false), _) => Truncation::Error,
        (_, Truncation::Left) => Truncation::Left,
        _ => Truncation::Right,
    };
    // A Go client has no other word for "none" than 0.
    let dims = request.dimensions.and_then(|dims| usize::try_from(dims).ok()).filter(|dims| *dims > 0);
    let wanted = Wanted { dims, normalize: Some(true), ..Wanted::default() };
    let wish = Wish { truncation: Some(truncation), wanted, ..Wish::default() };
    let items: Vec<Item> = texts.into_iter().map(Item::Text).collect();
    let waited = lease.waited;
    let computed = match items.is_empty() {
        true => Default::default(),
        false => asked.app.compute(&asked.caller, &lease, items, wish).await?,
    };
    let written = Instant::now();
    let response = json(
        200,
        &Embedded {
            model: request.named.get()?,
            embeddings: computed.rows.iter().map(|row| &row.output.vector[..]).collect(),
            total_duration: start.elapsed().as_nanos() as u64,
            load_duration: waited.as_nanos() as u64,
            prompt_eval_count: computed.tokens(),
        },
    );
    asked.app.metrics.serialized(written.elapsed());
    keep(&asked, lease, request.keep_alive);
    Ok(response)
}

#[derive(Debug, Deserialize)]
struct Embeddings {
    #[serde(flatten)]
    named: Named,
    #[serde(default)]
    prompt: Option<String>,
    #[serde(default)]
    keep_alive: Option<KeepAlive>,
}

#[derive(Serialize)]
struct One {
    embedding: Vec<f32>,
}

pub(super) async fn embeddings(asked: Asked) -> Result<Response, Failure> {
    let request: Embeddings = read(&asked)?;
    let lease = lease(&asked, &request.named).await?;
    let Some(prompt) = request.prompt.filter(|prompt| !prompt.is_empty()) else {
        keep(&asked, lease, request.keep_alive);
        return Ok(json(200, &One { embedding: Vec::new() }));
    };
    let wanted = Wanted { normalize: Some(false), ..Wanted::default() };
    let wish = Wish { wanted, ..Wish::default() };
    let mut computed = asked.app.compute(&asked.caller, &lease, vec![Item::Text(prompt)], wish).await?;
    let embedding = computed.rows.pop().map(|row| row.output.vector).unwrap_or_default();
    keep(&asked, lease, request.keep_alive);
    Ok(json(200, &One { embedding }))
}
