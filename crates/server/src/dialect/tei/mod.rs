//! TEI, Hugging Face's Text Embeddings Inference: its routes, its bodies, its errors.
//!
//! TEI serves one model, this server several. A route takes the first model that can do what it is for, unless the request names one in
//! `model`, which TEI does not know. Nothing is put before texts unless `prompt_name` or the model's own default says so.

pub(crate) mod embed;
pub(crate) mod info;
mod root;
pub(crate) mod score;
pub(crate) mod tokens;

pub(crate) use score::rerank;

use crate::{
    app::App,
    failure::{Failure, Kind},
    front::{Asked, Dialect, Route, handlers, json, json_bytes},
    models::Lease,
    pipeline::{Computed, Item, Prompting, Wish},
};
use axum::{
    Router,
    http::{HeaderMap, HeaderValue, header},
    response::Response,
    routing::{get, post},
};
use embral::{Truncation, serving::Offers};
use serde::{Deserialize, Deserializer, Serialize};
use std::{sync::Arc, time::Instant};

/// TEI's API.
pub(crate) struct Tei;

const fn route(path: &'static str) -> Route {
    Route { dialect: &Tei, path }
}

handlers! {
    route;
    embed_texts "/embed" => embed::embed;
    embed_all "/embed_all" => embed::all;
    embed_sparse "/embed_sparse" => embed::sparse;
    similarity "/similarity" => embed::similarity;
    predict "/predict" => score::predict;
    tokenize "/tokenize" => tokens::tokenize;
    decode "/decode" => tokens::decode;
    information "/info" => info::info;
    by_kind "/" => root::root;
    invocations "/invocations" => root::root;
    vertex "/vertex" => root::vertex;
}

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/embed", post(embed_texts))
        .route("/embed_all", post(embed_all))
        .route("/embed_sparse", post(embed_sparse))
        .route("/similarity", post(similarity))
        .route("/predict", post(predict))
        .route("/tokenize", post(tokenize))
        .route("/decode", post(decode))
        .route("/info", get(information))
        .route("/", post(by_kind))
        .route("/invocations", post(invocations))
        .route("/vertex", post(vertex))
}

/// The paths of [`routes`], for failures before any handler.
pub(crate) const PATHS: [&str; 11] = [
    "/embed",
    "/embed_all",
    "/embed_sparse",
    "/similarity",
    "/predict",
    "/tokenize",
    "/decode",
    "/info",
    "/",
    "/invocations",
    "/vertex",
];

impl Dialect for Tei {
    fn name(&self) -> &'static str {
        "tei"
    }

    fn asks_for_json(&self) -> bool {
        true
    }

    fn failure(&self, failure: &Failure) -> Response {
        // As axum answers there: plain text.
        let plain = |status: u16| {
            let mut response = json_bytes(status, failure.message.clone());
            let kind = HeaderValue::from_static("text/plain; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        };
        let (status, error_type) = match failure.kind {
            Kind::Syntax => return plain(400),
            Kind::TooLarge => return plain(413),
            Kind::MediaType => return plain(415),
            Kind::Empty => (400, "Empty"),
            Kind::Invalid | Kind::TooMany | Kind::TooLong => (422, "Validation"),
            Kind::NoModel | Kind::NoRoute => (404, "Validation"),
            Kind::Method => (405, "Validation"),
            Kind::Unauthorized => (401, "Validation"),
            Kind::Forbidden => (403, "Validation"),
            Kind::Overloaded | Kind::RateLimited => (429, "Overloaded"),
            Kind::Timeout => (408, "Overloaded"),
            Kind::Internal | Kind::Unsupported => (424, "Backend"),
            Kind::Unavailable => (503, "Unhealthy"),
        };
        #[derive(Serialize)]
        struct Body<'a> {
            error: &'a str,
            error_type: &'a str,
        }
        json(status, &Body { error: &failure.message, error_type })
    }
}

/// What every request may say besides its texts.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct How {
    #[serde(default)]
    pub(crate) truncate: Option<bool>,
    #[serde(default, deserialize_with = "direction")]
    pub(crate) truncation_direction: Option<Truncation>,
    #[serde(default)]
    pub(crate) prompt_name: Option<String>,
    #[serde(default)]
    pub(crate) model: Option<String>,
}

/// `"right"`, `"Right"`, `"left"` or `"Left"`.
fn direction<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Truncation>, D::Error> {
    match Option::<String>::deserialize(deserializer)?.as_deref() {
        None => Ok(None),
        Some("right" | "Right") => Ok(Some(Truncation::Right)),
        Some("left" | "Left") => Ok(Some(Truncation::Left)),
        Some(other) => {
            let message = format!("unknown truncation_direction {other:?}: expected left or right");
            Err(serde::de::Error::custom(message))
        }
    }
}

impl How {
    /// What is done with texts that are too long: what the request says, and where it says nothing what the server does.
    fn truncation(&self, standard: Truncation) -> Truncation {
        let cuts = self.truncate.unwrap_or(standard != Truncation::Error);
        match (cuts, self.truncation_direction) {
            (false, _) => Truncation::Error,
            (true, Some(side)) => side,
            (true, None) if standard == Truncation::Left => Truncation::Left,
            (true, None) => Truncation::Right,
        }
    }

    fn wish(&self, standard: Truncation) -> Wish {
        let prompt = self.prompt_name.clone().map_or(Prompting::Default, Prompting::Name);
        Wish { prompt, truncation: Some(self.truncation(standard)), ..Wish::default() }
    }
}

