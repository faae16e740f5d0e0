//! A stream as a WebSocket: a line of JSON a text message.

use super::{
    Broken, Heard, Lines, PATH, close, line, linger,
    outgoing::{Outgoing, Sending, Sent, outgoing},
    session::Session,
    talk,
};
use crate::{
    app::App,
    caller::Caller,
    dialect::native::route,
    failure::{Failure, Kind},
    front::{admit, answer_unread, holder},
};
use axum::{
    extract::{
        FromRequestParts, Request, State,
        ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade},
    },
    http::{HeaderMap, header},
    response::Response,
};
use bytes::Bytes;
use embral::queue::Tenant;
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use std::{sync::Arc, time::Duration};
use tungstenite::error::{CapacityError, Error, ProtocolError};

/// Bytes that are read at a time.
const READ_BYTES: usize = 16 << 10;

/// `GET /embral/v1/stream`.
pub(crate) async fn websocket(State(app): State<Arc<App>>, request: Request) -> Response {
    let shared = Arc::clone(&app);
    answer_unread(app, route(PATH), request, |request| begin(shared, request)).await
}

/// Who asks: known by the headers, or by the first message, as browsers cannot set headers.
enum Asking {
    Known(Caller),
    Unknown(Caller),
}

impl Asking {
    fn of(app: &App, headers: &HeaderMap) -> Result<Self, Failure> {
        if app.keys.is_empty() || headers.contains_key(header::AUTHORIZATION) {
            return admit(app, headers).map(Self::Known);
        }
        app.origins.check(headers)?;
        Caller::of(headers, Tenant::default(), app.settings.request_timeout).map(Self::Unknown)
    }

    fn named(self, app: &App, key: Option<&str>) -> Result<Caller, Failure> {
        match (self, key) {
            (Self::Known(caller), _) => Ok(caller),
            (Self::Unknown(_), None) => {
                let message = "this server asks for a key: send Authorization: Bearer KEY, or key in the first message";
                Err(Failure::new(Kind::Unauthorized, message))
            }
            (Self::Unknown(caller), Some(key)) => {
                let tenant = holder(app, key.as_bytes(), "the key is not one of this server's")?;
                Ok(Caller { tenant, ..caller })
            }
        }
    }
}

async fn begin(app: Arc<App>, request: Request) -> Result<Response, Failure> {
    let (mut parts, _) = request.into_parts();
    let asking = Asking::of(&app, &parts.headers)?;
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await.map_err(|e| {
        Failure::invalid(format!("expected a WebSocket, or POST with a body of lines: {}", e.body_text()))
    })?;
    let open = app.open_stream()?;
    let most = super::line_bytes(&app);
    let upgrade = upgrade.max_message_size(most).max_frame_size(most).read_buffer_size(READ_BYTES);
    Ok(upgrade.on_upgrade(async move |socket: WebSocket| {
        let (sink, messages) = socket.split();
        let (out, sending) = outgoing(&app);
        let patience = app.settings.client_timeout;
        let mut lines = Messages { messages, out: out.clone(), most, patience, asked: false };
        let conversation = async {
            let ended = match head(&app, asking, &mut lines).await {
                Ok((caller, head)) => match Session::opened(&app, open, caller, head).await {
                    Ok(session) => talk(session, &mut lines, &out).await,
                    Err(failure) => Err(failure.into()),
                },
                Err(broken) => Err(broken),
            };
            close(&app, ended, &out);
            // Until the client has closed its side as well.
            linger(&mut lines).await;
        };
        app.while_serving(async {
            tokio::join!(conversation, send(sink, sending));
        })
        .await;
    }))
}

/// The first message, and whose it is.
async fn head(app: &App, asking: Asking, lines: &mut Messages) -> Result<(Caller, line::Head), Broken> {
    let first = tokio::time::timeout(app.settings.client_timeout, lines.next(true));
    let first = tokio::select! {
        first = first => first,
        () = app.streams.stopped() => return Err(super::stopping().into()),
    };
    let line = match first {
        Ok(Heard::Line(line)) => line,
        Ok(Heard::Wrong(failure)) => return Err(failure.into()),
        Ok(Heard::End | Heard::Gone) => return Err(Broken::Gone),
        Err(_) => {
            let message = format!("no message came for {} s", app.settings.client_timeout.as_secs());
            return Err(Failure::new(Kind::Timeout, message).into());
        }
    };
    let head = line::Head::parse(&line)?;
    Ok((asking.named(app, head.key.as_deref())?, head))
}

/// Sends what is to be sent, to the end or until the client has gone.
async fn send(mut sink: SplitSink<WebSocket, Message>, mut sending: Sending) {
    while let Some(sent) = sending.next().await {
        let sent = match sent {
            Sent::Line(line) => sink.send(Message::Text(line.into())).await,
            Sent::Ping => sink.send(Message::Ping(Bytes::new())).await,
            Sent::Close(code, reason) => {
                let _ = sink.send(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await;
                return;
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

/// The messages of a client. One of which nothing is heard is asked for a sign of life, which clients give without being told to: after
/// `patience` without one it is gone.
struct Messages {
    messages: SplitStream<WebSocket>,
    out: Outgoing,
    most: usize,
    patience: Duration,
    /// Whether it was asked, and has not been heard since.
    asked: bool,
}

impl Lines for Messages {
    async fn next(&mut self, _awaited: bool) -> Heard {
        loop {
            let Ok(message) = tokio::time::timeout(self.patience / 2, self.messages.next()).await else {
                if self.asked {
                    let message = format!("nothing was heard of the client for {} s", self.patience.as_secs());
                    return Heard::Wrong(Failure::new(Kind::Timeout, message));
                }
                self.asked = true;
                self.out.ping();
                continue;
            };
            self.asked = false;
            match message {
                Some(Ok(Message::Text(text))) if text.trim().is_empty() => {}
                Some(Ok(Message::Text(text))) => return Heard::Line(text.into()),
                Some(Ok(Message::Binary(_))) => {
                    let message = "expected text messages, each a line of JSON, found a binary one";
                    return Heard::Wrong(Failure::new(Kind::MediaType, message));
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_))) | None => return Heard::Gone,
                Some(Err(e)) => return broken(e, self.most),
            }
        }
    }

    async fn discard(&mut self) {
        while let Some(Ok(_)) = self.messages.next().await {}
    }
}

/// What an error of a socket means.
fn broken(error: axum::Error, most: usize) -> Heard {
    let error = error.into_inner();
    match error.downcast_ref::<Error>() {
        Some(Error::Capacity(CapacityError::MessageTooLong { .. })) => Heard::Wrong(line::too_large(most)),
        Some(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => Heard::Gone,
        Some(Error::Protocol(_) | Error::Utf8(_) | Error::Capacity(_)) => {
            Heard::Wrong(Failure::new(Kind::Syntax, format!("the messages cannot be read: {error}")))
        }
        _ => Heard::Gone,
    }
}
