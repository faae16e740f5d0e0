//! Streams: text goes in as it is written, the vectors of its chunks come back as they are ready. docs/streaming.md is the manual.
//!
//! One session (`session`) for both transports, which give it lines of JSON and take lines of JSON: `ndjson`, the body of a request and that of its
//! answer, and `websocket`, a message a line. Nothing in it grows with the stream: text is taken only when what was taken is cut, cut only
//! when what was cut is with the model, and sent to the model only when what came back is with the client or waits in an outbox of
//! bounded bytes ([`Outgoing`]). So a client that does not read is not read from.

mod line;
mod ndjson;
mod outgoing;
mod session;
mod websocket;

pub(crate) use ndjson::ndjson;
pub(crate) use websocket::websocket;

use crate::{
    app::App,
    dialect::native::ErrorBody,
    failure::{Failure, Kind},
    metrics::Flying,
};
use bytes::Bytes;
use futures_util::FutureExt;
use outgoing::Outgoing;
use session::Session;
use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};
use tokio::sync::watch;

/// Where streams are.
pub(crate) const PATH: &str = "/embral/v1/stream";
/// The largest line, unless bodies have to be smaller.
const LINE_BYTES: usize = 1 << 20;
/// How long a client is listened to after its stream has failed: to close at once, with bytes of it unread, would reset the connection, and
/// take back what it was told.
const LINGER: Duration = Duration::from_secs(2);

/// What a client says.
enum Heard {
    Line(Bytes),
    /// All that it had to say.
    End,
    /// It has left.
    Gone,
    Wrong(Failure),
}

/// Where the lines of a client come from.
trait Lines: Send {
    /// The next line that is not blank. A future that is dropped loses nothing. `awaited` says that nothing but the client's next word
    /// goes on: then it may not be silent for longer than the settings say.
    fn next(&mut self, awaited: bool) -> impl Future<Output = Heard> + Send;

    /// Takes what still comes, unread, until nothing does.
    fn discard(&mut self) -> impl Future<Output = ()> + Send;
}

/// Why a stream was not carried to its end.
enum Broken {
    Gone,
    Failed(Failure),
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Has a session talk with its client to the end.
async fn talk(session: Session, lines: &mut impl Lines, out: &Outgoing) -> Result<(), Broken> {
    let talked = AssertUnwindSafe(session.run(lines, out)).catch_unwind().await;
    talked.unwrap_or_else(|_| Err(Failure::new(Kind::Internal, "the server failed on this stream").into()))
}

/// Tells a client how its stream ended.
fn close(app: &App, ended: Result<(), Broken>, out: &Outgoing) {
    match ended {
        Ok(()) => out.close(1000, "done"),
        Err(Broken::Gone) => out.close(1000, "gone"),
        Err(Broken::Failed(failure)) => {
            tracing::info!(path = PATH, "a stream failed: {failure}");
            app.metrics.stream_failed(&failure);
            out.last(&ErrorBody::of(&failure));
            out.close(code(failure.kind), failure.kind.name());
        }
    }
}

/// Listens to a client for a little longer.
async fn linger(lines: &mut impl Lines) {
    let _ = tokio::time::timeout(LINGER, lines.discard()).await;
}

/// The code with which a WebSocket is closed after a failure.
fn code(kind: Kind) -> u16 {
    match kind {
        Kind::TooLarge | Kind::TooMany | Kind::TooLong => 1009,
        Kind::Syntax | Kind::Invalid | Kind::Empty | Kind::NoModel => 1007,
        Kind::MediaType | Kind::Unsupported | Kind::NoRoute | Kind::Method => 1003,
        Kind::Unauthorized | Kind::Forbidden | Kind::RateLimited | Kind::Timeout => 1008,
        Kind::Unavailable => 1001,
        Kind::Overloaded => 1013,
        Kind::Internal => 1011,
    }
}

/// The largest line that a client may send.
fn line_bytes(app: &App) -> usize {
    app.settings.body_limit.min(LINE_BYTES)
}

/// The streams of a server: how many are open, and whether they are to end.
#[derive(Debug)]
pub(crate) struct Streams {
    open: watch::Sender<usize>,
    most: usize,
    stopping: watch::Sender<bool>,
}

/// A stream that is open; counted until it is dropped.
struct Open {
    app: Arc<App>,
    _counted: Flying,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.app.streams.open.send_modify(|open| *open -= 1);
    }
}

impl Streams {
    pub(crate) fn new(most: usize) -> Self {
        Self { open: watch::Sender::new(0), most, stopping: watch::Sender::new(false) }
    }

    /// Tells all streams to end.
    pub(crate) fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Waits until no stream is open. None is for longer than `shutdown-timeout` after [`Self::stop`].
    pub(crate) async fn ended(&self) {
        let _ = self.open.subscribe().wait_for(|open| *open == 0).await;
    }

    /// Waits until streams are told to end.
    async fn stopped(&self) {
        let _ = self.stopping.subscribe().wait_for(|stopping| *stopping).await;
    }

    fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }
}

fn stopping() -> Failure {
    Failure::new(Kind::Unavailable, "the server is stopping")
}

impl App {
    /// Counts one more stream, unless there are too many.
    fn open_stream(self: &Arc<Self>) -> Result<Open, Failure> {
        if self.streams.is_stopping() {
            return Err(stopping());
        }
        let most = self.streams.most;
        let counted = self.streams.open.send_if_modified(|open| {
            let room = *open < most;
            *open += usize::from(room);
            room
        });
        if !counted {
            let mut failure =
                Failure::new(Kind::Overloaded, format!("{most} streams are open, which are as many as may be"));
            failure.retry_after = Some(Duration::from_secs(1));
            return Err(failure);
        }
        Ok(Open { app: Arc::clone(self), _counted: self.metrics.streaming() })
    }

    /// Has a stream run to its end, cut short where the server has been stopping for as long as it may take.
    async fn while_serving(&self, stream: impl Future<Output = ()>) {
        let cut = async {
            self.streams.stopped().await;
            tokio::time::sleep(self.settings.shutdown_timeout).await;
        };
        tokio::select! {
            () = stream => {}
            () = cut => {}
        }
    }
}
