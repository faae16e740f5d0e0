//! `/api/pull` and `/api/delete`.

use super::{Named, not_found, read, tagged};
use crate::{
    app::App,
    failure::{Failure, Kind},
    front::{Asked, json, json_bytes},
    models::Slot,
};
use axum::{body::Body, http::HeaderValue, http::header, response::Response};
use bytes::Bytes;
use embral::store::{Progress, ResolveOptions, Store, Stored, StoredSource};
use embral_types::ErrorKind;
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json as value};
use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::{
    sync::mpsc::{Sender, channel},
    task::JoinError,
};

#[derive(Debug, Deserialize)]
struct Pull {
    #[serde(flatten)]
    named: Named,
    #[serde(default)]
    stream: Option<bool>,
}

/// The name without the tag that says nothing.
fn bare(named: &Named) -> Result<String, Failure> {
    let name = named.get()?;
    Ok(name.strip_suffix(":latest").unwrap_or(name).to_owned())
}

/// As much of a name as is said again.
fn shown(name: &str) -> String {
    name.chars().take(100).collect()
}

pub(super) async fn pull(asked: Asked) -> Result<Response, Failure> {
    let request: Pull = read(&asked)?;
    let name = bare(&request.named)?;
    let streams = request.stream != Some(false);
    let app = Arc::clone(&asked.app);
    match app.models.find(Some(&name)) {
        Ok(_) => return Ok(done(streams)),
        Err(failure) if failure.kind == Kind::NoModel => {}
        Err(failure) => return Err(failure),
    }
    if !app.settings.allow_pull {
        let message = format!(
            "pulling {:?} is not allowed: the server fetches no models for its clients unless it is started with --allow-pull",
            shown(&name)
        );
        return Err(Failure::new(Kind::Forbidden, message));
    }
    // One that lies in the store already is not asked for on the network.
    if adopt(&app, &name).await {
        return Ok(done(streams));
    }
    let (sender, mut lines) = channel::<Value>(16);
    let (offline, fetched) = (app.settings.offline, name.clone());
    let pulling = tokio::task::spawn_blocking(move || fetch(&fetched, offline, &sender));
    // Until the first file begins, a failure still has a status of its own.
    let first = lines.recv().await;
    if !streams || first.is_none() {
        while lines.recv().await.is_some() {}
        ended(&app, &name, pulling.await).await?;
        return Ok(done(streams));
    }
    // The client that leaves drops the body, and with it `lines`, which ends the download.
    let begun = [Some(value!({ "status": "pulling manifest" })), first];
    let begun = futures_util::stream::iter(begun.into_iter().flatten().map(|line| Ok(text(&line))));
    let state = (lines, Some((app, name, pulling)));
    let rest = futures_util::stream::unfold(state, |(mut lines, pulling)| async move {
        if let Some(line) = lines.recv().await {
            return Some((Ok::<Bytes, Infallible>(text(&line)), (lines, pulling)));
        }
        let (app, name, pulling) = pulling?;
        let last = match ended(&app, &name, pulling.await).await {
            Ok(()) => value!({ "status": "success" }),
            Err(failure) => value!({ "error": failure.message }),
        };
        Some((Ok(text(&last)), (lines, None)))
    });
    Ok(lines_of(Body::from_stream(begun.chain(rest))))
}

/// The answer where nothing is left to be done.
fn done(streams: bool) -> Response {
    let success = value!({ "status": "success" });
    match streams {
        true => lines_of(Body::from([text(&value!({ "status": "pulling manifest" })), text(&success)].concat())),
        false => json(200, &success),
    }
}

/// Serves a model that lies in the store; whether it does.
async fn adopt(app: &Arc<App>, name: &str) -> bool {
    let (app, name) = (Arc::clone(app), name.to_owned());
    tokio::task::spawn_blocking(move || app.models.adopt(&name).is_some()).await.unwrap_or(false)
}

/// What a download has come to: a model that was fetched is served from then on.
async fn ended(app: &Arc<App>, name: &str, pulled: Result<Result<(), Failure>, JoinError>) -> Result<(), Failure> {
    pulled.map_err(|_| Failure::new(Kind::Internal, "pulling the model failed"))??;
    if !adopt(app, name).await {
        let message = format!("model {:?} was fetched, and is not in the store", shown(name));
        return Err(Failure::new(Kind::Internal, message));
    }
    tracing::info!(model = name, "pulled");
    Ok(())
}

