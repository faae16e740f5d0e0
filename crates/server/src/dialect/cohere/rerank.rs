//! `/v1/rerank`, `/v2/rerank` and `/rerank`; of llama.cpp `/v1/reranking` and `/reranking`.

use super::{Billed, Meta, Urgency, Version, caller, id};
use crate::{
    body,
    dialect::tei::lease_for,
    failure::{Failure, Kind},
    front::{Asked, json},
    pipeline::Ranking,
};
use axum::response::Response;
use embral::Scores;
use serde::{Deserialize, Serialize};

#[derive(Debug, Deserialize)]
struct Rerank {
    #[serde(default)]
    model: Option<String>,
    query: String,
    documents: Vec<Document>,
    #[serde(default)]
    top_n: Option<usize>,
    #[serde(default)]
    return_documents: Option<bool>,
    #[serde(default)]
    raw_scores: Option<bool>,
    #[serde(default)]
    priority: Option<Urgency>,
}

/// A text, or an object that has one.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a text or an object with one: {\"text\": ...}")]
enum Document {
    Text(String),
    Object { text: String },
}

#[derive(Serialize)]
struct Reranked<'a> {
    id: String,
    model: &'a str,
    results: Vec<Ranked<'a>>,
    meta: Meta,
    usage: Usage,
}

#[derive(Serialize)]
struct Ranked<'a> {
    index: usize,
    relevance_score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<Returned<'a>>,
}

#[derive(Serialize)]
struct Returned<'a> {
    text: &'a str,
}

#[derive(Serialize)]
struct Usage {
    total_tokens: usize,
    prompt_tokens: usize,
}

pub(super) async fn first(asked: Asked) -> Result<Response, Failure> {
    rerank(asked, "1").await
}

pub(super) async fn second(asked: Asked) -> Result<Response, Failure> {
    rerank(asked, "2").await
}

async fn rerank(asked: Asked, version: &'static str) -> Result<Response, Failure> {
    let request: Rerank = body::json(&asked.body)?;
    let caller = caller(&asked, request.priority.as_ref())?;
    if request.top_n == Some(0) {
        return Err(Failure::new(Kind::Invalid, "top_n must be 1 or more, found 0").of_field("top_n"));
    }
    let lease = lease_for(&asked, request.model.as_deref(), |offers| offers.scores).await?;
    let text = |document| match document {
        Document::Text(text) | Document::Object { text } => text,
    };
    let documents: Vec<String> = request.documents.into_iter().map(text).collect();
    // Whatever the model makes of its logits: relevance is between 0 and 1 in this API.
    let scores = if request.raw_scores == Some(true) { Scores::Logits } else { Scores::Sigmoid };
    let ranking = Ranking { truncation: None, scores: Some(scores), top_n: request.top_n };
    let (ranked, computed) = asked.app.rerank(&caller, &lease, &request.query, documents.clone(), ranking).await?;
    let returns = request.return_documents == Some(true);
    let result = |ranked: crate::pipeline::Ranked| Ranked {
        index: ranked.index,
        relevance_score: ranked.score,
        document: returns.then(|| Returned { text: &documents[ranked.index] }),
    };
    let tokens = computed.tokens();
    let billed_units = Billed { input_tokens: None, search_units: Some(1) };
    Ok(json(
        200,
        &Reranked {
            id: id(),
            model: lease.name(),
            results: ranked.into_iter().map(result).collect(),
            meta: Meta { api_version: Version { version }, billed_units },
            usage: Usage { total_tokens: tokens, prompt_tokens: tokens },
        },
    ))
}
