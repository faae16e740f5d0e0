//! `/rerank` and `/predict`.

use super::{How, check, lease_for, respond, worded};
use crate::{
    body,
    failure::{Failure, Kind},
    front::Asked,
    pipeline::{Item, Ranking},
};
use axum::response::Response;
use embral::Scores;
use serde::{Deserialize, Serialize};
use std::time::Instant;

#[derive(Debug, Deserialize)]
struct Rerank {
    query: String,
    texts: Vec<String>,
    #[serde(flatten)]
    how: How,
    #[serde(default)]
    raw_scores: bool,
    #[serde(default)]
    return_text: bool,
}

#[derive(Serialize)]
struct Rank<'a> {
    index: usize,
    score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
}

pub(crate) async fn rerank(asked: Asked) -> Result<Response, Failure> {
    let start = Instant::now();
    let request: Rerank = body::json(&asked.body)?;
    if request.texts.is_empty() {
        return Err(Failure::new(Kind::Empty, "`texts` cannot be empty").of_field("texts"));
    }
    let lease = lease_for(&asked, request.how.model.as_deref(), |offers| offers.scores).await?;
    let ranking = Ranking {
        truncation: Some(request.how.truncation(lease.model().truncation())),
        // TEI's scores are between 0 and 1 whatever the model says of itself.
        scores: Some(if request.raw_scores { Scores::Logits } else { Scores::Sigmoid }),
        top_n: None,
    };
    if request.query.is_empty() && request.texts.iter().any(String::is_empty) {
        let message = "Input validation error: `inputs` cannot be empty";
        return Err(Failure::new(Kind::Empty, message).of_field("texts"));
    }
    let ranked = asked.app.rerank(&asked.caller, &lease, &request.query, request.texts.clone(), ranking).await;
    let (ranked, computed) = ranked.map_err(worded)?;
    let rank = |ranked: crate::pipeline::Ranked| Rank {
        index: ranked.index,
        score: ranked.score,
        text: request.return_text.then(|| request.texts[ranked.index].as_str()),
    };
    let ranks: Vec<Rank<'_>> = ranked.into_iter().map(rank).collect();
    Ok(respond(&ranks, &computed, start))
}

#[derive(Debug, Deserialize)]
struct Predict {
    inputs: Predicted,
    #[serde(flatten)]
    how: How,
    #[serde(default)]
    raw_scores: bool,
    #[serde(default)]
    parameters: Option<Parameters>,
}

/// What the clients of Hugging Face's pipelines say of the answer.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct Parameters {
    #[serde(default)]
    top_k: Option<usize>,
    #[serde(default)]
    function_to_apply: Option<Function>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Function {
    Sigmoid,
    Softmax,
    None,
}

/// `"a"`, `["a", "b"]` (a pair) or `[["a"], ["a", "b"]]` (many).
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a text, a pair of texts, or a list of lists of one or two texts")]
enum Predicted {
    One(String),
    Pair(Vec<String>),
    Many(Vec<Vec<String>>),
}

#[derive(Serialize)]
struct Prediction<'a> {
    score: f32,
    label: &'a str,
}

/// One text or a pair.
fn item(mut texts: Vec<String>) -> Result<Item, Failure> {
    match (texts.pop(), texts.pop(), texts.is_empty()) {
        (Some(text), None, _) => Ok(Item::Text(text)),
        (Some(second), Some(first), true) => Ok(Item::Pair(first.into(), second)),
        _ => Err(Failure::invalid("`inputs` must be one text or a pair of texts").of_field("inputs")),
    }
}

pub(super) async fn predict(asked: Asked) -> Result<Response, Failure> {
    predictions(asked, false).await
}

/// The labels of texts; always a list of lists where `nested`, as InferenceClient wants them.
pub(super) async fn predictions(asked: Asked, nested: bool) -> Result<Response, Failure> {
    let start = Instant::now();
    let request: Predict = body::json(&asked.body)?;
    let name = request.how.model.as_deref();
    let mut lease = lease_for(&asked, name, |offers| offers.labels).await?;
    if name.is_none() && !lease.model().offers().labels {
        // A reranker is a classifier of one label.
        lease = lease_for(&asked, None, |offers| offers.scores).await?;
    }
    let model = lease.model();
    let offers = model.offers();
    if !offers.labels && !offers.scores {
        let message =
            format!("Backend error: Model is not a classifier model: {} is for {}", lease.name(), model.task());
        return Err(Failure::new(Kind::Unsupported, message));
    }
    let (items, single) = match request.inputs {
        Predicted::One(text) => (vec![Item::Text(text)], true),
        Predicted::Pair(pair) => (vec![item(pair)?], true),
        Predicted::Many(many) => (many.into_iter().map(item).collect::<Result<Vec<Item>, Failure>>()?, false),
    };
    check(&items)?;
    let wish = request.how.wish(model.truncation());
    let mut computed = asked.app.compute(&asked.caller, &lease, items, wish).await.map_err(worded)?;
    let one = ["LABEL_0".to_owned()];
    let labels = if offers.labels { model.labels() } else { &one };
    let Parameters { top_k, function_to_apply } = request.parameters.unwrap_or_default();
    let scores = match (function_to_apply, request.raw_scores, labels.len()) {
        (Some(Function::None), ..) | (None, true, _) => Scores::Logits,
        (Some(Function::Sigmoid), ..) | (None, false, 1) => Scores::Sigmoid,
        (Some(Function::Softmax), ..) | (None, false, _) => Scores::Softmax,
    };
    computed.rows.iter_mut().for_each(|row| scores.apply(&mut row.output.logits));
    let of = |row: &crate::pipeline::Row| {
        let mut all: Vec<Prediction<'_>> =
            labels.iter().zip(&row.output.logits).map(|(label, &score)| Prediction { score, label }).collect();
        all.sort_by(|a, b| b.score.total_cmp(&a.score));
        all.truncate(top_k.unwrap_or(usize::MAX));
        all
    };
    let all: Vec<Vec<Prediction<'_>>> = computed.rows.iter().map(of).collect();
    match all.first() {
        Some(first) if single && !nested => Ok(respond(first, &computed, start)),
        _ => Ok(respond(&all, &computed, start)),
    }
}
