//! `GET /embral/v1/models` and `GET /embral/v1/status`.

use crate::{
    app::App,
    failure::Failure,
    front::{Asked, json},
    metrics::embral_rss,
    models::{Loaded, Slot},
};
use axum::response::Response;
use embral::{pool::WorkerStatus, queue::Statistics};
use serde_json::{Value, json as value};
use std::sync::atomic::Ordering;

pub(super) async fn list(asked: Asked) -> Result<Response, Failure> {
    let app = &asked.app;
    let slots = app.models.slots();
    let all: Vec<Value> = slots.iter().enumerate().map(|(place, slot)| model(app, place, slot)).collect();
    Ok(json(200, &value!({ "models": all })))
}

fn model(app: &App, place: usize, slot: &Slot) -> Value {
    let loaded = slot.loaded();
    let idle = loaded.as_ref().map(|_| app.models.idle(slot));
    value!({
        "name": slot.name,
        "aliases": slot.names[1..],
        "default": place == 0,
        "loaded": loaded.is_some(),
        "in_use": slot.in_use(),
        "idle_s": idle,
        "keep_alive_s": slot.keep_alive(),
        "task": loaded.as_ref().map(|loaded| loaded.model.task().replace('-', "_")),
        "info": loaded.map(|loaded| info(&loaded)),
    })
}

fn info(loaded: &Loaded) -> Value {
    let (info, offers) = (loaded.model.info(), loaded.model.offers());
    value!({
        "architecture": info.architecture,
        "dimensions": loaded.model.token_dimensions().filter(|_| !offers.dense).unwrap_or(info.dimensions),
        "width": info.width,
        "max_tokens": Some(info.max_tokens).filter(|tokens| *tokens < usize::MAX),
        "parameters": info.parameters,
        "layers": info.layers,
        "pooling": info.pooling.name(),
        "normalize": info.normalize,
        "prompts": info.prompts,
        "matryoshka": info.matryoshka,
        "precision": info.precision.name(),
        "device": info.device,
        "weight_bytes": info.weight_bytes,
        "memory_bytes": loaded.bytes,
        "fingerprint": info.fingerprint,
        "labels": loaded.model.labels(),
        "outputs": { "dense": offers.dense, "sparse": offers.sparse, "multi_vector": offers.multi_vector,
                     "scores": offers.scores, "labels": offers.labels },
        "opened_in_s": loaded.took.as_secs_f64(),
    })
}

pub(super) async fn status(asked: Asked) -> Result<Response, Failure> {
    let app = &asked.app;
    let report = app.dispatcher.memory();
    let room = report.group.or(report.address_space).or(report.machine);
    let (flying, answered, failed) = app.metrics.counts();
    let slots = app.models.slots();
    let of = |slot: &std::sync::Arc<Slot>| {
        let loaded = slot.loaded()?;
        let statistics = loaded.dispatcher.statistics(loaded.id)?;
        let mut found = queue(&slot.name, &loaded, &statistics);
        if let Some(pool) = loaded.model.pool() {
            found["workers"] = pool.status().workers.iter().map(worker).collect();
        }
        Some(found)
    };
    let models: Vec<Value> = slots.iter().filter_map(of).collect();
    Ok(json(
        200,
        &value!({
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_s": app.begin.elapsed().as_secs_f64(),
            "memory": { "rss_bytes": embral_rss().map(|bytes| bytes as u64), "limit_bytes": room.map(|memory| memory.limit),
                        "pressure": report.pressure() },
            "requests": { "total": answered, "ok": answered.saturating_sub(failed), "errors": failed, "in_flight": flying },
            "models": models,
        }),
    ))
}

fn worker(worker: &WorkerStatus) -> Value {
    value!({
        "name": worker.name, "state": worker.state.name(), "in_flight": worker.in_flight, "answered": worker.answered,
        "failed": worker.failed, "texts": worker.texts, "ejections": worker.ejections,
        "tokens_s": worker.tokens_per_second, "last_error": worker.last_error,
    })
}

fn queue(name: &str, loaded: &Loaded, queue: &Statistics) -> Value {
    let totals = &queue.totals;
    value!({
        "name": name,
        "queue": {
            "waiting_requests": queue.waiting_requests, "waiting_sequences": queue.waiting_sequences,
            "waiting_tokens": queue.waiting_tokens, "running_sequences": queue.running_sequences,
            "oldest_s": queue.oldest.map(|age| age.as_secs_f64()), "budget_tokens": queue.budget_tokens,
            "arriving_tokens_s": queue.arriving, "throughput_tokens_s": queue.throughput,
            "latency_p50_s": queue.latency_p50, "latency_p95_s": queue.latency_p95, "latency_p99_s": queue.latency_p99,
        },
        "totals": {
            "accepted": totals.accepted, "done": totals.done, "failed": totals.failed,
            "refused": totals.refused.iter().sum::<u64>(), "expired": totals.expired, "cancelled": totals.cancelled,
            "batches": totals.batches, "sequences": totals.sequences, "tokens": totals.tokens,
            "padding_saved": totals.padding_saved, "busy_s": totals.busy_seconds,
        },
        "cache": { "hits": loaded.cache_hits.load(Ordering::Relaxed), "misses": loaded.cache_misses.load(Ordering::Relaxed) },
    })
}
