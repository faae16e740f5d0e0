//! Connections: accepted, bounded in number and in patience, and ended when the server stops.

use crate::app::App;
use axum::{Router, body::Body};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    future::poll_fn,
    io,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tower::Service;

/// The largest head of a request.
const HEAD_BYTES: usize = 64 << 10;
/// The most headers of a request.
const HEADERS: usize = 128;
/// How long clients that keep a connection have to send one more request once the server stops, before it is closed.
const GRACE: Duration = Duration::from_millis(300);

/// Where connections come from.
pub(crate) enum Listener {
    Tcp(TcpListener, Option<TlsAcceptor>),
    Unix(UnixListener),
}

/// What all connections share.
#[derive(Clone)]
pub(crate) struct Connections {
    app: Arc<App>,
    router: Router,
    room: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
    /// Says that connections are to end with the request that they carry.
    end: Arc<watch::Sender<bool>>,
}

impl Connections {
    pub(crate) fn new(app: &Arc<App>, stop: watch::Receiver<bool>) -> Self {
        let room = Arc::new(Semaphore::new(app.settings.max_connections));
        Self { app: Arc::clone(app), router: app.router(), room, stop, end: Arc::new(watch::Sender::new(false)) }
    }

    /// Accepts connections until the server stops, and then waits until they have ended, as long as the settings say.
    pub(crate) async fn serve(mut self, listener: Listener) {
        loop {
            // Beyond the most connections, further ones wait in the system's queue.
            let permit = tokio::select! {
                permit = Arc::clone(&self.room).acquire_owned() => permit,
                () = stopped(&mut self.stop) => break,
            };
            let Ok(permit) = permit else { break };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stopped(&mut self.stop) => break,
            };
            self.take(accepted, permit, &listener).await;
        }
        // Who has connected already is answered.
        while let Ok(accepted) = tokio::time::timeout(Duration::ZERO, listener.accept()).await
            && let Ok(permit) = Arc::clone(&self.room).try_acquire_owned()
            && accepted.is_ok()
        {
            self.take(accepted, permit, &listener).await;
        }
        drop(listener);
        let (start, most) = (Instant::now(), self.app.settings.shutdown_timeout);
        tokio::time::sleep(GRACE.min(most)).await;
        self.end.send_replace(true);
        // All places are free when the last connection has ended.
        let all = u32::try_from(self.app.settings.max_connections).unwrap_or(u32::MAX);
        if tokio::time::timeout(most.saturating_sub(start.elapsed()), self.room.acquire_many(all)).await.is_err() {
            tracing::warn!("connections were still open after {} s: they are cut", most.as_secs());
        }
    }

    async fn take(&self, accepted: io::Result<Accepted>, permit: OwnedSemaphorePermit, listener: &Listener) {
        let stream = match accepted {
            Ok(stream) => stream,
            Err(e) => {
                // Out of file descriptors, say: trying again at once would only burn the processor.
                tracing::warn!("a connection cannot be accepted: {e}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                return;
            }
        };
        let (router, patience) = (self.router.clone(), self.app.settings.client_timeout);
        let end = self.end.subscribe();
        match (stream, listener) {
            (Accepted::Tcp(stream), Listener::Tcp(_, Some(tls))) => {
                let tls = tls.clone();
                tokio::spawn(async move {
                    let handshake = tokio::time::timeout(patience, tls.accept(stream)).await;
                    if let Ok(Ok(stream)) = handshake {
                        converse(stream, router, patience, end, permit).await;
                    }
                });
            }
            (Accepted::Tcp(stream), _) => {
                let _ = stream.set_nodelay(true);
                tokio::spawn(converse(stream, router, patience, end, permit));
            }
            (Accepted::Unix(stream), _) => drop(tokio::spawn(converse(stream, router, patience, end, permit))),
        }
    }
}

enum Accepted {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
}

impl Listener {
    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener, _) => listener.accept().await.map(|(stream, _)| Accepted::Tcp(stream)),
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| Accepted::Unix(stream)),
        }
    }
}

/// Returns once the server is told to stop.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error is a sender that has gone: there is nobody left to serve for.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Serves one connection to its end. `_permit` is its place among them.
async fn converse<S>(
    stream: S,
    router: Router,
    patience: Duration,
    mut end: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
) where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let mut stream = TimeoutStream::new(stream);
    // A client that reads nothing for so long is gone, and what is kept for it is memory.
    stream.set_write_timeout(Some(patience));
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let mut router = router.clone();
        async move {
            poll_fn(|context| Service::<hyper::Request<Body>>::poll_ready(&mut router, context)).await?;
            router.call(request.map(Body::new)).await
        }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            // Also between two requests: a connection that nobody uses is closed.
            .header_read_timeout(patience)
            .max_buf_size(HEAD_BYTES)
            .max_headers(HEADERS)
            .serve_connection(TokioIo::new(Box::pin(stream)), service)
            .with_upgrades()
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut end) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    // What a connection ends with is the client's business: it broke off, or spoke no HTTP.
    if let Err(e) = ended {
        tracing::debug!("a connection ended: {e}");
    }
}
