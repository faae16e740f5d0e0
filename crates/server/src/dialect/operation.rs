//! What operators and orchestrators ask: whether it lives, whether it is ready, what it counts; and the root.

use crate::{
    app::App,
    failure::Failure,
    front::{self, failed},
};
use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, header},
    response::Response,
    routing::get,
};
use std::sync::Arc;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/", get(crate::page::root))
        .route("/live", get(live))
        .route("/ping", get(ready))
        .route("/ready", get(ready))
        .route("/health", get(ready))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(openapi))
}

fn text(kind: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// All paths with their bodies and answers, for tools and people.
async fn openapi() -> Response {
    text("application/json", include_str!("../openapi.json"))
}

/// The process answers.
async fn live() -> Response {
    text("text/plain; charset=utf-8", "alive\n")
}

/// Requests can be answered.
async fn ready(State(app): State<Arc<App>>, _: Request) -> Response {
    match app.ready().await {
        Ok(()) => text("text/plain; charset=utf-8", ""),
        Err(failure) => unhealthy(&failure),
    }
}

/// As TEI has it.
fn unhealthy(failure: &Failure) -> Response {
    #[derive(serde::Serialize)]
    struct Body<'a> {
        error: &'a str,
        error_type: &'a str,
    }
    front::json(503, &Body { error: &failure.message, error_type: "Unhealthy" })
}

async fn metrics(State(app): State<Arc<App>>, request: Request) -> Response {
    // Open to all, as TEI has it; a page of another origin still may not read it.
    match app.origins.check(request.headers()) {
        Ok(()) => text("text/plain; version=0.0.4; charset=utf-8", app.metrics.page(&app)),
        Err(failure) => failed(&super::native::Native, &failure),
    }
}
