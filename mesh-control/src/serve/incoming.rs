//! Accepted connections, and gRPC on them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use mesh_core::causes::with_causes;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tonic::codegen::tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::service::Routes;
use tonic::transport::server::Connected;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Longest time of a handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Most handshakes at once; further connections wait in the operating system.
const MAX_HANDSHAKES: usize = 256;
/// Wait after a connection could not be accepted, usually because there are too many open files.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(100);
/// Time without traffic after which a client is asked whether it is still there.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// Time after which a client that does not answer is gone.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// What a connection proves about its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    /// Nothing.
    Plain,
    /// The identities of its certificate; none without a certificate.
    Tls {
        /// `spiffe://…`
        identities: Vec<String>,
        /// When its certificate ends. A connection may last longer.
        not_after: SystemTime,
    },
}

impl Peer {
    const NO_CERTIFICATE: Self = Self::Tls { identities: Vec::new(), not_after: SystemTime::UNIX_EPOCH };

    /// The identities that it proves at this time, over TLS; `None` without TLS.
    pub(super) fn identities(&self, now: SystemTime) -> Option<&[String]> {
        match self {
            Self::Plain => None,
            Self::Tls { identities, not_after } => Some(if now < *not_after { identities } else { &[] }),
        }
    }
}

/// An accepted connection.
pub(super) struct Connection {
    io: Io,
    peer: Peer,
}

enum Io {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::server::TlsStream<TcpStream>>),
}

type Accepted = ReceiverStream<io::Result<Connection>>;

/// The connections of a port without TLS.
pub(super) fn plain(listener: TcpListener) -> Accepted {
    let (sender, accepted) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            let io = Io::Plain(accept(&listener).await);
            if sender.send(Ok(Connection { io, peer: Peer::Plain })).await.is_err() {
                return;
            }
        }
    });
    ReceiverStream::new(accepted)
}

/// The connections of a port with TLS, after their handshakes.
pub(super) fn tls(listener: TcpListener, config: ServerConfig) -> Accepted {
    let (sender, accepted) = mpsc::channel(1);
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let permits = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    tokio::spawn(async move {
        while !sender.is_closed() {
            let stream = accept(&listener).await;
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
            let (sender, acceptor) = (sender.clone(), acceptor.clone());
            tokio::spawn(async move {
                if let Some(connection) = handshake(&acceptor, stream).await {
                    let _ = sender.send(Ok(connection)).await;
                }
                drop(permit);
            });
        }
    });
    ReceiverStream::new(accepted)
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Without it, responses wait for acknowledgements of the ones before.
                let _ = stream.set_nodelay(true);
                return stream;
            }
            Err(error) => {
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_BACK_OFF).await;
            }
        }
    }
}

async fn handshake(acceptor: &TlsAcceptor, stream: TcpStream) -> Option<Connection> {
    let from = stream.peer_addr().ok();
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            let certificates = stream.get_ref().1.peer_certificates();
            let peer = certificates.and_then(<[_]>::first).and_then(|it| peer(it)).unwrap_or(Peer::NO_CERTIFICATE);
            Some(Connection { io: Io::Tls(Box::new(stream)), peer })
        }
        Ok(Err(error)) => {
            tracing::debug!(?from, "TLS: {}", with_causes(&error));
            None
        }
        Err(_) => {
            tracing::debug!(?from, "TLS: no handshake within {HANDSHAKE_TIMEOUT:?}");
            None
        }
    }
}

/// The SPIFFE IDs of a certificate that has been verified, and its end.
fn peer(der: &[u8]) -> Option<Peer> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let uri = |name: &GeneralName<'_>| match name {
        GeneralName::URI(uri) if uri.starts_with("spiffe://") => Some((*uri).to_owned()),
        _ => None,
    };
    let identities = names.value.general_names.iter().filter_map(uri).collect();
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
    Some(Peer::Tls { identities, not_after: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds) })
}

/// Serves gRPC on connections until there are no more.
pub(super) async fn serve<S>(connections: S, services: Routes)
where
    S: Stream<Item = io::Result<Connection>>,
{
    let server = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT));
    let mut server = server;
    if let Err(error) = server.add_routes(services).serve_with_incoming(connections).await {
        tracing::error!("gRPC: {}", with_causes(&error));
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Io::Tls(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().io {
            Io::Plain(io) => Pin::new(io).poll_write(cx, buf),
            Io::Tls(io) => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Plain(io) => Pin::new(io).poll_flush(cx),
            Io::Tls(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Io::Tls(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}
