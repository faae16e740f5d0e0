//! `rerank`, `classify`, `similarity` and `tokenize` of `/embral/v1`.

use super::{Times, Treatment, Usage, prompting};
use crate::{
    body,
    failure::{Failure, Kind},
    front::{Asked, json},
    pipeline::{Computed, Item, Ranking, Wish, aside},
};
use axum::response::Response;
use embral::{Embeddings, Scores, similarity as products};
use serde::{Deserialize, Serialize};
use std::time::Instant;

#[derive(Debug, Deserialize)]
struct Rerank {
    query: String,
    documents: Vec<String>,
    #[serde(flatten)]
    treatment: Treatment,
    #[serde(default)]
    top_n: Option<usize>,
    #[serde(default)]
    return_documents: bool,
    #[serde(default)]
    raw_scores: bool,
}

#[derive(Serialize)]
struct Reranked<'a> {
    model: &'a str,
    results: Vec<Ranked<'a>>,
    usage: Usage,
    timings: Times,
}

#[derive(Serialize)]
struct Ranked<'a> {
    index: usize,
    score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<&'a str>,
}

pub(super) async fn rerank(asked: Asked) -> Result<Response, Failure> {
    let start = Instant::now();
    let request: Rerank = body::json(&asked.body)?;
    let caller = request.treatment.caller(&asked)?;
    if request.top_n == Some(0) {
        return Err(Failure::invalid("top_n must be 1 or more, found 0").of_field("top_n"));
    }
    let lease = asked.app.models.lease(request.treatment.model.as_deref()).await?;
    let ranking = Ranking {
        truncation: request.treatment.truncate.map(Into::into),
        scores: request.raw_scores.then_some(Scores::Logits),
        top_n: request.top_n,
    };
    let (ranked, computed) =
        asked.app.rerank(&caller, &lease, &request.query, request.documents.clone(), ranking).await?;
    let result = |ranked: crate::pipeline::Ranked| Ranked {
        index: ranked.index,
        score: ranked.score,
        document: request.return_documents.then(|| request.documents[ranked.index].as_str()),
    };
    Ok(json(
        200,
        &Reranked {
            model: lease.name(),
            results: ranked.into_iter().map(result).collect(),
            usage: Usage { tokens: computed.tokens() },
            timings: Times::of(computed.timings, start),
        },
    ))
}

#[derive(Debug, Deserialize)]
struct Classify {
    input: Classified,
    #[serde(flatten)]
    treatment: Treatment,
    #[serde(default)]
    raw_scores: bool,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a text, a list of texts or a list of pairs of texts")]
enum Classified {
    Text(String),
    Many(Vec<One>),
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a text or a pair of texts")]
enum One {
    Text(String),
    Pair(String, String),
}

#[derive(Serialize)]
struct Labelled<'a> {
    model: &'a str,
    data: Vec<Vec<Label<'a>>>,
    usage: Usage,
    timings: Times,
}

#[derive(Serialize)]
struct Label<'a> {
    label: &'a str,
    score: f32,
}

pub(super) async fn classify(asked: Asked) -> Result<Response, Failure> {
    let start = Instant::now();
    let request: Classify = body::json(&asked.body)?;
    let caller = request.treatment.caller(&asked)?;
    let lease = asked.app.models.lease(request.treatment.model.as_deref()).await?;
    let model = lease.model();
    if !model.offers().labels {
        let message =
            format!("{} gives no labels: expected a classifier, found a model for {}", lease.name(), model.task());
        return Err(Failure::new(Kind::Unsupported, message).of_field("model"));
    }
    let item = |one| match one {
        One::Text(text) => Item::Text(text),
        One::Pair(first, second) => Item::Pair(first.into(), second),
    };
    let items: Vec<Item> = match request.input {
        Classified::Text(text) => vec![Item::Text(text)],
        Classified::Many(many) => many.into_iter().map(item).collect(),
    };
    if items.is_empty() {
        return Err(Failure::new(Kind::Empty, "input cannot be empty: expected a text or texts").of_field("input"));
    }
    let wish = Wish { truncation: request.treatment.truncate.map(Into::into), ..Wish::default() };
    let mut computed = asked.app.compute(&caller, &lease, items, wish).await?;
    let scores = if request.raw_scores { Scores::Logits } else { model.scoring().unwrap_or(Scores::Softmax) };
    computed.rows.iter_mut().for_each(|row| scores.apply(&mut row.output.logits));
    let data = computed.rows.iter().map(|row| {
        let mut labels: Vec<Label<'_>> = model
            .labels()
            .iter()
            .zip(&row.output.logits)
            .map(|(label, score)| Label { label, score: *score })
            .collect();
        labels.sort_by(|a, b| b.score.total_cmp(&a.score));
        labels
    });
    Ok(json(
        200,
        &Labelled {
            model: lease.name(),
            data: data.collect(),
            usage: Usage { tokens: computed.tokens() },
            timings: Times::of(computed.timings, start),
        },
    ))
}

