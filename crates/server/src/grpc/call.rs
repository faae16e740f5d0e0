//! Calls: let in, counted, answered one by one or as a stream.

use super::{
    Service,
    body::Held,
    proto::tei::{Metadata, TruncationDirection},
    status::{code, status},
};
use crate::{
    app::App,
    caller::Caller,
    dialect::tei::{How, took},
    failure::Failure,
    front::{Asked, admit},
    listen::stopped,
    metrics::Seen,
    pipeline::Computed,
};
use axum::http::HeaderMap;
use bytes::Bytes;
use embral::{Truncation, serving::Output};
use futures_util::{Stream, StreamExt};
use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};
use tonic::{Extensions, Request, Response, Status, Streaming, metadata::MetadataMap};

/// Messages of a stream that are under way at once.
pub(super) const AT_ONCE: usize = 256;
/// Metadata that names a model, as TEI's messages have no field for it.
const MODEL: &str = "x-embral-model";

/// The answers of a stream.
pub(super) type Answers<R> = Pin<Box<dyn Stream<Item = Result<R, Status>> + Send>>;

/// A message that was let in.
pub(super) struct Call {
    pub(super) asked: Asked,
    /// The model that its metadata names.
    pub(super) model: Option<String>,
    pub(super) start: Instant,
}

/// An answer, with what it took where something was computed.
pub(super) struct Answer<R> {
    pub(super) message: R,
    computed: Option<(Computed, Instant)>,
}

impl Call {
    /// How texts are treated.
    pub(super) fn how(&self, truncate: bool, direction: i32, prompt_name: Option<String>) -> How {
        let left = direction == TruncationDirection::Left as i32;
        let side = if left { Truncation::Left } else { Truncation::Right };
        How { truncate: Some(truncate), truncation_direction: Some(side), prompt_name, model: self.model.clone() }
    }
}

impl<R> Answer<R> {
    /// An answer that took no computing.
    pub(super) fn of(message: R) -> Self {
        Self { message, computed: None }
    }

    /// An answer, made with what it took.
    pub(super) fn computed(start: Instant, mut computed: Computed, message: impl FnOnce(Metadata) -> R) -> Self {
        let nanoseconds = |took: Duration| u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let timings = computed.timings;
        let metadata = Metadata {
            compute_chars: u32::try_from(computed.characters).unwrap_or(u32::MAX),
            compute_tokens: u32::try_from(computed.tokens()).unwrap_or(u32::MAX),
            total_time_ns: nanoseconds(start.elapsed()),
            tokenization_time_ns: nanoseconds(timings.tokenize),
            queue_time_ns: nanoseconds(timings.queue),
            inference_time_ns: nanoseconds(timings.inference),
        };
        // What was computed is in the message; how many tokens it was is still told.
        computed.rows.iter_mut().for_each(|row| row.output = Output::default());
        Self { message: message(metadata), computed: Some((computed, start)) }
    }

    /// The answer with the metadata that TEI sends.
    pub(super) fn into_response(self) -> Response<R> {
        let mut headers = HeaderMap::new();
        if let Some((computed, start)) = self.computed {
            took(&mut headers, &computed, start);
        }
        Response::from_parts(MetadataMap::from_headers(headers), self.message, Extensions::default())
    }
}

/// Who calls, and until when: `grpc-timeout` is a time within which an answer is of use.
fn caller(app: &App, headers: &HeaderMap) -> Result<Caller, Failure> {
    let caller = admit(app, headers)?;
    let within = headers.get("grpc-timeout").and_then(|value| timeout(value.to_str().ok()?));
    Ok(Caller { within: within.map_or(caller.within, |within| within.min(caller.within)), ..caller })
}

