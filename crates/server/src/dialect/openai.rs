//! OpenAI: `/v1/embeddings` and `/v1/models`.
//!
//! Its client asks for base64 unless told otherwise and decodes it itself, so that base64 is the usual way. Token ids are those of
//! the model, not those of OpenAI's tokenizers; ids beyond the model's vocabulary are refused with what to do.

use crate::{
    app::App,
    body,
    failure::{Failure, Kind},
    front::{Asked, Dialect, Route, answer, json},
    models::Slot,
    pipeline::{Prompting, Row, Wish},
};
use axum::{
    Router,
    extract::{Path, Request, State, rejection::PathRejection},
    response::Response,
    routing::{get, post},
};
use embral::{base64, serving::Wanted};
use serde::{Deserialize, Serialize};
use std::{
    sync::Arc,
    time::{Instant, UNIX_EPOCH},
};

/// OpenAI's API.
pub(crate) struct OpenAi;

const EMBEDDINGS: Route = Route { dialect: &OpenAi, path: "/v1/embeddings" };
const MODELS: Route = Route { dialect: &OpenAi, path: "/v1/models" };

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/embeddings", post(embeddings))
        .route("/embeddings", post(embeddings))
        .route("/v1/models", get(models))
        .route("/v1/models/{*name}", get(model))
}

impl Dialect for OpenAi {
    fn name(&self) -> &'static str {
        "openai"
    }

    fn failure(&self, failure: &Failure) -> Response {
        let (status, kind, code) = match failure.kind {
            Kind::Syntax | Kind::Invalid | Kind::Empty => (400, "invalid_request_error", None),
            Kind::TooLong => (400, "invalid_request_error", Some("context_length_exceeded")),
            Kind::TooMany => (400, "invalid_request_error", Some("too_many_inputs")),
            Kind::Unsupported => (400, "invalid_request_error", Some("unsupported")),
            Kind::TooLarge => (413, "invalid_request_error", Some("request_too_large")),
            Kind::MediaType => (415, "invalid_request_error", None),
            Kind::NoRoute | Kind::Method => (404, "invalid_request_error", Some("unknown_url")),
            Kind::NoModel => (404, "invalid_request_error", Some("model_not_found")),
            Kind::Unauthorized => (401, "invalid_request_error", Some("invalid_api_key")),
            Kind::Forbidden => (403, "invalid_request_error", Some("forbidden")),
            Kind::RateLimited => (429, "requests", Some("rate_limit_exceeded")),
            Kind::Overloaded => (429, "server_error", Some("overloaded")),
            Kind::Timeout => (408, "server_error", Some("timeout")),
            Kind::Unavailable => (503, "server_error", Some("unavailable")),
            Kind::Internal => (500, "server_error", None),
        };
        #[derive(Serialize)]
        struct Body<'a> {
            error: Inner<'a>,
        }
        #[derive(Serialize)]
        struct Inner<'a> {
            message: &'a str,
            #[serde(rename = "type")]
            kind: &'a str,
            param: Option<&'a str>,
            code: Option<&'a str>,
        }
        json(status, &Body { error: Inner { message: &failure.message, kind, param: failure.field, code } })
    }
}

/// The body of a request. What other servers take besides is taken too: `input_type` says what the texts are.
#[derive(Debug, Deserialize)]
struct Embeddings {
    input: super::Inputs,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    dimensions: Option<usize>,
    #[serde(default)]
    encoding_format: Option<Encoding>,
    #[serde(default)]
    input_type: Option<String>,
    #[serde(default)]
    priority: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    #[default]
    Float,
    Base64,
}

#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Datum<'a>>,
    model: &'a str,
    usage: Usage,
}

#[derive(Serialize)]
struct Datum<'a> {
    object: &'static str,
    index: usize,
    embedding: Vector<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Vector<'a> {
    Float(&'a [f32]),
    Base64(String),
}

