//! What all requests share, and the paths.

use crate::{
    auth::Keys,
    body::{Limits, Room},
    dialect,
    failure::{Failure, Kind},
    front::failed,
    health::Health,
    limit::{Limiter, Rates},
    metrics::{self, Metrics},
    models::{Front, Models, Served},
    page,
    settings::{ModelEntry, Resolved},
    stream::Streams,
};
use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, header},
    middleware::{self, Next},
    response::Response,
};
use embral::queue::{Dispatcher, Tenant};
use embral_types::{Error, ErrorKind, Result};
use std::{sync::Arc, time::Instant};
use tower_http::{
    catch_panic::CatchPanicLayer,
    cors::{AllowHeaders, AllowOrigin, CorsLayer},
};

/// What all requests share.
pub(crate) struct App {
    pub(crate) settings: Arc<Resolved>,
    pub(crate) keys: Keys,
    pub(crate) limiter: Limiter,
    pub(crate) origins: Origins,
    pub(crate) bodies: Limits,
    pub(crate) dispatcher: Arc<Dispatcher<Served>>,
    pub(crate) models: Models,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) health: Health,
    pub(crate) streams: Streams,
    pub(crate) begin: Instant,
}

impl App {
    /// Blocks while workers are asked what they are.
    pub(crate) fn new(settings: Resolved) -> Result<Arc<Self>> {
        let settings = Arc::new(settings);
        let told = &settings.settings;
        let rates = Rates { requests: told.requests_per_minute, tokens: told.tokens_per_minute };
        let keys = Keys::open(told.api_key_file.as_deref(), told.api_key.as_deref(), rates)?;
        let begin = Instant::now();
        let metrics = Arc::new(Metrics::new());
        let dispatcher = Arc::new(Dispatcher::observed(1, Some(metrics::observer(&metrics)))?);
        let shares: Vec<(Tenant, f64)> =
            keys.iter().filter(|(_, key)| key.weight != 1.0).map(|(tenant, key)| (tenant, key.weight)).collect();
        check_names(&told.models)?;
        let front = Front::open(&settings, &shares, metrics::observer(&metrics))?;
        let models = Models::new(Arc::clone(&settings), Arc::clone(&dispatcher), shares, begin, front);
        // A few large bodies at once, or very many small ones.
        let room = Room::new(settings.body_limit.saturating_mul(4).max(256 << 20));
        let bodies = Limits { bytes: settings.body_limit, pause: settings.client_timeout, room };
        Ok(Arc::new(Self {
            origins: Origins {
                listed: told.cors_origins.clone(),
                local: told.host.is_none_or(|host| host.is_loopback()),
            },
            keys,
            limiter: Limiter::default(),
            bodies,
            dispatcher,
            models,
            metrics,
            health: Health::new(begin),
            streams: Streams::new(settings.max_connections),
            begin,
            settings,
        }))
    }

    /// The paths of all dialects.
    pub(crate) fn router(self: &Arc<Self>) -> Router {
        let mut router = Router::new()
            .merge(dialect::operation::routes())
            .merge(page::routes())
            .merge(dialect::openai::routes())
            .merge(dialect::native::routes())
            .merge(dialect::tei::routes())
            .merge(dialect::ollama::routes())
            .merge(dialect::cohere::routes())
            .merge(dialect::rerank::routes())
            .merge(dialect::score::routes());
        router = router.fallback(nowhere).method_not_allowed_fallback(other_method);
        let router = router.with_state(Arc::clone(self));
        router
            .layer(CatchPanicLayer::custom(|_: Box<dyn std::any::Any + Send>| {
                failed(&dialect::native::Native, &Failure::new(Kind::Internal, "the server failed on this request"))
            }))
            .layer(self.origins.layer())
            .layer(middleware::from_fn_with_state(Arc::clone(self), last_request))
    }
}

/// Refuses two models of one name: the second could not be asked.
fn check_names(models: &[ModelEntry]) -> Result<()> {
    let mut seen: Vec<&str> = Vec::new();
    for name in models.iter().flat_map(|entry| entry.aliases.iter().map(String::as_str).chain([entry.name.as_str()])) {
        if seen.contains(&name) {
            let message = format!("two models are called {name:?}: expected a name or an alias of its own for each");
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        seen.push(name);
    }
    Ok(())
}

/// While the server stops, every connection ends with the request that it carries.
async fn last_request(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if app.health.is_draining() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn nowhere(request: Request) -> Response {
    let path: String = request.uri().path().chars().take(100).collect();
    let failure = Failure::new(Kind::NoRoute, format!("there is nothing at {path}; /openapi.json lists the paths"));
    failed(dialect::of_path(request.uri().path()), &failure)
}

async fn other_method(request: Request) -> Response {
    let message = format!("{} is not what {} is asked with", request.method(), request.uri().path());
    failed(dialect::of_path(request.uri().path()), &Failure::new(Kind::Method, message))
}

/// The origins whose pages may ask.
#[derive(Debug)]
pub(crate) struct Origins {
    listed: Vec<String>,
    /// The server is reached from this machine alone, by an address or as localhost: a page under another name that leads here is a trick.
    local: bool,
}

impl Origins {
    fn layer(&self) -> CorsLayer {
        let layer = CorsLayer::new()
            .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::DELETE, Method::OPTIONS])
            // `*` does not cover Authorization: what is asked for is answered.
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers([header::RETRY_AFTER, header::HeaderName::from_static("x-request-id")])
            .max_age(std::time::Duration::from_secs(600));
        if self.listed.iter().any(|origin| origin == "*") {
            return layer.allow_origin(AllowOrigin::any());
        }
        layer
            .allow_origin(AllowOrigin::list(self.listed.iter().filter_map(|origin| HeaderValue::from_str(origin).ok())))
    }

    /// Refuses what a page of another origin sends without having asked first, as browsers let it: forms and plain text.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), Failure> {
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let Some(origin) = text(header::ORIGIN) else { return Ok(()) };
        let own = origin.split_once("://").map(|(_, host)| host);
        let known = |host: &str| {
            let name = host.rsplit_once(':').map_or(host, |(name, port)| match port.parse::<u16>() {
                Ok(_) => name,
                Err(_) => host,
            });
            name == "localhost" || name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok()
        };
        let is_own = own.is_some() && own == text(header::HOST) && own.is_some_and(|host| !self.local || known(host));
        if is_own || self.listed.iter().any(|listed| listed == "*" || listed == origin) {
            return Ok(());
        }
        Err(Failure::new(Kind::Forbidden, "pages of this origin may not ask this server: see --cors-origins"))
    }
}
