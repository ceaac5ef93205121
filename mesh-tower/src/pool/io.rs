//! The byte stream of a pooled connection, which knows who ended it.

use std::{
    io::{IoSlice, Result},
    pin::Pin,
    sync::{Arc, OnceLock, Weak},
    task::{Context, Poll, ready},
};

use mesh_core::resilience::breaker::Permit;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{endpoint_pool::EndpointPool, lifetime::Lifetime};
use crate::Io;

/// Who ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndedBy {
    Us,
    Endpoint,
}

/// How a byte stream ended; outlives it.
#[derive(Debug, Default)]
pub(super) struct StreamEnd {
    by: OnceLock<EndedBy>,
    held: Mutex<Option<Lifetime>>,
}

impl StreamEnd {
    /// Who was the first to end the stream. One that is dropped without a word is ended by us.
    pub(super) fn by(&self) -> EndedBy {
        self.by.get().copied().unwrap_or(EndedBy::Us)
    }

    pub(super) fn ended(&self, by: EndedBy) {
        // Only the first is of interest.
        let _ = self.by.set(by);
    }

    /// Keeps `lifetime` until the stream is dropped, wherever it goes.
    pub(super) fn hold(&self, lifetime: Lifetime) {
        *self.held.lock() = Some(lifetime);
    }
}

/// Counts a connection in the circuit breaker and in its pool until its byte stream is closed.
#[derive(Debug)]
pub(super) struct OpenConnection {
    permit: Option<Permit>,
    pool: Weak<EndpointPool>,
}

impl OpenConnection {
    pub(super) fn new(permit: Permit, pool: &Arc<EndpointPool>) -> Self {
        Self { permit: Some(permit), pool: Arc::downgrade(pool) }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        // Given back first, so that the pool can take it for another connection.
        self.permit = None;
        if let Some(pool) = self.pool.upgrade() {
            pool.closed();
        }
    }
}

/// A byte stream that tells its [`StreamEnd`] how it ends.
#[derive(Debug)]
pub(super) struct PooledIo {
    io: Io,
    end: Arc<StreamEnd>,
    /// Dropped after the stream is closed.
    _open: OpenConnection,
}

impl PooledIo {
    pub(super) fn new(io: Io, end: Arc<StreamEnd>, open: OpenConnection) -> Self {
        Self { io, end, _open: open }
    }

    fn alive<T>(&self, result: Result<T>) -> Result<T> {
        result.inspect_err(|_| self.end.ended(EndedBy::Endpoint))
    }
}

impl Drop for PooledIo {
    fn drop(&mut self) {
        *self.end.held.lock() = None;
    }
}

impl AsyncRead for PooledIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.io).poll_read(cx, buf));
        if buf.filled().len() == before && buf.remaining() > 0 {
            self.end.ended(EndedBy::Endpoint);
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for PooledIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, buf));
        Poll::Ready(self.alive(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.end.ended(EndedBy::Us);
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, bufs));
        Poll::Ready(self.alive(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
