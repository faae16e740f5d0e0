//! A stream as the body of a request and that of its answer: a line of JSON a message, both at once.

use super::{
    Heard, Lines, PATH, close, line,
    line::LineBuffer,
    linger,
    outgoing::{Sending, Sent, outgoing},
    session::Session,
    talk,
};
use crate::{
    app::App,
    body::Taken,
    dialect::native::route,
    failure::{Failure, Kind},
    front::{admit, answer_unread},
};
use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, header},
    response::Response,
};
use bytes::Bytes;
use http_body_util::BodyExt;
use std::{convert::Infallible, sync::Arc, time::Duration};

/// `POST /embral/v1/stream`.
pub(crate) async fn ndjson(State(app): State<Arc<App>>, request: Request) -> Response {
    let shared = Arc::clone(&app);
    answer_unread(app, route(PATH), request, |request| begin(shared, request)).await
}

/// Answers when the first line is there: what is wrong with it has a status of its own.
async fn begin(app: Arc<App>, request: Request) -> Result<Response, Failure> {
    let caller = admit(&app, request.headers())?;
    let mut lines = BodyLines::new(&app, request.into_body());
    let head = match lines.next(true).await {
        Heard::Line(line) => line::Head::parse(&line)?,
        Heard::Wrong(failure) => return Err(failure),
        Heard::End => return Err(Failure::new(Kind::Empty, "the body is empty: expected a line of JSON")),
        Heard::Gone => return Err(Failure::new(Kind::Syntax, "the body broke off")),
    };
    let session = Session::open(&app, caller, head).await?;
    let (out, sending) = outgoing(&app);
    tokio::spawn(async move {
        app.while_serving(async {
            let ended = talk(session, &mut lines, &out).await;
            let failed = ended.is_err();
            close(&app, ended, &out);
            if failed {
                linger(&mut lines).await;
            }
        })
        .await;
    });
    let mut response = Response::new(body(sending));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    // nginx would keep lines back until it has many.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// The lines that are sent, as a body. Its end is that of the session.
fn body(sending: Sending) -> Body {
    Body::from_stream(futures_util::stream::unfold(sending, async |mut sending| {
        loop {
            if let Sent::Line(mut line) = sending.next().await? {
                line.push('\n');
                return Some((Ok::<_, Infallible>(Bytes::from(line)), sending));
            }
        }
    }))
}

/// The lines of a body.
struct BodyLines {
    body: Body,
    buffer: LineBuffer,
    /// What the buffer has of the memory of all bodies.
    taken: Taken,
    patience: Duration,
    ended: bool,
}

impl BodyLines {
    fn new(app: &App, body: Body) -> Self {
        Self {
            body,
            buffer: LineBuffer::new(super::line_bytes(app)),
            taken: Taken::new(&app.bodies.room),
            patience: app.settings.client_timeout,
            ended: false,
        }
    }
}

impl Lines for BodyLines {
    async fn next(&mut self, awaited: bool) -> Heard {
        loop {
            let line = self.buffer.next();
            if !self.taken.hold(self.buffer.len()) {
                let mut failure =
                    Failure::new(Kind::Overloaded, "the bodies of other requests fill the memory for them");
                failure.retry_after = Some(Duration::from_secs(1));
                return Heard::Wrong(failure);
            }
            match line {
                Some(Ok(line)) => return Heard::Line(line),
                Some(Err(failure)) => return Heard::Wrong(failure),
                None if self.ended => return Heard::End,
                None => {}
            }
            let frame = self.body.frame();
            let frame = if awaited { tokio::time::timeout(self.patience, frame).await } else { Ok(frame.await) };
            match frame {
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.push(&data);
                    }
                }
                Ok(Some(Err(_))) => return Heard::Gone,
                Ok(None) => {
                    self.ended = true;
                    self.buffer.end();
                }
                Err(_) => {
                    let message = format!(
                        "nothing came for {} s: a client that is silent sends an empty line now and then",
                        self.patience.as_secs()
                    );
                    return Heard::Wrong(Failure::new(Kind::Timeout, message));
                }
            }
        }
    }

    async fn discard(&mut self) {
        while let Some(Ok(_)) = self.body.frame().await {}
    }
}
