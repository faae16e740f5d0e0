//! vLLM: `/score` and `/v1/score`, the scores of pairs in the order in which they came. Its other routes are OpenAI's, and so are its errors.

use super::{openai::OpenAi, tei::lease_for};
use crate::{
    app::App,
    body,
    failure::{Failure, Kind},
    front::{Asked, Route, answer, json},
    pipeline::{Item, Wish},
};
use axum::{
    Router,
    extract::{Request, State},
    response::Response,
    routing::post,
};
use embral::Scores;
use serde::{Deserialize, Serialize};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

const ROUTE: Route = Route { dialect: &OpenAi, path: "/v1/score" };

/// The paths of [`routes`].
pub(crate) const PATHS: [&str; 2] = ["/score", "/v1/score"];

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route(PATHS[0], post(handle)).route(PATHS[1], post(handle))
}

async fn handle(State(app): State<Arc<App>>, request: Request) -> Response {
    answer(app, ROUTE, request, score).await
}

#[derive(Debug, Deserialize)]
struct Score {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    text_1: Option<Texts>,
    #[serde(default)]
    queries: Option<Texts>,
    #[serde(default)]
    text_2: Option<Texts>,
    #[serde(default)]
    documents: Option<Texts>,
    #[serde(default)]
    use_activation: Option<bool>,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(untagged, expecting = "expected a text or a list of texts")]
enum Texts {
    One(String),
    Many(Vec<String>),
}

impl Texts {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

#[derive(Serialize)]
struct Scored<'a> {
    id: String,
    object: &'static str,
    created: u64,
    model: &'a str,
    data: Vec<Datum>,
    usage: Usage,
}

#[derive(Serialize)]
struct Datum {
    index: usize,
    object: &'static str,
    score: f32,
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
}

/// One with each of many, or as many with as many, each with the one at its place.
fn pairs(first: Vec<String>, second: Vec<String>) -> Result<Vec<Item>, Failure> {
    if first.is_empty() || second.is_empty() {
        return Err(Failure::new(Kind::Empty, "expected texts on both sides, found none on one"));
    }
    if first.len() != 1 && first.len() != second.len() {
        let message = format!(
            "expected one first text, or as many as there are second ones, found {} and {}",
            first.len(),
            second.len()
        );
        return Err(Failure::invalid(message));
    }
    let mut first: Vec<Arc<str>> = first.into_iter().map(Arc::from).collect();
    if first.len() < second.len() {
        first = vec![Arc::clone(&first[0]); second.len()];
    }
    Ok(first.into_iter().zip(second).map(|(first, second)| Item::Pair(first, second)).collect())
}

async fn score(asked: Asked) -> Result<Response, Failure> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let request: Score = body::json(&asked.body)?;
    let lacks = |field| Failure::invalid(format!("expected {field}, found nothing")).of_field(field);
    let first = request.text_1.or(request.queries).ok_or_else(|| lacks("text_1"))?;
    let second = request.text_2.or(request.documents).ok_or_else(|| lacks("text_2"))?;
    let items = pairs(first.into_vec(), second.into_vec())?;
    let lease = lease_for(&asked, request.model.as_deref(), |offers| offers.scores).await?;
    let model = lease.model();
    if !model.offers().scores {
        let message =
            format!("{} does not score pairs: expected a reranker, found a model for {}", lease.name(), model.task());
        return Err(Failure::new(Kind::Unsupported, message).of_field("model"));
    }
    let computed = asked.app.compute(&asked.caller, &lease, items, Wish::default()).await?;
    let mut scores: Vec<f32> =
        computed.rows.iter().map(|row| row.output.logits.first().copied().unwrap_or(f32::NEG_INFINITY)).collect();
    let making = match request.use_activation {
        Some(false) => Scores::Logits,
        _ => Scores::Sigmoid,
    };
    making.apply(&mut scores);
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let tokens = computed.tokens();
    Ok(json(
        200,
        &Scored {
            id: format!("score-{:x}-{:x}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)),
            object: "list",
            created: since.map_or(0, |since| since.as_secs()),
            model: lease.name(),
            data: scores
                .into_iter()
                .enumerate()
                .map(|(index, score)| Datum { index, object: "score", score })
                .collect(),
            usage: Usage { prompt_tokens: tokens, total_tokens: tokens },
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(json: &str) -> Vec<String> {
        serde_json::from_str::<Texts>(json).unwrap().into_vec()
    }

    #[test]
    fn one_goes_with_each_and_many_with_as_many() {
        let of = |first: &str, second: &str| pairs(texts(first), texts(second));
        let pair = |first: &str, second: &str| Item::Pair(first.into(), second.to_owned());
        assert_eq!(of("\"a\"", "[\"b\", \"c\"]").unwrap(), [pair("a", "b"), pair("a", "c")]);
        assert_eq!(of("[\"a\", \"x\"]", "[\"b\", \"c\"]").unwrap(), [pair("a", "b"), pair("x", "c")]);
        assert_eq!(of("[\"a\"]", "\"b\"").unwrap(), [pair("a", "b")]);
        for (first, second, kind) in [
            ("[\"a\", \"x\"]", "\"b\"", Kind::Invalid),
            ("[\"a\", \"x\"]", "[\"b\", \"c\", \"d\"]", Kind::Invalid),
            ("[]", "\"b\"", Kind::Empty),
            ("\"a\"", "[]", Kind::Empty),
        ] {
            assert_eq!(of(first, second).unwrap_err().kind, kind, "{first} {second}");
        }
    }
}
