//! Embral's own API, `/embral/v1`: all that the others lack. docs/server.md has it in full.

mod chunks;
mod embed;
pub(crate) mod encoding;
mod models;
mod score;

pub(crate) use chunks::Cut;
pub(crate) use encoding::{Encoded, Encoder, Encoding};

use crate::{
    app::App,
    failure::{Failure, Kind},
    front::{Asked, Dialect, Route, handlers, json},
    pipeline::{Prompting, Timings},
    stream,
};
use axum::{
    Router,
    response::Response,
    routing::{get, post},
};
use embral::Truncation;
use serde::{Deserialize, Serialize};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// Embral's API.
pub(crate) struct Native;

pub(crate) const fn route(path: &'static str) -> Route {
    Route { dialect: &Native, path }
}

handlers! {
    route;
    embed "/embral/v1/embed" => embed::embed;
    rerank "/embral/v1/rerank" => score::rerank;
    classify "/embral/v1/classify" => score::classify;
    similarity "/embral/v1/similarity" => score::similarity;
    tokenize "/embral/v1/tokenize" => score::tokenize;
    list "/embral/v1/models" => models::list;
    status "/embral/v1/status" => models::status;
}

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/embral/v1/embed", post(embed))
        .route("/embral/v1/rerank", post(rerank))
        .route("/embral/v1/classify", post(classify))
        .route("/embral/v1/similarity", post(similarity))
        .route("/embral/v1/tokenize", post(tokenize))
        .route("/embral/v1/models", get(list))
        .route("/embral/v1/status", get(status))
        .route(stream::PATH, get(stream::websocket).post(stream::ndjson))
}

impl Dialect for Native {
    fn name(&self) -> &'static str {
        "embral"
    }

    fn failure(&self, failure: &Failure) -> Response {
        json(status_of(failure.kind), &ErrorBody::of(failure))
    }
}

/// A failure as JSON.
#[derive(Serialize)]
pub(crate) struct ErrorBody<'a> {
    error: Inner<'a>,
}

#[derive(Serialize)]
struct Inner<'a> {
    kind: &'a str,
    message: &'a str,
    index: Option<usize>,
}

impl<'a> ErrorBody<'a> {
    pub(crate) fn of(failure: &'a Failure) -> Self {
        Self { error: Inner { kind: failure.kind.name(), message: &failure.message, index: failure.index } }
    }
}

/// The status of a failure.
fn status_of(kind: Kind) -> u16 {
    match kind {
        Kind::Syntax | Kind::Invalid | Kind::Empty => 400,
        Kind::Unauthorized => 401,
        Kind::Forbidden => 403,
        Kind::NoRoute | Kind::NoModel => 404,
        Kind::Method => 405,
        Kind::Timeout => 408,
        Kind::TooMany | Kind::TooLarge => 413,
        Kind::MediaType => 415,
        Kind::TooLong => 422,
        Kind::Overloaded | Kind::RateLimited => 429,
        Kind::Internal => 500,
        Kind::Unsupported => 501,
        Kind::Unavailable => 503,
    }
}

/// What to do with a text that is too long.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Truncate {
    End,
    Start,
    None,
}

impl From<Truncate> for Truncation {
    fn from(truncate: Truncate) -> Self {
        match truncate {
            Truncate::End => Self::Right,
            Truncate::Start => Self::Left,
            Truncate::None => Self::Error,
        }
    }
}

/// What a request says of how it is to be treated.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Treatment {
    pub(crate) model: Option<String>,
    pub(crate) priority: Option<String>,
    pub(crate) timeout_ms: Option<u64>,
    pub(crate) truncate: Option<Truncate>,
}

impl Treatment {
    fn caller(&self, asked: &Asked) -> Result<crate::caller::Caller, Failure> {
        let caller = match &self.priority {
            Some(priority) => asked.caller.with_priority(priority)?,
            None => asked.caller,
        };
        match self.timeout_ms {
            Some(milliseconds) => caller.with_timeout(milliseconds),
            None => Ok(caller),
        }
    }
}

/// The prompt of a request: by what its texts are, or as a text.
pub(crate) fn prompting(input_type: Option<String>, prompt: Option<String>) -> Result<Prompting, Failure> {
    match (input_type, prompt) {
        (Some(_), Some(_)) => Err(Failure::invalid("expected input_type or prompt, found both").of_field("prompt")),
        (Some(name), None) => Ok(Prompting::of_name(name)),
        (None, Some(text)) => Ok(Prompting::Text(text)),
        (None, None) => Ok(Prompting::Default),
    }
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Usage {
    tokens: usize,
}

/// Milliseconds by stage.
#[derive(Clone, Copy, Debug, Serialize)]
struct Times {
    tokenize_ms: f64,
    queue_ms: f64,
    inference_ms: f64,
    total_ms: f64,
}

impl Times {
    fn of(timings: Timings, start: Instant) -> Self {
        // Microseconds are what there is to be known.
        let ms = |duration: Duration| duration.as_micros() as f64 / 1e3;
        Self {
            tokenize_ms: ms(timings.tokenize),
            queue_ms: ms(timings.queue),
            inference_ms: ms(timings.inference),
            total_ms: ms(start.elapsed()),
        }
    }
}
