//! `/rerank`, which is a path of TEI and of Cohere and Jina: told apart by what the texts are called.

use super::{cohere, tei};
use crate::{
    app::App,
    body,
    front::{Route, answer},
};
use axum::{
    Router,
    extract::{Request, State},
    response::Response,
    routing::post,
};
use serde::{Deserialize, de::IgnoredAny};
use std::sync::Arc;

const ROUTE: Route = Route { dialect: &tei::Tei, path: "/rerank" };

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route("/rerank", post(rerank))
}

#[derive(Deserialize)]
struct Shape {
    #[serde(default)]
    documents: Option<IgnoredAny>,
}

async fn rerank(State(app): State<Arc<App>>, request: Request) -> Response {
    answer(app, ROUTE, request, async |asked| match body::json::<Shape>(&asked.body) {
        Ok(Shape { documents: Some(_) }) => cohere::rerank_in_form(asked).await,
        _ => tei::rerank(asked).await,
    })
    .await
}
