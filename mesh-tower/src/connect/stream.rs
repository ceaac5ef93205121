//! The byte stream to an endpoint, and its statistics.

use std::{
    io::{IoSlice, Result},
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use mesh_core::{
    cluster::{ClusterStats, EndpointRuntime},
    tls::TlsInfo,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Connected, Io};
use crate::{Protocol, Target};

/// The side that ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndedBy {
    /// This side.
    Us,
    /// The endpoint.
    Endpoint,
}

/// How a connection has ended. Shared between the byte stream and the connection that uses it.
#[derive(Debug, Default)]
pub(crate) struct ConnectionEnd {
    by: OnceLock<EndedBy>,
    is_in_use: AtomicBool,
}

impl ConnectionEnd {
    /// Which side has ended the connection first. If none has, dropping the stream ends it on this side.
    pub(crate) fn by(&self) -> EndedBy {
        self.by.get().copied().unwrap_or(EndedBy::Us)
    }

    /// Notes that `by` has ended the connection. Only the first call has an effect.
    pub(crate) fn note(&self, by: EndedBy) {
        // An error means that there was an earlier call.
        let _ = self.by.set(by);
    }

    /// Sets whether a request is active, which is counted if the connection ends now.
    pub(crate) fn set_in_use(&self, is_in_use: bool) {
        self.is_in_use.store(is_in_use, Ordering::Relaxed);
    }
}

/// Counts one connection in the statistics of its cluster and endpoint, from the attempt to make it until it is dropped.
#[derive(Debug)]
pub(super) struct ConnectionCount {
    cluster: Arc<ClusterStats>,
    endpoint: Arc<EndpointRuntime>,
    end: Arc<ConnectionEnd>,
    is_made: bool,
}

impl ConnectionCount {
    /// Counts an attempt.
    pub(super) fn new(target: &Target<'_>) -> Self {
        let (cluster, endpoint) = (Arc::clone(target.cluster.stats()), Arc::clone(target.endpoint.runtime()));
        cluster.upstream_cx_total.inc();
        endpoint.stats().cx_total.inc();
        endpoint.stats().cx_active.inc();
        Self { cluster, endpoint, end: Arc::default(), is_made: false }
    }

    pub(super) fn end(&self) -> &ConnectionEnd {
        &self.end
    }
}

impl Drop for ConnectionCount {
    fn drop(&mut self) {
        let stats = &self.cluster;
        if !self.is_made {
            stats.upstream_cx_connect_fail.inc();
            self.endpoint.stats().cx_connect_fail.inc();
        }
        let (ended, with_active_rq) = match self.end.by() {
            EndedBy::Us => (&stats.upstream_cx_destroy_local, &stats.upstream_cx_destroy_local_with_active_rq),
            EndedBy::Endpoint => (&stats.upstream_cx_destroy_remote, &stats.upstream_cx_destroy_remote_with_active_rq),
        };
        stats.upstream_cx_destroy.inc();
        ended.inc();
        if self.end.is_in_use.load(Ordering::Relaxed) {
            stats.upstream_cx_destroy_with_active_rq.inc();
            with_active_rq.inc();
        }
        self.endpoint.stats().cx_active.dec();
    }
}

/// A byte stream to an endpoint.
///
/// It notes which side ends it. It holds `P`, such as a permit of the circuit breaker, until it is closed.
#[derive(Debug)]
pub(crate) struct UpstreamStream<P = ()> {
    // Dropped first, so that the connection counts until it is closed.
    io: Io,
    count: ConnectionCount,
    tls: Option<Arc<TlsInfo>>,
    local_address: Option<SocketAddr>,
    held: P,
}

impl UpstreamStream {
    pub(super) fn new(connected: Connected, mut count: ConnectionCount) -> Self {
        let Connected { io, tls } = connected;
        count.is_made = true;
        let local_address = io.local_addr();
        Self { io, count, tls, local_address, held: () }
    }

    /// Adds `held`, which is dropped after the stream is closed.
    pub(crate) fn holding<P>(self, held: P) -> UpstreamStream<P> {
        let Self { io, count, tls, local_address, held: () } = self;
        UpstreamStream { io, count, tls, local_address, held }
    }
}

impl<P> UpstreamStream<P> {
    /// How the connection ends, for users that outlive the stream.
    pub(crate) fn end(&self) -> &Arc<ConnectionEnd> {
        &self.count.end
    }

    /// The result of the TLS handshake; `None` = plain text.
    pub(crate) fn tls(&self) -> Option<&Arc<TlsInfo>> {
        self.tls.as_ref()
    }

    /// The HTTP version that was negotiated by ALPN; `None` = none.
    pub(crate) fn negotiated_protocol(&self) -> Option<Protocol> {
        Protocol::from_alpn(self.tls.as_ref()?.application_protocol.as_deref()?)
    }

    /// The local address, if the stream is a socket.
    pub(crate) fn local_address(&self) -> Option<SocketAddr> {
        self.local_address
    }

    fn note_written(&self, written: Result<usize>) -> Result<usize> {
        match &written {
            Ok(written) => self.count.cluster.upstream_cx_tx_bytes_total.add(*written as u64),
            Err(_) => self.count.end.note(EndedBy::Endpoint),
        }
        written
    }
}

impl<P: Unpin> AsyncRead for UpstreamStream<P> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.io).poll_read(cx, buf));
        match buf.filled().len() - before {
            0 if buf.remaining() > 0 => self.count.end.note(EndedBy::Endpoint),
            read => self.count.cluster.upstream_cx_rx_bytes_total.add(read as u64),
        }
        Poll::Ready(read)
    }
}

impl<P: Unpin> AsyncWrite for UpstreamStream<P> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, buf));
        Poll::Ready(self.note_written(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.count.end.note(EndedBy::Us);
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, bufs));
        Poll::Ready(self.note_written(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
