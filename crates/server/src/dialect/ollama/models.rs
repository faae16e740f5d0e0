//! `/api/tags`, `/api/show`, `/api/ps` and `/api/version`.

use super::{Named, not_found, read, tagged};
use crate::{
    app::App,
    failure::{Failure, Kind},
    front::{Asked, json},
    models::{Facts, Slot},
};
use axum::response::Response;
use embral::Precision;
use ring::digest::{SHA256, digest};
use serde_json::{Map, Value, json as value};
use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The time of day as RFC 3339 has it, in UTC.
pub(super) fn time(at: SystemTime) -> String {
    let seconds = at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // The civil date of a number of days (Hinnant, "chrono-compatible low-level date algorithms").
    let z = days as i64 + 719_468;
    let era = z.div_euclid(146_097);
    let day = z.rem_euclid(146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let (d, m) = (of_year - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let y = year + era * 400 + i64::from(m <= 2);
    format!("{y:04}-{m:02}-{d:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest % 3600 / 60, rest % 60)
}

/// 64 hexadecimal digits that stand for a model.
fn digest_of(text: &str) -> String {
    digest(&SHA256, text.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn capabilities(facts: &Facts) -> Vec<&'static str> {
    let offers = facts.offers;
    let all = [
        ("embedding", offers.dense || offers.sparse || offers.multi_vector),
        ("rerank", offers.scores),
        ("classify", offers.labels),
    ];
    all.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect()
}

fn details(facts: Option<&Facts>) -> Value {
    let Some(facts) = facts else {
        return value!({ "parent_model": "", "format": "", "family": "", "families": null, "parameter_size": "",
                        "quantization_level": "" });
    };
    let info = &facts.info;
    let millions = info.parameters as f64 / 1e6;
    let size = if millions >= 1000.0 { format!("{:.1}B", millions / 1000.0) } else { format!("{millions:.0}M") };
    let level = match info.precision {
        Precision::F32 => "F32",
        Precision::Bf16 => "BF16",
        Precision::Int8 => "Q8_0",
    };
    let format = if info.graph.is_some() { "onnx" } else { "safetensors" };
    value!({
        "parent_model": "", "format": format, "family": info.architecture, "families": [info.architecture],
        "parameter_size": size, "quantization_level": level,
        "context_length": Some(info.max_tokens).filter(|tokens| *tokens < usize::MAX),
        "embedding_length": width(facts),
    })
}

/// Components of the vectors that the model is for.
fn width(facts: &Facts) -> usize {
    facts.token_dimensions.filter(|_| !facts.offers.dense).unwrap_or(facts.info.dimensions)
}

/// A model as lists have it; of one that has never been open there is little to say.
fn row(slot: &Slot, app: &App) -> Value {
    let facts = slot.facts();
    let facts = facts.as_deref();
    let name = tagged(&slot.name);
    value!({
        "name": name,
        "model": name,
        "modified_at": time(facts.map_or_else(|| SystemTime::now() - app.begin.elapsed(), |facts| facts.since)),
        "size": facts.map_or(0, |facts| facts.info.weight_bytes),
        "digest": digest_of(facts.map_or(&slot.name, |facts| &facts.info.fingerprint)),
        "details": details(facts),
        "capabilities": facts.map(capabilities).unwrap_or_default(),
    })
}

pub(super) async fn tags(asked: Asked) -> Result<Response, Failure> {
    let app = Arc::clone(&asked.app);
    let slots = app.models.slots();
    let mut rows: Vec<Value> = slots.iter().map(|slot| row(slot, &app)).collect();
    let stored = tokio::task::spawn_blocking(move || app.models.stored()).await.unwrap_or_default();
    for (name, stored) in stored.into_iter().filter(|(name, _)| !slots.iter().any(|slot| slot.names.contains(name))) {
        let name = tagged(&name);
        let modified = std::fs::metadata(&stored.path).and_then(|data| data.modified()).unwrap_or(UNIX_EPOCH);
        rows.push(value!({
            "name": name, "model": name, "modified_at": time(modified), "size": stored.bytes,
            "digest": digest_of(&name), "details": details(None),
        }));
    }
    Ok(json(200, &value!({ "models": rows })))
}

pub(super) async fn ps(asked: Asked) -> Result<Response, Failure> {
    let app = &asked.app;
    let running = |slot: &Arc<Slot>| {
        let loaded = slot.loaded()?;
        let mut row = row(slot, app);
        let left = match slot.keep_alive() {
            // What is kept for ever: Go's clients take no word for it, and a day of another century is read by all.
            keep if keep < 0 => Duration::from_secs(100 * 365 * 86_400),
            keep => Duration::from_secs_f64((keep as f64 - app.models.idle(slot)).max(0.0)),
        };
        row["expires_at"] = time(SystemTime::now() + left).into();
        row["size_vram"] = 0.into();
        row["context_length"] = loaded.model.info().max_tokens.min(1 << 31).into();
        Some(row)
    };
    let rows: Vec<Value> = app.models.slots().iter().filter_map(running).collect();
    Ok(json(200, &value!({ "models": rows })))
}

pub(super) async fn version(_: Asked) -> Result<Response, Failure> {
    Ok(json(200, &value!({ "version": env!("CARGO_PKG_VERSION") })))
}

pub(super) async fn show(asked: Asked) -> Result<Response, Failure> {
    let request: Named = read(&asked)?;
    let name = request.get()?;
    let models = &asked.app.models;
    let slot = models.find(Some(name)).map_err(|failure| not_found(failure, name))?;
    let facts = match slot.facts() {
        Some(facts) => facts,
        None => {
            models.lease_of(&slot).await?;
            slot.facts()
                .ok_or_else(|| Failure::new(Kind::Internal, "the model was opened, and nothing is known of it"))?
        }
    };
    Ok(json(200, &shown(&slot.name, &facts)))
}

fn shown(name: &str, facts: &Facts) -> Value {
    let info = &facts.info;
    let arch = &info.architecture;
    let mut all = Map::new();
    all.insert("general.architecture".to_owned(), value!(arch));
    all.insert("general.parameter_count".to_owned(), value!(info.parameters));
    let of_arch = [
        ("embedding_length", width(facts)),
        ("context_length", info.max_tokens.min(1 << 31)),
        ("block_count", info.layers),
    ];
    for (name, number) in of_arch {
        all.insert(format!("{arch}.{name}"), value!(number));
    }
    value!({
        "modelfile": format!("FROM {name}\n"),
        "parameters": "",
        "template": "",
        "license": "",
        "details": details(Some(facts)),
        "model_info": all,
        "capabilities": capabilities(facts),
        "modified_at": time(facts.since),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_civil() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_796_083_199, "2026-11-30T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(time(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn names_have_a_tag() {
        for (name, with) in
            [("a", "a:latest"), ("org/a", "org/a:latest"), ("a:7b", "a:7b"), ("host:1/a", "host:1/a:latest")]
        {
            assert_eq!(tagged(name), with);
        }
    }
}