/// Fetches a model into the store.
fn fetch(name: &str, offline: bool, lines: &Sender<Value>) -> Result<(), Failure> {
    let mut progress = Lines { lines, file: String::new(), total: 0, completed: 0, said: 0 };
    let options = ResolveOptions { offline, progress: Some(&mut progress), ..ResolveOptions::default() };
    let store = Store::open_default().map_err(Failure::from)?;
    store.pull(name, options).map(|_| ()).map_err(|e| {
        let (kind, message) = (e.kind(), e.message().to_owned());
        let mut failure = Failure::from(e);
        match kind {
            ErrorKind::NotFound => {
                failure.kind = Kind::NoModel;
                failure.message = format!("model '{}' not found: {message}", shown(name));
            }
            ErrorKind::InvalidInput => failure.message = format!("invalid model name: {message}"),
            ErrorKind::Io | ErrorKind::Malformed => failure.kind = Kind::Unavailable,
            _ => {}
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

    fn is_wanted(&self) -> bool {
        !self.lines.is_closed()
    }
}

fn text(line: &Value) -> Bytes {
    Bytes::from(format!("{line}\n"))
}

fn lines_of(body: Body) -> Response {
    let mut response = json_bytes(200, body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    response
}

pub(super) async fn delete(asked: Asked) -> Result<Response, Failure> {
    let request: Named = read(&asked)?;
    let name = bare(&request)?;
    let app = asked.app;
    let slot = app.models.find(Some(&name)).map_err(|failure| not_found(failure, &name))?;
    let refused =
        |why: &str| Failure::new(Kind::Forbidden, format!("deleting {} is not allowed: {why}", tagged(&slot.name)));
    if slot.declared {
        return Err(refused("the server was started with it"));
    }
    if !app.settings.allow_pull {
        return Err(refused("the server lets clients delete none unless it is started with --allow-pull"));
    }
    app.models.close_if_idle(&slot);
    if slot.in_use() > 0 {
        let failure = Failure::new(Kind::Overloaded, format!("{} is in use", tagged(&slot.name)));
        return Err(Failure { retry_after: Some(std::time::Duration::from_secs(1)), ..failure });
    }
    let (declared, stored) = (declared_paths(&app), slot.entry.name.clone());
    let removed = tokio::task::spawn_blocking(move || {
        let store = Store::open_default().map_err(Failure::from)?;
        let there = store.list().map_err(Failure::from)?.into_iter().find(|there| there.name == stored);
        if there.is_some_and(|there| declared.iter().any(|path| is_within(path, &there))) {
            return Ok(false);
        }
        match store.remove(&stored) {
            // Somebody else was quicker.
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(true),
            removed => removed.map(|_| true).map_err(Failure::from),
        }
    });
    let removed = removed.await.map_err(|_| Failure::new(Kind::Internal, "deleting the model failed"))??;
    if !removed {
        return Err(refused("the server was started with a folder of it"));
    }
    // Only now: found by a request in between, it would have been given a place again.
    app.models.forget(&slot);
    tracing::info!(model = %slot.name, "deleted");
    Ok(json_bytes(200, Body::empty()))
}

/// Where the models lie that the server was started with.
fn declared_paths(app: &App) -> Vec<PathBuf> {
    let slots = app.models.slots();
    let declared = slots.iter().filter(|slot| slot.declared);
    let path = |slot: &Arc<Slot>| slot.facts().and_then(|facts| facts.info.path.clone());
    declared.map(|slot| path(slot).unwrap_or_else(|| PathBuf::from(&slot.entry.name))).collect()
}

/// Whether a path leads into what goes with a model of the store: of the cache every revision does.
fn is_within(path: &Path, stored: &Stored) -> bool {
    let root = match stored.source {
        StoredSource::Hub => stored.path.ancestors().nth(2).unwrap_or(&stored.path),
        StoredSource::Imported => &stored.path,
    };
    match (path.canonicalize(), root.canonicalize()) {
        (Ok(path), Ok(root)) => path.starts_with(root),
        _ => false,
    }
}
