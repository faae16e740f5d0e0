//! `/info`.

use super::lease_for;
use crate::{
    failure::Failure,
    front::{Asked, json},
};
use axum::response::Response;
use embral::{Pooling, Precision, Truncation};
use serde::Serialize;
use serde_json::{Map, Value, json as value};

/// What is served, as TEI tells it.
#[derive(Debug, Serialize)]
pub(crate) struct Facts {
    pub(crate) model_id: String,
    pub(crate) model_sha: Option<String>,
    pub(crate) model_dtype: &'static str,
    pub(crate) served_model_name: String,
    pub(crate) model_type: Value,
    pub(crate) max_concurrent_requests: usize,
    pub(crate) max_input_length: usize,
    pub(crate) max_batch_tokens: u64,
    pub(crate) max_batch_requests: Option<usize>,
    pub(crate) max_client_batch_size: usize,
    pub(crate) auto_truncate: bool,
    pub(crate) tokenization_workers: usize,
    pub(crate) version: &'static str,
    pub(crate) sha: Option<&'static str>,
    pub(crate) docker_label: Option<&'static str>,
}

pub(super) async fn info(asked: Asked) -> Result<Response, Failure> {
    Ok(json(200, &facts(&asked, None).await?))
}

/// What the model of a name is, or the first one.
pub(crate) async fn facts(asked: &Asked, name: Option<&str>) -> Result<Facts, Failure> {
    let lease = lease_for(asked, name, |_| true).await?;
    let (settings, model) = (&asked.app.settings, lease.model());
    let (info, offers) = (model.info(), model.offers());
    let names: Map<String, Value> =
        model.labels().iter().enumerate().map(|(id, label)| (id.to_string(), value!(label))).collect();
    let ids: Map<String, Value> =
        model.labels().iter().enumerate().map(|(id, label)| (label.clone(), value!(id))).collect();
    let labels = value!({ "id2label": names, "label2id": ids });
    let pooling = match info.pooling {
        _ if offers.sparse && !offers.dense => "splade",
        Pooling::Last => "last_token",
        other => other.name(),
    };
    let kind = match (offers.scores, offers.labels) {
        (true, _) => value!({ "reranker": { "id2label": { "0": "LABEL_0" }, "label2id": { "LABEL_0": 0 } } }),
        (_, true) => value!({ "classifier": labels }),
        _ => value!({ "embedding": { "pooling": pooling } }),
    };
    let dtype = match info.precision {
        Precision::F32 => "float32",
        Precision::Bf16 => "bfloat16",
        Precision::Int8 => "int8",
    };
    // A model without a limit takes what a queue takes.
    let most = info.max_tokens.min(usize::try_from(settings.queue_tokens).unwrap_or(usize::MAX));
    let statistics = lease.loaded.dispatcher.statistics(lease.loaded.id).unwrap_or_default();
    Ok(Facts {
        model_id: lease.name().to_owned(),
        model_sha: Some(info.fingerprint.clone()),
        model_dtype: dtype,
        served_model_name: lease.name().to_owned(),
        model_type: kind,
        max_concurrent_requests: settings.queue_requests,
        max_input_length: most,
        max_batch_tokens: statistics.budget_tokens.max(1),
        max_batch_requests: None,
        max_client_batch_size: settings.max_inputs,
        auto_truncate: model.truncation() != Truncation::Error,
        tokenization_workers: std::thread::available_parallelism().map_or(1, usize::from),
        version: env!("CARGO_PKG_VERSION"),
        sha: None,
        docker_label: None,
    })
}
