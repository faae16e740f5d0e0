//! `/rerank` and `/predict`.

use super::{How, check, lease_for, respond, worded};
use crate::{
    body,
    failure::{Failure, Kind},
    front::Asked,
    pipeline::{Computed, Item, Ranked, Ranking},
};
use axum::response::Response;
use embral::Scores;
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Instant};

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
    let Rerank { query, texts, how, raw_scores, return_text } = body::json(&asked.body)?;
    let kept = if return_text { texts.clone() } else { Vec::new() };
    let (ranked, computed) = ranked(&asked, &how, (&query, texts), raw_scores).await?;
    let rank = |ranked: Ranked| Rank {
        index: ranked.index,
        score: ranked.score,
        text: kept.get(ranked.index).map(String::as_str),
    };
    let ranks: Vec<Rank<'_>> = ranked.into_iter().map(rank).collect();
    Ok(respond(&ranks, &computed, start))
}

/// Texts by their scores for a query, best first.
pub(crate) async fn ranked(
    asked: &Asked,
    how: &How,
    (query, texts): (&str, Vec<String>),
    raw_scores: bool,
) -> Result<(Vec<Ranked>, Computed), Failure> {
    if texts.is_empty() {
        return Err(Failure::new(Kind::Empty, "`texts` cannot be empty").of_field("texts"));
    }
    if query.is_empty() && texts.iter().any(String::is_empty) {
        let message = "Input validation error: `inputs` cannot be empty";
        return Err(Failure::new(Kind::Empty, message).of_field("texts"));
    }
    let lease = lease_for(asked, how.model.as_deref(), |offers| offers.scores).await?;
    let ranking = Ranking {
        truncation: Some(how.truncation(lease.model().truncation())),
        // TEI's scores are between 0 and 1 whatever the model says of itself.
        scores: Some(if raw_scores { Scores::Logits } else { Scores::Sigmoid }),
        top_n: None,
    };
    asked.app.rerank(&asked.caller, &lease, query, texts, ranking).await.map_err(worded)
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

impl From<Function> for Scores {
    fn from(function: Function) -> Self {
        match function {
            Function::Sigmoid => Self::Sigmoid,
            Function::Softmax => Self::Softmax,
            Function::None => Self::Logits,
        }
    }
}

/// `"a"`, `["a", "b"]` (a pair) or `[["a"], ["a", "b"]]` (many).
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a text, a pair of texts, or a list of lists of one or two texts")]
enum Predicted {
    One(String),
    Pair(Vec<String>),
    Many(Vec<Vec<String>>),
}

/// A label of a text.
#[derive(Debug, Serialize)]
pub(crate) struct Prediction {
    pub(crate) score: f32,
    pub(crate) label: Arc<str>,
}

/// One text or a pair.
pub(crate) fn item(mut texts: Vec<String>) -> Result<Item, Failure> {
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
    let (items, single) = match request.inputs {
        Predicted::One(text) => (vec![Item::Text(text)], true),
        Predicted::Pair(pair) => (vec![item(pair)?], true),
        Predicted::Many(many) => (many.into_iter().map(item).collect::<Result<Vec<Item>, Failure>>()?, false),
    };
    let Parameters { top_k, function_to_apply } = request.parameters.unwrap_or_default();
    let scores = function_to_apply.map(Scores::from).or(request.raw_scores.then_some(Scores::Logits));
    let (mut all, computed) = predicted(&asked, &request.how, items, scores).await?;
    if let Some(most) = top_k {
        all.iter_mut().for_each(|labels| labels.truncate(most));
    }
    match all.first() {
        Some(first) if single && !nested => Ok(respond(first, &computed, start)),
        _ => Ok(respond(&all, &computed, start)),
    }
}

/// The labels of texts and pairs, best first; scores where none are named as TEI makes them.
pub(crate) async fn predicted(
    asked: &Asked,
    how: &How,
    items: Vec<Item>,
    scores: Option<Scores>,
) -> Result<(Vec<Vec<Prediction>>, Computed), Failure> {
    check(&items)?;
    let name = how.model.as_deref();
    let mut lease = lease_for(asked, name, |offers| offers.labels).await?;
    if name.is_none() && !lease.model().offers().labels {
        // A reranker is a classifier of one label.
        lease = lease_for(asked, None, |offers| offers.scores).await?;
    }
    let model = lease.model();
    let offers = model.offers();
    if !offers.labels && !offers.scores {
        let message =
            format!("Backend error: Model is not a classifier model: {} is for {}", lease.name(), model.task());
        return Err(Failure::new(Kind::Unsupported, message));
    }
    let wish = how.wish(model.truncation());
    let mut computed = asked.app.compute(&asked.caller, &lease, items, wish).await.map_err(worded)?;
    let labels: Vec<Arc<str>> = match offers.labels {
        true => model.labels().iter().map(|label| label.as_str().into()).collect(),
        false => vec!["LABEL_0".into()],
    };
    let scores = scores.unwrap_or(if labels.len() == 1 { Scores::Sigmoid } else { Scores::Softmax });
    computed.rows.iter_mut().for_each(|row| scores.apply(&mut row.output.logits));
    let of = |row: &crate::pipeline::Row| {
        let one = |(label, &score): (&Arc<str>, &f32)| Prediction { score, label: Arc::clone(label) };
        let mut all: Vec<Prediction> = labels.iter().zip(&row.output.logits).map(one).collect();
        all.sort_by(|a, b| b.score.total_cmp(&a.score));
        all
    };
    let all = computed.rows.iter().map(of).collect();
    Ok((all, computed))
}
