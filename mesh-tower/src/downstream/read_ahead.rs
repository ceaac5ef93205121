//! A byte stream whose first bytes can be inspected before they are read.

use std::{
    io::{IoSlice, Result},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

/// A byte stream that replays the bytes which were read ahead.
#[derive(Debug)]
pub(crate) struct ReadAhead<I> {
    inner: I,
    ahead: Vec<u8>,
    /// How many of them have been replayed.
    taken: usize,
}

impl<I> ReadAhead<I> {
    /// Size of the first read: a TLS client hello has some hundred bytes, with post-quantum keys two thousand.
    pub(super) const FIRST_READ: usize = 2048;

    pub(crate) fn new(inner: I) -> Self {
        Self { inner, ahead: Vec::new(), taken: 0 }
    }

    /// A stream of which `ahead` was read.
    pub(crate) fn replaying(inner: I, ahead: Vec<u8>) -> Self {
        Self { inner, ahead, taken: 0 }
    }

    /// The bytes that were read ahead and not yet replayed.
    pub(super) fn ahead(&self) -> &[u8] {
        &self.ahead[self.taken..]
    }
}

impl<I: AsyncRead + Unpin> ReadAhead<I> {
    /// Reads ahead, up to `limit` bytes in all; returns how many were added. 0 = the stream has ended.
    pub(super) async fn look(&mut self, limit: usize) -> Result<usize> {
        let room = limit.saturating_sub(self.ahead.len()).min(self.ahead.len().max(Self::FIRST_READ));
        self.ahead.reserve(room);
        (&mut self.inner).take(room as u64).read_buf(&mut self.ahead).await
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for ReadAhead<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.inner).poll_read(cx, buf);
        }
        let taken = self.ahead().len().min(buf.remaining());
        buf.put_slice(&self.ahead()[..taken]);
        self.taken += taken;
        if self.ahead().is_empty() {
            (self.ahead, self.taken) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for ReadAhead<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn bytes_that_were_read_ahead_are_replayed_in_order() {
        let (mut client, server) = duplex(64);
        let mut server = ReadAhead::new(server);
        client.write_all(b"hello world").await.unwrap();
        assert_eq!(server.look(5).await.unwrap(), 5);
        assert_eq!(server.ahead(), b"hello");
        assert_eq!(server.look(8).await.unwrap(), 3);
        assert_eq!(server.ahead(), b"hello wo");
        drop(client);
        let mut first = [0; 3];
        server.read_exact(&mut first).await.unwrap();
        let mut rest = Vec::new();
        server.read_to_end(&mut rest).await.unwrap();
        assert_eq!((&first, &*rest), (b"hel", &b"lo world"[..]));
        assert_eq!(server.look(8).await.unwrap(), 0);
    }
}
