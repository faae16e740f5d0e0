//! What every request passes, whatever its dialect: key, rate, origin, body; and on its way out the metrics.

use crate::{
    app::App,
    auth,
    caller::Caller,
    failure::{Failure, Kind},
    log::{SPANS, adopt},
    metrics::Seen,
};
use axum::{
    body::Body,
    extract::Request,
    http::{HeaderValue, header},
    response::Response,
};
use bytes::Bytes;
use embral::queue::Tenant;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};
use tracing::Instrument;

/// One of the APIs.
pub(crate) trait Dialect: Sync {
    /// A word for logs and metrics.
    fn name(&self) -> &'static str;

    /// The status and the body of a failure.
    fn failure(&self, failure: &Failure) -> Response;

    /// Whether a body that does not say that it is JSON is refused.
    fn asks_for_json(&self) -> bool {
        false
    }
}

/// A path of a dialect.
#[derive(Clone, Copy)]
pub(crate) struct Route {
    pub(crate) dialect: &'static dyn Dialect,
    /// As metrics call it.
    pub(crate) path: &'static str,
}

/// Handlers of a dialect's paths, each `name "path" => what answers it;`, behind what makes the [`Route`] of a path.
macro_rules! handlers {
    ($route:ident; $($name:ident $path:literal => $handle:path;)*) => {
        $(async fn $name(
            axum::extract::State(app): axum::extract::State<std::sync::Arc<crate::app::App>>,
            request: axum::extract::Request,
        ) -> axum::response::Response {
            crate::front::answer(app, $route($path), request, $handle).await
        })*
    };
}
pub(crate) use handlers;

/// A request that was let in.
pub(crate) struct Asked {
    pub(crate) app: Arc<App>,
    pub(crate) caller: Caller,
    pub(crate) body: Bytes,
}

/// Lets a request in, has it handled, and gives its failure the form of its dialect.
pub(crate) async fn answer<F, Fut>(app: Arc<App>, route: Route, request: Request, handle: F) -> Response
where
    F: FnOnce(Asked) -> Fut,
    Fut: Future<Output = Result<Response, Failure>>,
{
    let entered = Arc::clone(&app);
    let whole = |request| async move {
        let (asked, _taken) = enter(&entered, route.dialect, request).await?;
        handle(asked).await
    };
    answer_unread(app, route, request, whole).await
}

/// The same where the body is not read yet, and whether the request may come in is for `handle` to find out.
pub(crate) async fn answer_unread<F, Fut>(app: Arc<App>, route: Route, request: Request, handle: F) -> Response
where
    F: FnOnce(Request) -> Fut,
    Fut: Future<Output = Result<Response, Failure>>,
{
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let start = Instant::now();
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let id = format!("req-{:x}-{number:x}", std::process::id());
    let _flying = app.metrics.flying();
    let method = request.method().clone();
    let span = tracing::info_span!(
        target: SPANS, "request", otel.name = route.path, otel.kind = "server", http.route = route.path,
        http.request.method = %method, http.response.status_code = tracing::field::Empty,
        embral.dialect = route.dialect.name(), embral.request = id,
    );
    adopt(&span, request.headers());
    let handled = handle(request);
    let (mut response, failure) = match handled.instrument(span.clone()).await {
        Ok(response) => (response, None),
        Err(failure) => (failed(route.dialect, &failure), Some(failure)),
    };
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("x-request-id", value);
    }
    let (status, took) = (response.status(), start.elapsed());
    span.record("http.response.status_code", status.as_u16());
    drop(span);
    let seen = Seen { dialect: route.dialect.name(), path: route.path, status: status.as_u16(), took };
    app.metrics.seen(&seen, failure.as_ref());
    match &failure {
        Some(failure) if status.is_server_error() => {
            tracing::warn!(id, %method, path = route.path, status = status.as_u16(), seconds = took.as_secs_f64(), "{failure}");
        }
        Some(failure) => {
            tracing::info!(id, %method, path = route.path, status = status.as_u16(), seconds = took.as_secs_f64(), "{failure}");
        }
        None => {
            tracing::info!(id, %method, path = route.path, status = status.as_u16(), seconds = took.as_secs_f64(), "answered");
        }
    }
    response
}

/// The response of a failure, with the headers that every dialect has.
pub(crate) fn failed(dialect: &dyn Dialect, failure: &Failure) -> Response {
    let mut response = dialect.failure(failure);
    let headers = response.headers_mut();
    if let Some(seconds) = failure.retry_seconds() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if matches!(failure.kind, Kind::Unsupported | Kind::Internal) {
        // What will not get better is not to be tried again: OpenAI's clients read this.
        headers.insert("x-should-retry", HeaderValue::from_static("false"));
    }
    response
}

/// Whether the request may come in; and then who asks, and what.
pub(crate) async fn enter(
    app: &Arc<App>,
    dialect: &dyn Dialect,
    request: Request,
) -> Result<(Asked, crate::body::Taken), Failure> {
    let caller = admit(app, request.headers())?;
    let (parts, body) = request.into_parts();
    let kind = parts.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let is_json = kind.is_some_and(|kind| kind.to_ascii_lowercase().windows(4).any(|word| word == b"json"));
    let has_body = parts.method == axum::http::Method::POST;
    if has_body && dialect.asks_for_json() && !is_json {
        let message = "Expected request with `Content-Type: application/json`";
        return Err(Failure::new(Kind::MediaType, message));
    }
    let length = parts.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let (body, taken) = app.bodies.read(body, length).await?;
    Ok((Asked { app: Arc::clone(app), caller, body }, taken))
}

/// Who asks, by the headers; a failure where they may not.
pub(crate) fn admit(app: &App, headers: &axum::http::HeaderMap) -> Result<Caller, Failure> {
    app.origins.check(headers)?;
    let header = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
    let otherwise = match header {
        b"" => "this server asks for a key: send Authorization: Bearer KEY",
        _ => "the key is not one of this server's",
    };
    let tenant = holder(app, auth::bearer(header).unwrap_or_default(), otherwise)?;
    Caller::of(headers, tenant, app.settings.request_timeout)
}

/// Whose key it is, where keys are asked for; one request of theirs is taken. `otherwise` is what is said where it is nobody's.
pub(crate) fn holder(app: &App, key: &[u8], otherwise: &str) -> Result<Tenant, Failure> {
    if app.keys.is_empty() {
        return Ok(Tenant::default());
    }
    let found = app.keys.find(key);
    let (tenant, key) = found.ok_or_else(|| Failure::new(Kind::Unauthorized, otherwise))?;
    app.limiter.request(tenant, key.rates, app.begin.elapsed()).map_err(|wait| {
        let message = format!("the rate of {} is used up; come again in {:.1} s", key.name, wait.as_secs_f64());
        Failure { retry_after: Some(wait), ..Failure::new(Kind::RateLimited, message) }
    })?;
    Ok(tenant)
}

/// A response of JSON that is written already.
pub(crate) fn json_bytes(status: u16, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = axum::http::StatusCode::from_u16(status).unwrap_or_default();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A response of a value as JSON.
pub(crate) fn json(status: u16, value: &impl serde::Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => json_bytes(status, body),
        Err(e) => {
            tracing::error!("an answer cannot be written: {e}");
            json_bytes(500, r#"{"error":"the answer cannot be written"}"#)
        }
    }
}
