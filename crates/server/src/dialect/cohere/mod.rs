//! Cohere and Jina: `/v1/embed`, `/v2/embed`, `/v1/rerank`, `/v2/rerank`, and `/rerank` where it has `documents`.
//!
//! The two rerankers differ by a field or two of the answer; both are sent. `input_type` says what the texts are: the prompts of the model.

mod embed;
mod rerank;
mod tokens;

use crate::{
    app::App,
    failure::{Failure, Kind},
    front::{Asked, Dialect, Route, failed, handlers, json},
};
use axum::{Router, response::Response, routing::post};
use embral::{Truncation, queue::Priority};
use serde::{Deserialize, Serialize};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Cohere's and Jina's API.
pub(crate) struct Cohere;

const fn route(path: &'static str) -> Route {
    Route { dialect: &Cohere, path }
}

handlers! {
    route;
    embed_1 "/v1/embed" => embed::first;
    embed_2 "/v2/embed" => embed::second;
    rerank_1 "/v1/rerank" => rerank::first;
    rerank_2 "/v2/rerank" => rerank::second;
    reranking "/v1/reranking" => rerank::second;
    tokenize "/v1/tokenize" => tokens::tokenize;
    detokenize "/v1/detokenize" => tokens::detokenize;
}

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/embed", post(embed_1))
        .route("/v2/embed", post(embed_2))
        .route("/v1/rerank", post(rerank_1))
        .route("/v2/rerank", post(rerank_2))
        .route("/v1/reranking", post(reranking))
        .route("/reranking", post(reranking))
        .route("/v1/tokenize", post(tokenize))
        .route("/v1/detokenize", post(detokenize))
}

/// The paths of [`routes`], for failures before any handler.
pub(crate) const PATHS: [&str; 8] = [
    "/v1/embed",
    "/v2/embed",
    "/v1/rerank",
    "/v2/rerank",
    "/v1/reranking",
    "/reranking",
    "/v1/tokenize",
    "/v1/detokenize",
];

/// Ranks documents on a path that is another dialect's too: failures come in this one's form.
pub(crate) async fn rerank_in_form(asked: Asked) -> Result<Response, Failure> {
    Ok(rerank::second(asked).await.unwrap_or_else(|failure| failed(&Cohere, &failure)))
}

impl Dialect for Cohere {
    fn name(&self) -> &'static str {
        "cohere"
    }

    fn failure(&self, failure: &Failure) -> Response {
        let status = match failure.kind {
            Kind::Syntax | Kind::Invalid | Kind::Empty | Kind::TooLong | Kind::TooMany => 400,
            Kind::Unauthorized => 401,
            Kind::Forbidden => 403,
            Kind::NoRoute | Kind::NoModel => 404,
            Kind::Method => 405,
            Kind::Timeout => 408,
            Kind::TooLarge => 413,
            Kind::MediaType => 415,
            Kind::Unsupported => 422,
            Kind::Overloaded | Kind::RateLimited => 429,
            Kind::Internal => 500,
            Kind::Unavailable => 503,
        };
        #[derive(Serialize)]
        struct Body<'a> {
            message: &'a str,
        }
        json(status, &Body { message: &failure.message })
    }
}

/// What is done with a text that is too long.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Truncate {
    None,
    Start,
    End,
}

impl From<Truncate> for Truncation {
    fn from(truncate: Truncate) -> Self {
        match truncate {
            Truncate::None => Self::Error,
            Truncate::Start => Self::Left,
            Truncate::End => Self::Right,
        }
    }
}

/// Cohere's priority is a number, lower being sooner and 0 usual; ours is a word.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "expected a priority as a number or as high, normal or low")]
enum Urgency {
    Number(i64),
    Word(String),
}

fn caller(asked: &Asked, urgency: Option<&Urgency>) -> Result<crate::caller::Caller, Failure> {
    let priority = match urgency {
        None | Some(Urgency::Number(0)) => return Ok(asked.caller),
        Some(Urgency::Word(word)) => return asked.caller.with_priority(word),
        Some(Urgency::Number(number)) if *number < 0 => Priority::High,
        Some(Urgency::Number(_)) => Priority::Low,
    };
    Ok(crate::caller::Caller { priority, ..asked.caller })
}

/// A name of this answer alone.
fn id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("{:08x}-{:08x}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

#[derive(Serialize)]
struct Meta {
    api_version: Version,
    billed_units: Billed,
}

#[derive(Serialize)]
struct Version {
    version: &'static str,
}

#[derive(Serialize)]
struct Billed {
    #[serde(skip_serializing_if = "Option::is_none")]
    input_tokens: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    search_units: Option<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urgency_is_a_number_or_a_word() {
        let read = |json: &str| serde_json::from_str::<Urgency>(json);
        assert!(matches!(read("-3"), Ok(Urgency::Number(-3))));
        assert!(matches!(read("\"high\""), Ok(Urgency::Word(word)) if word == "high"));
        for bad in ["1.5", "[]", "true", "{}"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn texts_that_are_too_long_are_cut_as_this_api_writes_it() {
        let read = |json: &str| serde_json::from_str::<Truncate>(json).map(Truncation::from);
        assert_eq!(read("\"NONE\"").unwrap(), Truncation::Error);
        assert_eq!(read("\"START\"").unwrap(), Truncation::Left);
        assert_eq!(read("\"END\"").unwrap(), Truncation::Right);
        for bad in ["\"end\"", "\"MIDDLE\"", "1"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_busy_server_is_429_and_one_that_stops_503() {
        let status = |kind| Cohere.failure(&Failure::new(kind, "busy")).status();
        assert_eq!(
            (status(Kind::Overloaded), status(Kind::Unavailable)),
            (429.try_into().unwrap(), 503.try_into().unwrap())
        );
    }
}
