//! The port: connections accepted, bounded in number, and ended when the server stops.

use super::{
    Service, body,
    proto::{
        health::health_server::HealthServer,
        tei::{
            embed_server::EmbedServer, info_server::InfoServer, predict_server::PredictServer,
            rerank_server::RerankServer, tokenize_server::TokenizeServer,
        },
    },
};
use crate::{app::App, listen::stopped};
use futures_util::{StreamExt, stream};
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tonic::transport::{Server, server::Connected};
use tower::util::MapRequestLayer;

/// Calls that a connection may have open.
const CALLS: u32 = 256;

trait Stream: AsyncRead + AsyncWrite + Send {}

impl<S: AsyncRead + AsyncWrite + Send> Stream for S {}

/// A connection, with its place among them.
struct Connection {
    stream: Pin<Box<dyn Stream>>,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    fn new(stream: impl Stream + 'static, patience: Duration, permit: OwnedSemaphorePermit) -> Self {
        let mut stream = TimeoutStream::new(stream);
        // A client that reads nothing for so long is gone, and what is kept for it is memory.
        stream.set_write_timeout(Some(patience));
        Self { stream: Box::pin(stream), _permit: permit }
    }
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_read(context, into)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream.as_mut().poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_shutdown(context)
    }
}

/// Accepts connections until the server stops, and then waits until they have ended, as long as the settings say.
pub(crate) async fn serve(app: Arc<App>, listener: TcpListener, tls: Option<TlsAcceptor>, stop: watch::Receiver<bool>) {
    let settings = &app.settings;
    let (sender, receiver) = mpsc::channel(16);
    let accepting = tokio::spawn(accept(Arc::clone(&app), listener, tls, sender));
    let incoming = stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)))
        .map(Ok::<Connection, io::Error>);
    let service = Service { app: Arc::clone(&app), stop: stop.clone() };
    let most = settings.body_limit;
    let count = Arc::clone(&app);
    let serving = Server::builder()
        .timeout(settings.request_timeout)
        .max_concurrent_streams(CALLS)
        .http2_max_header_list_size(64 << 10)
        .http2_keepalive_interval(Some(settings.client_timeout))
        .http2_keepalive_timeout(Some(settings.client_timeout))
        .tcp_nodelay(true)
        .layer(MapRequestLayer::new(move |request| body::counted(&count, request)))
        .add_service(HealthServer::new(service.clone()))
        .add_service(InfoServer::new(service.clone()))
        .add_service(EmbedServer::new(service.clone()).max_decoding_message_size(most))
        .add_service(PredictServer::new(service.clone()).max_decoding_message_size(most))
        .add_service(RerankServer::new(service.clone()).max_decoding_message_size(most))
        .add_service(TokenizeServer::new(service).max_decoding_message_size(most));
    let told = async |mut stop: watch::Receiver<bool>| stopped(&mut stop).await;
    let patience = settings.shutdown_timeout;
    tokio::select! {
        ended = serving.serve_with_incoming_shutdown(incoming, told(stop.clone())) => {
            if let Err(e) = ended {
                tracing::warn!("gRPC ended: {e}");
            }
        }
        () = async { told(stop.clone()).await; tokio::time::sleep(patience).await } => {
            tracing::warn!("gRPC calls were still open after {patience:?}: they are cut");
        }
    }
    accepting.abort();
}

async fn accept(app: Arc<App>, listener: TcpListener, tls: Option<TlsAcceptor>, sender: mpsc::Sender<Connection>) {
    let room = Arc::new(Semaphore::new(app.settings.max_connections));
    let patience = app.settings.client_timeout;
    // Beyond the most connections, further ones wait in the system's queue.
    while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(e) => {
                // Out of file descriptors, say: trying again at once would only burn the processor.
                tracing::warn!("a connection cannot be accepted: {e}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let (tls, sender) = (tls.clone(), sender.clone());
        tokio::spawn(async move {
            if let Some(connection) = shake(stream, tls, patience, permit).await {
                let _ = sender.send(connection).await;
            }
        });
    }
}

async fn shake(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    patience: Duration,
    permit: OwnedSemaphorePermit,
) -> Option<Connection> {
    let Some(tls) = tls else { return Some(Connection::new(stream, patience, permit)) };
    let stream = tokio::time::timeout(patience, tls.accept(stream)).await.ok()?.ok()?;
    Some(Connection::new(stream, patience, permit))
}
