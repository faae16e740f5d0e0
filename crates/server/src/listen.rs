//! Connections: accepted, bounded in number and in patience, and ended when the server stops.

use crate::app::App;
use axum::{Router, body::Body};
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use std::{future::poll_fn, io, sync::Arc, time::Duration};
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
}

impl Connections {
    pub(crate) fn new(app: &Arc<App>, stop: watch::Receiver<bool>) -> Self {
        let room = Arc::new(Semaphore::new(app.settings.max_connections));
        Self { app: Arc::clone(app), router: app.router(), room, stop }
    }

    /// Accepts connections until the server stops, and then waits until they have ended, as long as the settings say.
    pub(crate) async fn serve(mut self, listener: Listener) {
        let graceful = GracefulShutdown::new();
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
            self.take(&graceful, accepted, permit, &listener).await;
        }
        // Who has connected already is answered.
        while let Ok(accepted) = tokio::time::timeout(Duration::ZERO, listener.accept()).await
            && let Ok(permit) = Arc::clone(&self.room).try_acquire_owned()
            && accepted.is_ok()
        {
            self.take(&graceful, accepted, permit, &listener).await;
        }
        drop(listener);
        tokio::time::sleep(GRACE).await;
        if tokio::time::timeout(self.app.settings.shutdown_timeout, graceful.shutdown()).await.is_err() {
            tracing::warn!("connections were still open after {:?}: they are cut", self.app.settings.shutdown_timeout);
        }
    }

    async fn take(
        &self,
        graceful: &GracefulShutdown,
        accepted: io::Result<Accepted>,
        permit: OwnedSemaphorePermit,
        listener: &Listener,
    ) {
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
        let watcher = graceful.watcher();
        match (stream, listener) {
            (Accepted::Tcp(stream), Listener::Tcp(_, Some(tls))) => {
                let tls = tls.clone();
                tokio::spawn(async move {
                    let handshake = tokio::time::timeout(patience, tls.accept(stream)).await;
                    if let Ok(Ok(stream)) = handshake {
                        converse(stream, router, patience, watcher, permit).await;
                    }
                });
            }
            (Accepted::Tcp(stream), _) => {
                let _ = stream.set_nodelay(true);
                tokio::spawn(converse(stream, router, patience, watcher, permit));
            }
            (Accepted::Unix(stream), _) => drop(tokio::spawn(converse(stream, router, patience, watcher, permit))),
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

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error is a sender that has gone: there is nobody left to serve for.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Serves one connection to its end. `_permit` is its place among them.
async fn converse<S>(
    stream: S,
    router: Router,
    patience: Duration,
    watcher: hyper_util::server::graceful::Watcher,
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
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_buf_size(HEAD_BYTES.max(8192))
        .max_headers(HEADERS)
        .keep_alive(true);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(Box::pin(stream)), service).into_owned();
    // What a connection ends with is the client's business: it broke off, or spoke no HTTP.
    if let Err(e) = watcher.watch(connection).await {
        tracing::debug!("a connection ended: {e}");
    }
}
