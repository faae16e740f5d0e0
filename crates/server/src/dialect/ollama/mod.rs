//! Ollama: `/api/embed`, `/api/embeddings`, and the models.
//!
//! Errors are `{"error": "text"}`. Names have a tag, `:latest` where none is given. `/api/embed` gives vectors of length 1, the older
//! `/api/embeddings` gives them as the model makes them, as Ollama has it.

mod duration;
mod embed;
mod models;
mod pull;

use crate::{
    app::App,
    body,
    failure::{Failure, Kind},
    front::{Asked, Dialect, Route, handlers, json},
};
use axum::{
    Router,
    response::Response,
    routing::{delete, get, post},
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Ollama's API.
pub(crate) struct Ollama;

const fn route(path: &'static str) -> Route {
    Route { dialect: &Ollama, path }
}

handlers! {
    route;
    embed_texts "/api/embed" => embed::embed;
    embeddings "/api/embeddings" => embed::embeddings;
    tags "/api/tags" => models::tags;
    show "/api/show" => models::show;
    ps "/api/ps" => models::ps;
    version "/api/version" => models::version;
    pull_model "/api/pull" => pull::pull;
    delete_model "/api/delete" => pull::delete;
}

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/api/embed", post(embed_texts))
        .route("/api/embeddings", post(embeddings))
        .route("/api/tags", get(tags))
        .route("/api/show", post(show))
        .route("/api/ps", get(ps))
        .route("/api/version", get(version))
        .route("/api/pull", post(pull_model))
        .route("/api/delete", delete(delete_model))
}

impl Dialect for Ollama {
    fn name(&self) -> &'static str {
        "ollama"
    }

    fn failure(&self, failure: &Failure) -> Response {
        let status = match failure.kind {
            Kind::Syntax | Kind::Invalid | Kind::Empty | Kind::TooLong | Kind::TooMany | Kind::Unsupported => 400,
            Kind::Unauthorized => 401,
            Kind::Forbidden => 403,
            Kind::NoRoute | Kind::NoModel => 404,
            Kind::Method => 405,
            Kind::Timeout => 408,
            Kind::TooLarge => 413,
            Kind::MediaType => 415,
            Kind::RateLimited => 429,
            Kind::Internal => 500,
            // Ollama's word for a full queue.
            Kind::Overloaded | Kind::Unavailable => 503,
        };
        let message = match failure.kind {
            Kind::TooLong => "the input length exceeds the context length",
            _ => &failure.message,
        };
        json(status, &ErrorBody { error: message })
    }
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
}

/// The model of a request. Older clients call it `name`, and some put null where they mean nothing.
#[derive(Debug, Default, Deserialize)]
struct Named {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    name: Option<String>,
}

impl Named {
    fn get(&self) -> Result<&str, Failure> {
        let given = [&self.model, &self.name].into_iter().flatten().map(|name| name.trim());
        given.into_iter().find(|name| !name.is_empty()).ok_or_else(|| Failure::invalid("model is required"))
    }
}

/// The body of a request; none is Ollama's own error.
fn read<'a, T: Deserialize<'a>>(asked: &'a Asked) -> Result<T, Failure> {
    if asked.body.trim_ascii().is_empty() {
        return Err(Failure::new(Kind::Empty, "missing request body"));
    }
    body::json(&asked.body)
}

/// A name as Ollama writes it, with its tag.
fn tagged(name: &str) -> String {
    // A colon before a slash is no tag.
    match name.rsplit('/').next().is_some_and(|last| last.contains(':')) {
        true => name.to_owned(),
        false => format!("{name}:latest"),
    }
}

/// A model that is not there, in Ollama's words.
fn not_found(failure: Failure, name: &str) -> Failure {
    match failure.kind {
        Kind::NoModel => {
            Failure { message: format!("model '{}' not found", name.chars().take(100).collect::<String>()), ..failure }
        }
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_has_either_name() {
        let named = |json: &str| serde_json::from_str::<Named>(json).unwrap();
        for json in
            [r#"{"model":"a"}"#, r#"{"name":" a "}"#, r#"{"model":"","name":"a"}"#, r#"{"model":null,"name":"a"}"#]
        {
            assert_eq!(named(json).get().unwrap(), "a", "{json}");
        }
        assert_eq!(named(r#"{"model":"a","name":"b"}"#).get().unwrap(), "a");
        for json in ["{}", r#"{"name":""}"#, r#"{"model":null}"#] {
            assert_eq!(named(json).get().unwrap_err().message, "model is required", "{json}");
        }
    }

    #[test]
    fn a_busy_server_is_503() {
        for kind in [Kind::Overloaded, Kind::Unavailable] {
            assert_eq!(Ollama.failure(&Failure::new(kind, "busy")).status(), 503);
        }
    }
}
