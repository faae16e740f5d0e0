//! `/embed`, `/embed_all`, `/embed_sparse` and `/similarity`.

use super::{How, check, lease_for, respond, worded};
use crate::{
    body,
    dialect::Inputs,
    failure::{Failure, Kind},
    front::Asked,
    pipeline::{Computed, Item},
};
use axum::response::Response;
use embral::{Embeddings, serving::Wanted};
use serde::{Deserialize, Serialize};
use std::time::Instant;

#[derive(Debug, Deserialize)]
struct Embed {
    inputs: Inputs,
    #[serde(flatten)]
    how: How,
    #[serde(default)]
    normalize: Option<bool>,
    #[serde(default)]
    dimensions: Option<usize>,
}

/// Sends the inputs of a request through the queue of the first model that gives what is wanted of them.
pub(crate) async fn compute(asked: &Asked, items: Vec<Item>, how: &How, wanted: Wanted) -> Result<Computed, Failure> {
    check(&items)?;
    let needs = wanted.clone();
    let lease = lease_for(asked, how.model.as_deref(), |offers| match &needs {
        Wanted { sparse: true, .. } => offers.sparse,
        Wanted { rows: true, .. } => offers.rows,
        _ => offers.dense,
    })
    .await?;
    let most = lease.model().info().dimensions;
    let wrong = match wanted.dims {
        Some(0) => Some("Input validation error: `dimensions` should be positive"),
        Some(dims) if lease.model().offers().dense && dims > most => {
            Some("Input validation error: `dimensions` should be smaller than the maximum embedding dimension.")
        }
        _ => None,
    };
    if let Some(message) = wrong {
        return Err(Failure::invalid(message).of_field("dimensions"));
    }
    let mut wish = how.wish(lease.model().truncation());
    wish.wanted = wanted;
    asked.app.compute(&asked.caller, &lease, items, wish).await.map_err(worded)
}

/// A vector, normalised unless that is not wanted.
pub(crate) fn dense(normalize: Option<bool>, dims: Option<usize>) -> Wanted {
    Wanted { dims, normalize: Some(normalize.unwrap_or(true)), ..Wanted::default() }
}

/// The row of each token.
pub(crate) fn rows() -> Wanted {
    Wanted { vector: false, rows: true, ..Wanted::default() }
}

/// The weights of vocabulary entries.
pub(crate) fn terms() -> Wanted {
    Wanted { vector: false, sparse: true, ..Wanted::default() }
}

pub(super) async fn embed(asked: Asked) -> Result<Response, Failure> {
    let start = Instant::now();
    let request: Embed = body::json(&asked.body)?;
    let wanted = dense(request.normalize, request.dimensions);
    let computed = compute(&asked, request.inputs.items, &request.how, wanted).await?;
    let rows: Vec<&[f32]> = computed.rows.iter().map(|row| &row.output.vector[..]).collect();
    let written = Instant::now();
    let response = respond(&rows, &computed, start);
    asked.app.metrics.serialized(written.elapsed());
    Ok(response)
}

pub(super) async fn all(asked: Asked) -> Result<Response, Failure> {
    let start = Instant::now();
    let request: Embed = body::json(&asked.body)?;
    let computed = compute(&asked, request.inputs.items, &request.how, rows()).await?;
    let texts: Vec<Vec<&[f32]>> =
        computed.rows.iter().map(|row| (0..row.output.rows.len()).map(|i| row.output.rows.row(i)).collect()).collect();
    Ok(respond(&texts, &computed, start))
}

#[derive(Serialize)]
struct Term {
    index: u32,
    value: f32,
}

pub(super) async fn sparse(asked: Asked) -> Result<Response, Failure> {
    let start = Instant::now();
    let request: Embed = body::json(&asked.body)?;
    let computed = compute(&asked, request.inputs.items, &request.how, terms()).await?;
    let of = |row: &crate::pipeline::Row| {
        let sparse = &row.output.sparse;
        sparse.ids.iter().zip(&sparse.weights).map(|(&index, &value)| Term { index, value }).collect()
    };
    let texts: Vec<Vec<Term>> = computed.rows.iter().map(of).collect();
    Ok(respond(&texts, &computed, start))
}

#[derive(Debug, Deserialize)]
struct Similarity {
    inputs: Compared,
    #[serde(default)]
    parameters: Option<How>,
    #[serde(default)]
    model: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Compared {
    source_sentence: String,
    sentences: Vec<String>,
}

pub(super) async fn similarity(asked: Asked) -> Result<Response, Failure> {
    let start = Instant::now();
    let request: Similarity = body::json(&asked.body)?;
    if request.inputs.sentences.is_empty() {
        return Err(Failure::new(Kind::Empty, "`inputs.sentences` cannot be empty").of_field("inputs"));
    }
    let Compared { source_sentence, sentences } = request.inputs;
    let items = std::iter::once(source_sentence).chain(sentences).map(Item::Text).collect();
    let how = How { model: request.model, ..request.parameters.unwrap_or_default() };
    let computed = compute(&asked, items, &how, dense(None, None)).await?;
    let rows: Vec<&[f32]> = computed.rows.iter().map(|row| &row.output.vector[..]).collect();
    let width = rows[0].len();
    let source = Embeddings::new(rows[0].to_vec(), width);
    let others = Embeddings::new(rows[1..].concat(), width);
    Ok(respond(&embral::similarity(&source, &others), &computed, start))
}
