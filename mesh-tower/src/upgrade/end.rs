//! One end of a tunnel.

use std::{
    io::Result,
    pin::Pin,
    sync::OnceLock,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::EndedBy;

/// The byte stream to one side of a tunnel: counts what comes from it, and notes if it is the first to end.
pub(super) struct End<'a, I> {
    io: I,
    side: EndedBy,
    first: &'a OnceLock<EndedBy>,
    received: u64,
}

impl<'a, I> End<'a, I> {
    pub(super) fn new(io: I, side: EndedBy, first: &'a OnceLock<EndedBy>) -> Self {
        Self { io, side, first, received: 0 }
    }

    /// Bytes that came from this side.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    fn ended(&self) {
        // Only the first is of interest.
        let _ = self.first.set(self.side);
    }

    fn alive<T>(&self, result: Result<T>) -> Result<T> {
        result.inspect_err(|_| self.ended())
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for End<'_, I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.io).poll_read(cx, buf));
        let received = buf.filled().len() - before;
        if received == 0 {
            self.ended();
        }
        self.received += received as u64;
        Poll::Ready(self.alive(read))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for End<'_, I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, buf));
        Poll::Ready(self.alive(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let flushed = ready!(Pin::new(&mut self.io).poll_flush(cx));
        Poll::Ready(self.alive(flushed))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let shut_down = ready!(Pin::new(&mut self.io).poll_shutdown(cx));
        Poll::Ready(self.alive(shut_down))
    }
}
