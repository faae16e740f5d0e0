//! Traces to an OpenTelemetry collector: OTLP over HTTP.

use axum::http::HeaderMap;
use bytes::Bytes;
use embral_types::{Error, ErrorKind, Result};
use opentelemetry::{
    Context, KeyValue,
    trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState, TracerProvider},
};
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use std::time::Duration;
use tracing_opentelemetry::{OpenTelemetryLayer, OpenTelemetrySpanExt};
use tracing_subscriber::registry::LookupSpan;

/// A collector that does not answer for so long loses a batch of spans, and nothing else.
const PATIENCE: Duration = Duration::from_secs(5);

/// What sends spans, in batches, by a thread of its own.
#[derive(Debug)]
pub(super) struct Traces(SdkTracerProvider);

impl Traces {
    /// To the collector at an address such as `http://127.0.0.1:4318`.
    pub(super) fn to(endpoint: &str) -> Result<Self> {
        let wrong = |e: &dyn std::fmt::Display| {
            let message = format!("otlp-endpoint: expected the address of a collector, found {endpoint:?}: {e}");
            Error::new(ErrorKind::InvalidInput, message).hint("such as http://127.0.0.1:4318")
        };
        let url = match endpoint.trim_end_matches('/') {
            whole if whole.ends_with("/v1/traces") => whole.to_owned(),
            base => format!("{base}/v1/traces"),
        };
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(wrong(&"it is neither http:// nor https://"));
        }
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .http_status_as_error(false)
            .build()
            .new_agent();
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Client(agent))
            .with_endpoint(url)
            .with_timeout(PATIENCE)
            .build()
            .map_err(|e| wrong(&e))?;
        let resource = Resource::builder()
            .with_service_name("embral")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build()))
    }

    pub(super) fn layer<S>(&self) -> OpenTelemetryLayer<S, opentelemetry_sdk::trace::SdkTracer>
    where
        S: tracing::Subscriber + for<'span> LookupSpan<'span>,
    {
        tracing_opentelemetry::layer().with_tracer(self.0.tracer("embral"))
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        // What could not be sent by now is lost; there is nobody left to tell.
        let _ = self.0.shutdown_with_timeout(PATIENCE);
    }
}

/// A client that blocks, for a thread that does nothing else.
#[derive(Debug)]
struct Client(ureq::Agent);

impl HttpClient for Client {
    fn send_bytes<'a, 't>(
        &'a self,
        request: Request<Bytes>,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 't>>
    where
        'a: 't,
        Self: 't,
    {
        let sent = self.send(request);
        Box::pin(std::future::ready(sent))
    }
}

impl Client {
    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        let response = self.0.run(Request::from_parts(parts, body.to_vec()))?;
        let (parts, mut body) = response.into_parts();
        Ok(Response::from_parts(parts, body.read_to_vec()?.into()))
    }
}

/// As W3C's trace context has it: `00-<trace, 32 digits>-<span, 16 digits>-<flags, 2 digits>`.
pub(crate) fn adopt(span: &tracing::Span, headers: &HeaderMap) {
    let parent = headers.get("traceparent").and_then(|value| parent(value.to_str().ok()?));
    if let Some(parent) = parent {
        let _ = span.set_parent(Context::new().with_remote_span_context(parent));
    }
}

fn parent(text: &str) -> Option<SpanContext> {
    let mut parts = text.trim().split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let digits = |text: &str, count: usize| {
        text.len() == count && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let fits = digits(version, 2) && version != "ff" && digits(trace, 32) && digits(span, 16) && digits(flags, 2);
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        TraceFlags::new(u8::from_str_radix(flags, 16).ok()?),
        true,
        TraceState::default(),
    );
    (fits && context.is_valid()).then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_read_and_what_is_none_is_passed_over() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let found = parent(text).unwrap();
        assert_eq!(found.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert!(found.is_sampled() && found.is_remote());
        for bad in [
            "",
            "00-0-0-0",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        ] {
            assert!(parent(bad).is_none(), "{bad}");
        }
    }
}