/// The model that a request names, else the first that offers what the route needs; else the first of all, whose failure says what it
/// lacks.
pub(crate) async fn lease_for(
    asked: &Asked,
    name: Option<&str>,
    offers: impl Fn(Offers) -> bool,
) -> Result<Lease, Failure> {
    let models = &asked.app.models;
    if name.is_none()
        && let Some(lease) = models.first(offers).await?
    {
        return Ok(lease);
    }
    models.lease(name).await
}

/// Refuses what TEI refuses before it reads anything: an input without a character or an id.
fn check(items: &[Item]) -> Result<(), Failure> {
    let is_empty = |item: &Item| match item {
        Item::Text(text) => text.is_empty(),
        Item::Ids(ids) => ids.is_empty(),
        Item::Pair(first, second) => first.is_empty() && second.is_empty(),
    };
    match items.iter().position(is_empty) {
        _ if items.is_empty() => Err(Failure::new(Kind::Empty, "`inputs` cannot be empty").of_field("inputs")),
        Some(index) => {
            let message = "Input validation error: `inputs` cannot be empty";
            Err(Failure::new(Kind::Empty, message).of_field("inputs").of_text(index))
        }
        None => Ok(()),
    }
}

/// A failure of the tokenizer, the queue or the model in TEI's words.
fn worded(failure: Failure) -> Failure {
    let message = match failure.kind {
        Kind::TooLong => match numbers(&failure.message)[..] {
            [given, limit] => {
                format!("Input validation error: `inputs` must have less than {limit} tokens. Given: {given}")
            }
            _ => format!("Input validation error: {}", failure.message),
        },
        Kind::Invalid => format!("Input validation error: {}", failure.message),
        Kind::Unsupported | Kind::Internal => format!("Backend error: {}", failure.message),
        Kind::Overloaded => "Model is overloaded".to_owned(),
        _ => return failure,
    };
    Failure { message, ..failure }
}

/// The numbers in a message.
fn numbers(message: &str) -> Vec<u64> {
    message.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// The answer with the headers that TEI sends.
fn respond(value: &impl Serialize, computed: &Computed, start: Instant) -> Response {
    let mut response = json(200, value);
    took(response.headers_mut(), computed, start);
    response
}

/// What TEI says in headers of the work behind an answer.
pub(crate) fn took(headers: &mut HeaderMap, computed: &Computed, start: Instant) {
    let timings = &computed.timings;
    headers.insert("x-compute-type", HeaderValue::from_static("gpu+optimized"));
    let milliseconds = [
        ("x-total-time", start.elapsed()),
        ("x-compute-time", start.elapsed()),
        ("x-tokenization-time", timings.tokenize),
        ("x-queue-time", timings.queue),
        ("x-inference-time", timings.inference),
    ];
    for (name, took) in milliseconds {
        headers.insert(name, HeaderValue::from(took.as_millis() as u64));
    }
    headers.insert("x-compute-characters", HeaderValue::from(computed.characters as u64));
    headers.insert("x-compute-tokens", HeaderValue::from(computed.tokens() as u64));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_direction_counts_where_texts_are_cut_at_all() {
        let how = |json: &str| serde_json::from_str::<How>(json);
        for (json, standard, wanted) in [
            ("{}", Truncation::Right, Truncation::Right),
            ("{}", Truncation::Left, Truncation::Left),
            ("{}", Truncation::Error, Truncation::Error),
            ("{\"truncate\":null,\"truncation_direction\":\"left\"}", Truncation::Right, Truncation::Left),
            ("{\"truncation_direction\":\"Left\"}", Truncation::Error, Truncation::Error),
            ("{\"truncate\":true}", Truncation::Error, Truncation::Right),
            ("{\"truncate\":true,\"truncation_direction\":\"Right\"}", Truncation::Left, Truncation::Right),
            ("{\"truncate\":false,\"truncation_direction\":\"left\"}", Truncation::Right, Truncation::Error),
        ] {
            assert_eq!(how(json).unwrap().truncation(standard), wanted, "{json} {standard:?}");
        }
        assert!(how("{\"truncation_direction\":\"up\"}").is_err());
    }

    #[test]
    fn inputs_are_empty_one_by_one_and_together() {
        let text = |text: &str| Item::Text(text.to_owned());
        let pair = |first: &str, second: &str| Item::Pair(first.into(), second.to_owned());
        for items in [vec![], vec![text("a"), text("")], vec![Item::Ids(vec![])], vec![pair("", "")]] {
            assert_eq!(check(&items).unwrap_err().kind, Kind::Empty, "{items:?}");
        }
        check(&[text(" "), Item::Ids(vec![1]), pair("", "a")]).unwrap();
        assert_eq!(check(&[text("a"), text("")]).unwrap_err().index, Some(1));
    }

    #[test]
    fn failures_are_told_in_the_words_of_tei() {
        let message = |kind, message: &str| worded(Failure::new(kind, message)).message;
        assert_eq!(
            message(Kind::TooLong, "the text has 600 tokens, the limit is 512"),
            "Input validation error: `inputs` must have less than 512 tokens. Given: 600"
        );
        assert_eq!(message(Kind::TooLong, "too long"), "Input validation error: too long");
        assert_eq!(message(Kind::Overloaded, "4096 requests wait"), "Model is overloaded");
        assert_eq!(message(Kind::RateLimited, "come again"), "come again");
    }
}
