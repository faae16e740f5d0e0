//! `/info`.

use super::lease_for;
use crate::{
    failure::Failure,
    front::{Asked, json},
};
use axum::response::Response;
use embral::{Pooling, Precision, Truncation};
use serde_json::{Map, Value, json as value};

pub(super) async fn info(asked: Asked) -> Result<Response, Failure> {
    let lease = lease_for(&asked, None, |_| true).await?;
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
    Ok(json(
        200,
        &value!({
            "model_id": lease.name(),
            "model_sha": info.fingerprint,
            "model_dtype": dtype,
            "served_model_name": lease.name(),
            "model_type": kind,
            "max_concurrent_requests": settings.queue_requests,
            "max_input_length": most,
            "max_batch_tokens": statistics.budget_tokens.max(1),
            "max_batch_requests": null,
            "max_client_batch_size": settings.max_inputs,
            "auto_truncate": model.truncation() != Truncation::Error,
            "tokenization_workers": std::thread::available_parallelism().map_or(1, usize::from),
            "version": env!("CARGO_PKG_VERSION"),
            "sha": null,
            "docker_label": null,
        }),
    ))
}
