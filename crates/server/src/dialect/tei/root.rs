//! `POST /`, `/invocations` and `/vertex`: by what the first model is for, and what the body looks like.

use super::{embed, score};
use crate::{
    body,
    failure::{Failure, Kind},
    front::{Asked, json_bytes},
};
use axum::response::Response;
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::sync::Arc;

/// What of a body says which route it is for.
#[derive(Debug, Deserialize)]
struct Shape<'a> {
    #[serde(borrow, default)]
    inputs: Option<&'a RawValue>,
    #[serde(borrow, default)]
    texts: Option<&'a RawValue>,
    #[serde(borrow, default)]
    parameters: Option<&'a RawValue>,
    #[serde(default)]
    model: Option<String>,
}

pub(super) async fn root(asked: Asked) -> Result<Response, Failure> {
    let body = asked.body.clone();
    let shape: Shape<'_> = body::json(&body)?;
    if shape.texts.is_some() {
        return score::rerank(asked).await;
    }
    // Sentences to compare are an object, texts never are.
    if shape.inputs.is_some_and(|inputs| inputs.get().starts_with('{')) {
        return embed::similarity(asked).await;
    }
    let lease = asked.app.models.lease(shape.model.as_deref()).await?;
    let offers = lease.model().offers();
    drop(lease);
    match offers {
        offers if offers.dense => embed::embed(asked).await,
        offers if offers.sparse => embed::sparse(asked).await,
        offers if offers.labels => score::predictions(asked, shape.parameters.is_some()).await,
        offers if offers.scores => score::rerank(asked).await,
        _ => embed::embed(asked).await,
    }
}

#[derive(Debug, Deserialize)]
struct Vertex<'a> {
    #[serde(borrow)]
    instances: Vec<&'a RawValue>,
}

/// One answer for each instance, each a body of its own.
pub(super) async fn vertex(asked: Asked) -> Result<Response, Failure> {
    let body = asked.body.clone();
    let request: Vertex<'_> = body::json(&body)?;
    if request.instances.is_empty() {
        return Err(Failure::new(Kind::Empty, "`instances` cannot be empty"));
    }
    asked.app.check_count(request.instances.len())?;
    let one = |instance: &&RawValue| {
        let body = bytes::Bytes::copy_from_slice(instance.get().as_bytes());
        let (app, caller) = (Arc::clone(&asked.app), asked.caller);
        async move {
            let response = root(Asked { app, caller, body }).await?;
            let whole = response.into_body().collect().await;
            let whole = whole.map_err(|e| Failure::new(Kind::Internal, format!("an answer broke off: {e}")))?;
            Ok::<bytes::Bytes, Failure>(whole.to_bytes())
        }
    };
    // All at once, so that they are computed together.
    let answers = futures_util::future::try_join_all(request.instances.iter().map(one)).await?;
    let mut all = b"{\"predictions\":[".to_vec();
    for (i, answer) in answers.iter().enumerate() {
        if i > 0 {
            all.push(b',');
        }
        all.extend_from_slice(answer);
    }
    all.extend_from_slice(b"]}");
    Ok(json_bytes(200, all))
}
