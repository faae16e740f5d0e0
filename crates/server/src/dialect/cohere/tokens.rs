//! `/v1/tokenize` and `/v1/detokenize`.

use crate::{
    body,
    failure::{Failure, Kind},
    front::{Asked, json},
};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

#[derive(Debug, Deserialize)]
struct Tokenize {
    text: String,
    #[serde(default)]
    model: Option<String>,
}

#[derive(Serialize)]
struct Tokenized {
    tokens: Vec<u32>,
    token_strings: Vec<String>,
}

pub(super) async fn tokenize(asked: Asked) -> Result<Response, Failure> {
    let request: Tokenize = body::json(&asked.body)?;
    let lease = asked.app.models.lease(request.model.as_deref()).await?;
    let model = Arc::clone(lease.model());
    let tokens = tokio::task::spawn_blocking(move || model.tokenize(&request.text, "", false)).await;
    let tokens = tokens.map_err(|_| Failure::new(Kind::Internal, "the tokenizer failed on this text"))?;
    let (tokens, token_strings) = tokens.map_err(Failure::from)?.into_iter().map(|t| (t.id, t.token)).unzip();
    Ok(json(200, &Tokenized { tokens, token_strings }))
}

#[derive(Debug, Deserialize)]
struct Detokenize {
    tokens: Vec<u32>,
    #[serde(default)]
    model: Option<String>,
}

#[derive(Serialize)]
struct Detokenized {
    text: String,
}

pub(super) async fn detokenize(asked: Asked) -> Result<Response, Failure> {
    let request: Detokenize = body::json(&asked.body)?;
    let lease = asked.app.models.lease(request.model.as_deref()).await?;
    let model = Arc::clone(lease.model());
    let text = tokio::task::spawn_blocking(move || model.decode(&request.tokens, false)).await;
    let text = text.map_err(|_| Failure::new(Kind::Internal, "the tokenizer failed on these tokens"))?;
    Ok(json(200, &Detokenized { text: text.map_err(Failure::from)? }))
}
