//! `/api/pull` and `/api/delete`.

use super::{models, not_found, tagged};
use crate::{
    body,
    failure::{Failure, Kind},
    front::{Asked, json, json_bytes},
};
use axum::{body::Body, http::HeaderValue, http::header, response::Response};
use bytes::Bytes;
use embral::store::{Progress, ResolveOptions, Store};
use serde::Deserialize;
use serde_json::{Value, json as value};
use std::sync::Arc;
use tokio::sync::mpsc::{Sender, channel};

#[derive(Debug, Deserialize)]
struct Pull {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    stream: Option<bool>,
}

impl Pull {
    fn model(&self) -> Result<String, Failure> {
        let name = self.model.as_ref().or(self.name.as_ref()).map(|name| name.trim()).filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| Failure::invalid("model is required"))?;
        Ok(name.strip_suffix(":latest").unwrap_or(name).to_owned())
    }
}

pub(super) async fn pull(asked: Asked) -> Result<Response, Failure> {
    let request: Pull = body::json(&asked.body)?;
    let name = request.model()?;
    let streams = request.stream != Some(false);
    let there = match asked.app.models.find(Some(&name)) {
        Ok(_) => true,
        Err(failure) if failure.kind == Kind::NoModel => false,
        Err(failure) => return Err(failure),
    };
    if there {
        let lines = [value!({ "status": "pulling manifest" }), value!({ "status": "success" })];
        return Ok(if streams { whole(&lines) } else { json(200, &lines[1]) });
    }
    if !asked.app.settings.allow_pull {
        let message = format!(
            "pulling {:?} is not allowed: the server fetches no models for its clients unless it is started with --allow-pull",
            name.chars().take(100).collect::<String>()
        );
        return Err(Failure::new(Kind::Forbidden, message));
    }
    let (sender, mut lines) = channel::<Value>(16);
    let offline = asked.app.settings.offline;
    // It goes on until it is done or the client has left, which ends it at its next line.
    let pulling = tokio::task::spawn_blocking(move || fetch(&name, offline, &sender));
    if !streams {
        while lines.recv().await.is_some() {}
        let done = pulling.await.map_err(|_| Failure::new(Kind::Internal, "pulling the model failed"))?;
        return done.map(|()| json(200, &value!({ "status": "success" })));
    }
    let stream = futures_util::stream::unfold((lines, Some(pulling)), |(mut lines, pulling)| async move {
        if let Some(line) = lines.recv().await {
            return Some((Ok::<Bytes, std::convert::Infallible>(text(&line)), (lines, pulling)));
        }
        let last = match pulling?.await {
            Ok(Ok(())) => value!({ "status": "success" }),
            Ok(Err(failure)) => value!({ "error": failure.message }),
            Err(_) => value!({ "error": "pulling the model failed" }),
        };
        Some((Ok(text(&last)), (lines, None)))
    });
    Ok(lines_of(Body::from_stream(stream)))
}

/// Fetches a model into the store.
fn fetch(name: &str, offline: bool, lines: &Sender<Value>) -> Result<(), Failure> {
    let _ = lines.blocking_send(value!({ "status": "pulling manifest" }));
    let mut progress = Lines { lines, file: String::new(), total: 0, completed: 0, said: 0 };
    let options = ResolveOptions { offline, progress: Some(&mut progress), ..ResolveOptions::default() };
    let store = Store::open_default().map_err(Failure::from)?;
    store.pull(name, options).map(|_| ()).map_err(|e| {
        let mut failure = not_found(Failure::from(e), name);
        if failure.kind == Kind::Internal {
            failure.kind = Kind::Unavailable;
        }
        failure
    })
}

/// Progress of a download as lines.
struct Lines<'a> {
    lines: &'a Sender<Value>,
    file: String,
    total: u64,
    completed: u64,
    /// Bytes when a line was sent last.
    said: u64,
}

impl Lines<'_> {
    fn say(&mut self) {
        self.said = self.completed;
        let status = format!("pulling {}", self.file);
        let line = value!({ "status": status, "digest": self.file, "total": self.total, "completed": self.completed });
        let _ = self.lines.blocking_send(line);
    }
}

impl Progress for Lines<'_> {
    fn begin(&mut self, file: &str, bytes: u64) {
        (self.file, self.total, self.completed) = (file.to_owned(), bytes, 0);
        self.say();
    }

    fn advance(&mut self, bytes: u64) {
        self.completed += bytes;
        // A line a percent: a client that draws a bar needs no more.
        if self.completed - self.said > self.total / 100 {
            self.say();
        }
    }

    fn end(&mut self) {
        self.completed = self.total;
        self.say();
    }
}

fn text(line: &Value) -> Bytes {
    Bytes::from(format!("{line}\n"))
}

fn whole(lines: &[Value]) -> Response {
    lines_of(Body::from(lines.iter().map(text).collect::<Vec<_>>().concat()))
}

fn lines_of(body: Body) -> Response {
    let mut response = json_bytes(200, body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    response
}

pub(super) async fn delete(asked: Asked) -> Result<Response, Failure> {
    let request: Pull = body::json(&asked.body)?;
    let name = request.model()?;
    let slot = asked.app.models.find(Some(&name)).map_err(|failure| not_found(failure, &name))?;
    if !asked.app.settings.allow_pull || slot.declared {
        let why = match slot.declared {
            true => "the server was started with it",
            false => "the server lets clients delete none unless it is started with --allow-pull",
        };
        return Err(Failure::new(Kind::Forbidden, format!("deleting {} is not allowed: {why}", tagged(&slot.name))));
    }
    if slot.in_use() > 0 {
        let failure = Failure::new(Kind::Overloaded, format!("{} is in use", tagged(&slot.name)));
        return Err(Failure { retry_after: Some(std::time::Duration::from_secs(1)), ..failure });
    }
    asked.app.models.forget(&slot);
    let removed = tokio::task::spawn_blocking({
        let slot = Arc::clone(&slot);
        move || Store::open_default().and_then(|store| store.remove(&slot.entry.name))
    });
    let removed = removed.await.map_err(|_| Failure::new(Kind::Internal, "deleting the model failed"))?;
    removed.map_err(|e| not_found(Failure::from(e), &name))?;
    tracing::info!(model = %slot.name, at = models::time(std::time::SystemTime::now()), "deleted");
    Ok(json_bytes(200, Body::empty()))
}
