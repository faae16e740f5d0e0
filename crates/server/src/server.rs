//! A server from its start to its end.

use crate::{
    Settings,
    app::App,
    failure::Failure,
    listen::{Connections, Listener},
    settings::Resolved,
    tls,
};
use embral_types::{Error, ErrorKind, Result};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::{TcpListener, UnixListener},
    sync::watch,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// How often models are looked at that nobody has used for a while.
const SWEEP: Duration = Duration::from_secs(1);

/// A server that listens.
///
/// It runs on the tokio runtime that it was started on, until [`Server::stop`] or the end of the runtime.
pub struct Server {
    app: Arc<App>,
    address: SocketAddr,
    grpc_address: Option<SocketAddr>,
    stop: Stop,
    listening: Vec<JoinHandle<()>>,
    sweeping: JoinHandle<()>,
    uds: Option<PathBuf>,
}

/// Tells a server to stop, from anywhere.
#[derive(Clone, Debug)]
pub struct Stop(Arc<watch::Sender<bool>>);

impl Stop {
    /// The server accepts nothing more, finishes what it took, and ends.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Server {
    /// Listens as the settings say, and then opens the models: until these are there, `/ready` says that it is not.
    ///
    /// # Errors
    /// Where a setting says what cannot be, a file cannot be read, the address is taken, or a model that is to be opened at the start
    /// cannot be.
    pub async fn start(settings: Settings) -> Result<Self> {
        let resolved = Resolved::of(settings)?;
        let told = resolved.settings.clone();
        let tls = acceptor(&told, "http/1.1")?;
        let app = tokio::task::spawn_blocking(move || App::new(resolved)).await;
        let app = app.map_err(|_| Error::new(ErrorKind::Unsupported, "the start of the server panicked"))??;
        let address =
            SocketAddr::new(told.host.unwrap_or(std::net::IpAddr::from([127, 0, 0, 1])), told.port.unwrap_or(8080));
        let (listener, address) = bind(address, "--port").await?;
        if !address.ip().is_loopback() && app.keys.is_empty() {
            tracing::warn!("listening on {address} without keys: whoever reaches it may use it (--api-key-file)");
        }
        let mut listeners = vec![Listener::Tcp(listener, tls)];
        if let Some(path) = &told.uds {
            listeners.push(Listener::Unix(unix(path).await?));
        }
        let (sender, receiver) = watch::channel(false);
        let grpc = match told.grpc_port {
            Some(port) => Some(grpc(&app, SocketAddr::new(address.ip(), port), receiver.clone()).await?),
            None => None,
        };
        let (grpc_address, grpc) = grpc.unzip();
        let connections = Connections::new(&app, receiver);
        let listening = listeners.into_iter().map(|listener| tokio::spawn(connections.clone().serve(listener)));
        let listening = listening.chain(grpc).collect();
        let sweeping = tokio::spawn(sweep(Arc::clone(&app)));
        let uds = told.uds;
        let server = Self { app, address, grpc_address, stop: Stop(Arc::new(sender)), listening, sweeping, uds };
        if !server.app.settings.lazy
            && let Err(failure) = server.open().await
        {
            server.stop.stop();
            server.end().await;
            return Err(Error::new(ErrorKind::NotFound, failure.message));
        }
        server.app.health.started();
        Ok(server)
    }

    /// Opens the named models, and has each compute something.
    async fn open(&self) -> Result<(), Failure> {
        for slot in self.app.models.slots() {
            let lease = self.app.models.lease_of(&slot).await?;
            self.app.probe(&lease).await?;
        }
        Ok(())
    }

    /// Where it listens; the port that was found where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens for gRPC, where it does.
    pub fn grpc_address(&self) -> Option<SocketAddr> {
        self.grpc_address
    }

    /// What tells it to stop.
    pub fn stopper(&self) -> Stop {
        self.stop.clone()
    }

    /// Waits until it was told to stop and has: what it took is answered, or `shutdown-timeout` has passed.
    pub async fn stopped(self) {
        let _ = self.stop.0.subscribe().wait_for(|stop| *stop).await;
        self.end().await;
    }

    /// Stops it; the same as telling it to and waiting.
    pub async fn stop(self) {
        self.stop.stop();
        self.end().await;
    }

    async fn end(self) {
        self.app.health.drain();
        self.app.streams.stop();
        for listening in self.listening {
            let _ = listening.await;
        }
        // A WebSocket is no connection of the listeners any more.
        self.app.streams.ended().await;
        self.sweeping.abort();
        self.app.dispatcher.close();
        for slot in self.app.models.slots() {
            if let Some(loaded) = slot.loaded() {
                loaded.dispatcher.close();
            }
        }
        if let Some(path) = &self.uds {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

/// What accepts TLS for a protocol, where the settings ask for TLS.
fn acceptor(told: &Settings, protocol: &str) -> Result<Option<TlsAcceptor>> {
    match (&told.tls_cert, &told.tls_key) {
        (Some(cert), Some(key)) => tls::acceptor(cert, key, protocol).map(Some),
        (None, None) => Ok(None),
        _ => Err(Error::new(ErrorKind::InvalidInput, "TLS needs both tls-cert and tls-key")),
    }
}

/// Listens on an address, which `flag` sets.
async fn bind(address: SocketAddr, flag: &str) -> Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await.map_err(|e| {
        Error::new(ErrorKind::Io, format!("cannot listen on {address}: {e}"))
            .hint(format!("another program may have the port: choose another with {flag}"))
            .because(e)
    })?;
    let address = listener.local_addr().map_err(|e| Error::new(ErrorKind::Io, e.to_string()))?;
    Ok((listener, address))
}

/// Listens for gRPC.
#[cfg(feature = "grpc")]
async fn grpc(
    app: &Arc<App>,
    address: SocketAddr,
    stop: watch::Receiver<bool>,
) -> Result<(SocketAddr, JoinHandle<()>)> {
    let tls = acceptor(&app.settings.settings, "h2")?;
    let (listener, address) = bind(address, "--grpc-port").await?;
    Ok((address, tokio::spawn(crate::grpc::serve(Arc::clone(app), listener, tls, stop))))
}

#[cfg(not(feature = "grpc"))]
async fn grpc(_: &Arc<App>, _: SocketAddr, _: watch::Receiver<bool>) -> Result<(SocketAddr, JoinHandle<()>)> {
    Err(Error::new(ErrorKind::Unsupported, "grpc-port: this build has no gRPC")
        .hint("build embral with --features grpc, or leave grpc-port out"))
}

async fn sweep(app: Arc<App>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        app.models.close_idle();
    }
}

/// A socket at a path. One that another process left behind is taken over; one that somebody listens on is not.
async fn unix(path: &Path) -> Result<UnixListener> {
    use std::os::unix::fs::FileTypeExt;
    let failed = |e: std::io::Error| Error::io("cannot listen on the socket", path, e);
    if let Ok(found) = std::fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            let message = "expected a socket or nothing at this path, found another file";
            return Err(Error::new(ErrorKind::InvalidInput, message).in_file(path));
        }
        if tokio::net::UnixStream::connect(path).await.is_ok() {
            return Err(Error::new(ErrorKind::InvalidInput, "somebody listens on this socket already").in_file(path));
        }
        std::fs::remove_file(path).map_err(failed)?;
    }
    UnixListener::bind(path).map_err(failed)
}