#[derive(Debug, Deserialize)]
struct Similarity {
    a: Vec<String>,
    #[serde(default)]
    b: Option<Vec<String>>,
    #[serde(flatten)]
    treatment: Treatment,
    #[serde(default)]
    input_type: Option<String>,
    #[serde(default)]
    prompt: Option<String>,
}

#[derive(Serialize)]
struct Similar<'a> {
    model: &'a str,
    similarity: Vec<&'a [f32]>,
    usage: Usage,
    timings: Times,
}

pub(super) async fn similarity(asked: Asked) -> Result<Response, Failure> {
    let start = Instant::now();
    let request: Similarity = body::json(&asked.body)?;
    let caller = request.treatment.caller(&asked)?;
    let lease = asked.app.models.lease(request.treatment.model.as_deref()).await?;
    let (first, second) = (request.a.len(), request.b.as_ref().map(Vec::len));
    if first == 0 || second == Some(0) {
        return Err(Failure::new(Kind::Empty, "expected texts to be compared, found none"));
    }
    // A row of the answer for each of `a`: as many numbers as texts would be far more than the texts.
    let numbers = first * second.unwrap_or(first);
    const MOST: usize = 4 << 20;
    if numbers > MOST {
        return Err(Failure::new(
            Kind::TooMany,
            format!("{numbers} similarities are more than {MOST}: send fewer texts"),
        ));
    }
    let texts = request.a.into_iter().chain(request.b.unwrap_or_default()).map(Item::Text).collect();
    let mut wish = Wish {
        prompt: prompting(request.input_type, request.prompt)?,
        truncation: request.treatment.truncate.map(Into::into),
        ..Wish::default()
    };
    wish.wanted.normalize = Some(true);
    let computed = asked.app.compute(&caller, &lease, texts, wish).await?;
    let matrix = matrix(&computed, first, second);
    let width = second.unwrap_or(first);
    Ok(json(
        200,
        &Similar {
            model: lease.name(),
            similarity: matrix.chunks_exact(width).collect(),
            usage: Usage { tokens: computed.tokens() },
            timings: Times::of(computed.timings, start),
        },
    ))
}

/// The dot products of the first vectors with the second ones, or with each other.
fn matrix(computed: &Computed, first: usize, second: Option<usize>) -> Vec<f32> {
    let rows = |range: std::ops::Range<usize>| {
        let vectors: Vec<&[f32]> = computed.rows[range].iter().map(|row| &row.output.vector[..]).collect();
        Embeddings::new(vectors.concat(), vectors.first().map_or(0, |vector| vector.len()))
    };
    let a = rows(0..first);
    match second {
        None => products(&a, &a),
        Some(_) => products(&a, &rows(first..computed.rows.len())),
    }
}

#[derive(Debug, Deserialize)]
struct Tokenize {
    input: crate::dialect::Inputs,
    #[serde(default)]
    model: Option<String>,
}

#[derive(Serialize)]
struct Tokenized<'a> {
    model: &'a str,
    data: Vec<Vec<Token>>,
}

#[derive(Serialize)]
struct Token {
    id: u32,
    token: String,
    start: Option<usize>,
    end: Option<usize>,
}

pub(super) async fn tokenize(asked: Asked) -> Result<Response, Failure> {
    let request: Tokenize = body::json(&asked.body)?;
    asked.app.check_count(request.input.items.len())?;
    let lease = asked.app.models.lease(request.model.as_deref()).await?;
    let model = std::sync::Arc::clone(lease.model());
    let tokens = aside("the tokenizer failed on these texts", move || {
        let of = |(index, item): (usize, Item)| {
            let Item::Text(text) = item else {
                return Err(Failure::invalid("expected texts, found token ids").of_field("input"));
            };
            let spans = model.tokenize(&text, "", true).map_err(|e| Failure::from(e).of_text(index))?;
            let token = |span: embral::serving::TokenSpan| Token {
                id: span.id,
                token: span.token,
                start: span.bytes.as_ref().map(|bytes| bytes.start),
                end: span.bytes.as_ref().map(|bytes| bytes.end),
            };
            Ok(spans.into_iter().map(token).collect())
        };
        request.input.items.into_iter().enumerate().map(of).collect::<Result<Vec<Vec<Token>>, Failure>>()
    });
    Ok(json(200, &Tokenized { model: lease.name(), data: tokens.await? }))
}