/// A time as gRPC writes it: at most eight digits and a unit.
fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(3600 * number)),
        "M" => Some(Duration::from_secs(60 * number)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

fn model(headers: &HeaderMap) -> Option<String> {
    headers.get(MODEL).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// Counts a call and logs it. `path` is that of the same request over HTTP, under which TEI's own counters have both.
async fn observed<R>(
    app: &App,
    path: &'static str,
    work: impl Future<Output = Result<R, Failure>>,
) -> Result<R, Status> {
    let start = Instant::now();
    let _flying = app.metrics.flying();
    let done = work.await;
    let failure = done.as_ref().err();
    let code = failure.map_or(0, |failure| code(failure.kind) as u16);
    let took = start.elapsed();
    app.metrics.seen(&Seen { dialect: "grpc", path, status: code, took }, failure);
    match failure {
        Some(failure) => tracing::info!(path, code, seconds = took.as_secs_f64(), "{failure}"),
        None => tracing::info!(path, code, seconds = took.as_secs_f64(), "answered"),
    }
    done.map_err(|failure| status(&failure))
}

/// Answers one message with one.
pub(super) async fn unary<T, R, Fut>(
    service: &Service,
    path: &'static str,
    request: Request<T>,
    handle: impl FnOnce(Call, T) -> Fut,
) -> Result<Response<R>, Status>
where
    Fut: Future<Output = Result<Answer<R>, Failure>>,
{
    // The room of its bytes is given back with the extensions, at the end.
    let (metadata, _extensions, message) = request.into_parts();
    let headers = metadata.into_headers();
    let app = &service.app;
    let start = Instant::now();
    let answer = observed(app, path, async {
        let asked = Asked { app: Arc::clone(app), caller: caller(app, &headers)?, body: Bytes::new() };
        handle(Call { asked, model: model(&headers), start }, message).await
    });
    answer.await.map(Answer::into_response)
}

/// Answers each message of a stream with one, in their order.
pub(super) fn stream<T, R, F, Fut>(
    service: &Service,
    path: &'static str,
    request: Request<Streaming<T>>,
    handle: F,
) -> Result<Response<Answers<R>>, Status>
where
    T: Send + 'static,
    R: Send + 'static,
    F: Fn(Call, T) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Answer<R>, Failure>> + Send + 'static,
{
    let streaming = service.app.metrics.streaming();
    let answers = messages(service, path, request, handle)?.map(move |answer| {
        let _open = &streaming;
        answer.map(|answer| answer.message)
    });
    Ok(Response::new(Box::pin(answers)))
}

/// What comes of each message of a stream. The key is looked at before any is read, and each is a request by the limits of the key.
pub(super) fn messages<T, R, F, Fut>(
    service: &Service,
    path: &'static str,
    request: Request<Streaming<T>>,
    handle: F,
) -> Result<impl Stream<Item = Result<R, Status>> + Send + use<T, R, F, Fut>, Status>
where
    T: Send + 'static,
    R: Send + 'static,
    F: Fn(Call, T) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<R, Failure>> + Send + 'static,
{
    let (metadata, mut extensions, messages) = request.into_parts();
    let headers = Arc::new(metadata.into_headers());
    let app = Arc::clone(&service.app);
    let mut first = Some(caller(&app, &headers).map_err(|failure| status(&failure))?);
    let held = extensions.remove::<Held>();
    let mut stop = service.stop.clone();
    let each = move |message: Result<T, Status>| {
        let taken = held.as_ref().map(Held::of_message);
        let message = message.map(|message| (message, first.take().map_or_else(|| caller(&app, &headers), Ok)));
        let (app, headers, handle) = (Arc::clone(&app), Arc::clone(&headers), handle.clone());
        let start = Instant::now();
        async move {
            let _taken = taken;
            let (message, caller) = message?;
            observed(&app, path, async {
                let asked = Asked { app: Arc::clone(&app), caller: caller?, body: Bytes::new() };
                handle(Call { asked, model: model(&headers), start }, message).await
            })
            .await
        }
    };
    let stop = async move { stopped(&mut stop).await };
    Ok(messages.take_until(Box::pin(stop)).map(each).buffered(AT_ONCE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_digits_and_a_unit() {
        for (text, wanted) in [
            ("1H", Duration::from_secs(3600)),
            ("2M", Duration::from_secs(120)),
            ("3S", Duration::from_secs(3)),
            ("99999999m", Duration::from_millis(99_999_999)),
            ("5u", Duration::from_micros(5)),
            ("0n", Duration::ZERO),
        ] {
            assert_eq!(timeout(text), Some(wanted), "{text}");
        }
        for bad in ["", "S", "1", "1s", "-1S", "+1S", "123456789S", "1 S", "1é"] {
            assert_eq!(timeout(bad), None, "{bad}");
        }
    }
}
