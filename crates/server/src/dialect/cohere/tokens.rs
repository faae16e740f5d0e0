//! `/v1/tokenize` and `/v1/detokenize`.

use crate::{
    body,
    failure::Failure,
    front::{Asked, json},
    pipeline::aside,
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
    let failed = "the tokenizer failed on this text";
    let tokens = aside(failed, move || model.tokenize(&request.text, "", false)).await?;
    let (tokens, token_strings) = tokens.into_iter().map(|t| (t.id, t.token)).unzip();
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
    let failed = "the tokenizer failed on these tokens";
    let text = aside(failed, move || model.decode(&request.tokens, false)).await?;
    Ok(json(200, &Detokenized { text }))
}