impl<'a> Datum<'a> {
    fn of(index: usize, row: &'a Row, encoding: Encoding) -> Self {
        let vector = &row.output.vector;
        let embedding = match encoding {
            Encoding::Float => Vector::Float(vector),
            Encoding::Base64 => Vector::Base64(base64::encode(vector)),
        };
        Self { object: "embedding", index, embedding }
    }
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
}

async fn embeddings(State(app): State<Arc<App>>, request: Request) -> Response {
    answer(app, EMBEDDINGS, request, embed).await
}

async fn embed(asked: Asked) -> Result<Response, Failure> {
    let Asked { app, caller, body, .. } = asked;
    let request: Embeddings = body::json(&body)?;
    if request.input.items.is_empty() {
        return Err(Failure::new(Kind::Empty, "`input` cannot be empty: expected a text or texts").of_field("input"));
    }
    let caller = match &request.priority {
        Some(priority) => caller.with_priority(priority)?,
        None => caller,
    };
    let lease = app.models.lease(request.model.as_deref()).await?;
    let prompt = request.input_type.map_or(Prompting::Default, Prompting::of_name);
    // The API promises vectors of length 1.
    let wanted = Wanted { dims: request.dimensions, normalize: Some(true), ..Wanted::default() };
    let wish = Wish { prompt, wanted, ..Wish::default() };
    let computed = app.compute(&caller, &lease, request.input.items, wish).await.map_err(|failure| {
        let about_ids = failure.message.starts_with("token id ");
        let message = match about_ids {
            true => format!(
                "{}: the ids are of another tokenizer, as LangChain sends them; send texts (check_embedding_ctx_length=False)",
                failure.message
            ),
            false => failure.message.clone(),
        };
        let field = if failure.message.starts_with("dimensions ") { "dimensions" } else { "input" };
        Failure { message, ..failure }.of_field(field)
    })?;
    let start = Instant::now();
    let (tokens, encoding) = (computed.tokens(), request.encoding_format.unwrap_or_default());
    let list = List {
        object: "list",
        data: computed.rows.iter().enumerate().map(|(index, row)| Datum::of(index, row, encoding)).collect(),
        model: lease.name(),
        usage: Usage { prompt_tokens: tokens, total_tokens: tokens },
    };
    let response = json(200, &list);
    app.metrics.serialized(start.elapsed());
    Ok(response)
}

/// A model as OpenAI's API lists it, and as Cohere's does at the same path.
#[derive(Serialize)]
struct Model {
    id: String,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
    name: String,
    endpoints: [&'static str; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    context_length: Option<usize>,
}

#[derive(Serialize)]
struct Models {
    object: &'static str,
    data: Vec<Model>,
    models: Vec<Model>,
}

fn listed(slot: &Slot) -> Model {
    let loaded = slot.loaded();
    let since = loaded.as_ref().and_then(|loaded| loaded.since.duration_since(UNIX_EPOCH).ok());
    let scores = loaded.as_ref().is_some_and(|loaded| loaded.model.offers().scores);
    Model {
        id: slot.name.clone(),
        object: "model",
        created: since.map_or(0, |since| since.as_secs()),
        owned_by: "embral",
        name: slot.name.clone(),
        endpoints: [if scores { "rerank" } else { "embed" }],
        context_length: loaded.map(|loaded| loaded.model.info().max_tokens).filter(|tokens| *tokens < usize::MAX),
    }
}

async fn models(State(app): State<Arc<App>>, request: Request) -> Response {
    answer(app, MODELS, request, async |asked: Asked| {
        let all = asked.app.models.slots();
        let list = || all.iter().map(|slot| listed(slot)).collect();
        Ok(json(200, &Models { object: "list", data: list(), models: list() }))
    })
    .await
}

async fn model(State(app): State<Arc<App>>, name: Result<Path<String>, PathRejection>, request: Request) -> Response {
    answer(app, MODELS, request, async move |asked: Asked| {
        let Path(name) = name.map_err(|_| Failure::new(Kind::NoModel, "expected the name of a model in UTF-8"))?;
        let slot = asked.app.models.find(Some(&name))?;
        Ok(json(200, &listed(&slot)))
    })
    .await
}
