//! Where the lines of the log and the traces go, and in which form.

#[cfg(feature = "otlp")]
mod otlp;

use crate::Settings;
use embral_types::{Error, ErrorKind, Result};
use std::io::IsTerminal;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{Layer, filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

/// The target of spans, which are traces and no lines of the log.
pub(crate) const SPANS: &str = "embral::spans";

/// What is still to be sent of traces is sent when this is dropped.
#[derive(Debug)]
#[must_use = "traces end with it"]
pub struct Logging {
    #[cfg(feature = "otlp")]
    _traces: Option<otlp::Traces>,
}

/// Writes the log of the process to standard error as the settings say, and traces to where they say: for programs, once, before
/// [`crate::Server::start`].
///
/// # Errors
/// Where the level, the form or the address of the collector is none, or the process has a log already.
pub fn start(settings: &Settings) -> Result<Logging> {
    let invalid = |message: String| Error::new(ErrorKind::InvalidInput, message);
    let level = settings.log.as_deref().unwrap_or("info");
    let filter: Targets = level
        .parse()
        .map_err(|e| invalid(format!("log: expected error, warn, info, debug or trace, found {level:?} ({e})")))?;
    let filter = filter.with_target(SPANS, LevelFilter::OFF);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    let lines = match settings.log_format.as_deref().unwrap_or("text") {
        "text" => lines.with_ansi(std::io::stderr().is_terminal()).with_filter(filter).boxed(),
        "json" => lines.json().flatten_event(true).with_filter(filter).boxed(),
        other => return Err(invalid(format!("log-format: expected text or json, found {other:?}"))),
    };
    let registry = tracing_subscriber::registry().with(lines);
    let failed = |e| Error::new(ErrorKind::Unsupported, format!("the log cannot be started: {e}"));
    #[cfg(feature = "otlp")]
    {
        let traces = settings.otlp_endpoint.as_deref().map(otlp::Traces::to).transpose()?;
        let spans = traces
            .as_ref()
            .map(|traces| traces.layer().with_filter(Targets::new().with_target(SPANS, LevelFilter::INFO)));
        registry.with(spans).try_init().map_err(failed)?;
        Ok(Logging { _traces: traces })
    }
    #[cfg(not(feature = "otlp"))]
    {
        if settings.otlp_endpoint.is_some() {
            return Err(Error::new(ErrorKind::Unsupported, "otlp-endpoint is set, and this build sends no traces")
                .hint("build with the feature otlp, or leave it out"));
        }
        registry.try_init().map_err(failed)?;
        Ok(Logging {})
    }
}

/// The trace that a request belongs to, as its `traceparent` header says, becomes the parent of `span`.
#[cfg(feature = "otlp")]
pub(crate) use otlp::adopt;

#[cfg(not(feature = "otlp"))]
pub(crate) fn adopt(_: &tracing::Span, _: &axum::http::HeaderMap) {}
