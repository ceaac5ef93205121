//! The transport socket of a downstream connection.

#[cfg(feature = "tls")]
use std::{
    io::{Error, ErrorKind},
    time::Duration,
};
use std::{
    io::{IoSlice, Result},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use mesh_core::{
    model::DownstreamTransportSocket, model::FilterChain, store::Store, telemetry::TlsStats, tls::TlsInfo,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::ReadAhead;
#[cfg(feature = "tls")]
use crate::tls::{ServerContexts, ServerTls, TlsServerStream};

/// The transport socket of a filter chain, ready to use.
#[derive(Debug)]
pub(crate) enum ServerSocket {
    PlainText,
    #[cfg(feature = "tls")]
    Tls {
        tls: Arc<ServerTls>,
        stats: TlsStats,
        timeout: Option<Duration>,
    },
}

/// A connection whose bytes are those of the application.
#[derive(Debug)]
pub(crate) struct Secured<I> {
    pub(crate) io: SecuredIo<I>,
    /// The result of the TLS handshake; `None` = there was none.
    pub(crate) tls: Option<Arc<TlsInfo>>,
}

/// The byte stream of the application.
#[derive(Debug)]
pub(crate) enum SecuredIo<I> {
    /// It is that of the connection.
    PlainText(ReadAhead<I>),
    /// It is decrypted from that of the connection.
    #[cfg(feature = "tls")]
    Tls(Box<TlsServerStream<ReadAhead<I>>>),
}

/// A transport socket that cannot be used.
#[cfg(feature = "tls")]
pub(crate) type SocketError = crate::tls::TlsError;

/// A transport socket that cannot be used.
#[cfg(not(feature = "tls"))]
#[derive(Debug, thiserror::Error)]
#[error("TLS is not supported: this program was built without the feature `tls`")]
pub(crate) struct SocketError;

/// How long a handshake may take, if neither the filter chain nor the listener says so. Envoy has no limit then.
#[cfg(feature = "tls")]
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);

impl ServerSocket {
    /// The transport socket of `chain`, whose handshakes are counted in `stats`.
    ///
    /// # Errors
    /// If it cannot be used.
    pub(crate) fn new(
        chain: &FilterChain,
        store: &Store,
        stats: impl FnOnce() -> TlsStats,
    ) -> std::result::Result<Self, SocketError> {
        match &chain.transport_socket {
            DownstreamTransportSocket::PlainText => Ok(Self::PlainText),
            #[cfg(feature = "tls")]
            DownstreamTransportSocket::Tls(context) => {
                let timeout = chain.transport_socket_connect_timeout.or(Some(HANDSHAKE_TIMEOUT));
                Ok(Self::Tls { tls: ServerContexts::get(store, context)?, stats: stats(), timeout })
            }
            #[cfg(not(feature = "tls"))]
            DownstreamTransportSocket::Tls(_) => {
                let _ = (store, stats);
                Err(SocketError)
            }
        }
    }

    /// Applies the transport socket to a connection.
    ///
    /// # Errors
    /// If the handshake fails.
    pub(crate) async fn secure<I>(&self, io: ReadAhead<I>) -> Result<Secured<I>>
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        match self {
            Self::PlainText => Ok(Secured { io: SecuredIo::PlainText(io), tls: None }),
            #[cfg(feature = "tls")]
            Self::Tls { tls, stats, timeout } => {
                let handshake = Box::pin(async move {
                    let mut io = io;
                    begins_like_tls(&mut io).await.inspect_err(|_| stats.connection_error.inc())?;
                    tls.accept(io, stats).await
                });
                let handshake = match timeout {
                    Some(timeout) => tokio::time::timeout(*timeout, handshake).await,
                    None => Ok(handshake.await),
                };
                let timed_out = |_| {
                    stats.connection_error.inc();
                    Error::new(ErrorKind::TimedOut, "the client has not completed its handshake in time")
                };
                let (stream, info) = handshake.map_err(timed_out)??;
                Ok(Secured { io: SecuredIo::Tls(Box::new(stream)), tls: Some(Arc::new(info)) })
            }
        }
    }
}

/// Checks that the first byte is that of a TLS record with a handshake, because a client that speaks another protocol does not
/// understand an alert. As in Envoy, its connection is closed.
#[cfg(feature = "tls")]
async fn begins_like_tls<I: AsyncRead + Unpin>(io: &mut ReadAhead<I>) -> Result<()> {
    const HANDSHAKE: u8 = 22;
    if io.ahead().is_empty() {
        io.look(ReadAhead::<I>::FIRST_READ).await?;
    }
    match io.ahead().first() {
        Some(&HANDSHAKE) => Ok(()),
        Some(_) => Err(Error::new(ErrorKind::InvalidData, "the client does not speak TLS")),
        None => Err(ErrorKind::UnexpectedEof.into()),
    }
}

/// Calls a method of the byte stream in use.
macro_rules! with_io {
    ($this:expr, $io:ident => $call:expr) => {
        match $this {
            SecuredIo::PlainText($io) => $call,
            #[cfg(feature = "tls")]
            SecuredIo::Tls($io) => $call,
        }
    };
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncRead for SecuredIo<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        with_io!(self.get_mut(), io => Pin::new(io).poll_read(cx, buf))
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for SecuredIo<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
        with_io!(self.get_mut(), io => Pin::new(io).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        with_io!(self.get_mut(), io => Pin::new(io).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        with_io!(self.get_mut(), io => Pin::new(io).poll_shutdown(cx))
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<Result<usize>> {
        with_io!(self.get_mut(), io => Pin::new(io).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        with_io!(self, io => io.is_write_vectored())
    }
}
