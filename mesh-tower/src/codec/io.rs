//! The byte stream of a downstream connection. It replays the bytes that were read to detect the protocol, and counts
//! bytes. It records the end of the stream before the codec ends the requests, because their access logs depend on it.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::ConnectionInfo;
use crate::telemetry::HttpStats;

/// The connection preface of HTTP/2, RFC 9113 section 3.4.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A byte stream that replays the bytes which were read ahead.
pub(crate) struct DownstreamIo<I> {
    inner: I,
    read_ahead: [u8; PREFACE.len()],
    read_ahead_start: usize,
    read_ahead_end: usize,
    info: Arc<ConnectionInfo>,
    stats: Arc<HttpStats>,
    times_heads: bool,
    /// The last write was incomplete.
    is_congested: bool,
    end: End,
}

/// When the codec sees the end of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    AtOnce,
    /// One poll later, after the streams have seen what came before it, such as a reset.
    Later,
}

/// The protocol of a connection, detected by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

impl<I> DownstreamIo<I> {
    pub(crate) fn new(inner: I, info: Arc<ConnectionInfo>, stats: Arc<HttpStats>) -> Self {
        Self {
            inner,
            read_ahead: [0; PREFACE.len()],
            read_ahead_start: 0,
            read_ahead_end: 0,
            info,
            stats,
            times_heads: false,
            is_congested: false,
            end: End::AtOnce,
        }
    }

    /// Records when the heads of requests begin.
    pub(crate) fn timing_heads(self) -> Self {
        Self { times_heads: true, ..self }
    }

    /// Delays the end of the stream: see [`End::Later`].
    pub(crate) fn ending_later(self) -> Self {
        Self { end: End::Later, ..self }
    }

    /// Counts the bytes written, and records whether the write of `offered` bytes was incomplete.
    fn wrote(&mut self, offered: usize, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Ready(Ok(written)) => {
                self.stats.downstream_cx_tx_bytes_total.add(*written as u64);
                self.is_congested = *written < offered;
            }
            Poll::Ready(Err(_)) => self.info.closed(),
            Poll::Pending => self.is_congested = true,
        }
        written
    }
}

impl<I: AsyncRead + Unpin> DownstreamIo<I> {
    /// Reads until the connection's protocol is certain; `None` if it ended before.
    pub(crate) async fn detect(&mut self) -> io::Result<Option<Protocol>> {
        while self.read_ahead_end < PREFACE.len() {
            let read = self.inner.read(&mut self.read_ahead[self.read_ahead_end..]).await?;
            if read == 0 && self.read_ahead_end == 0 {
                return Ok(None);
            }
            self.read_ahead_end += read;
            if read == 0 || !PREFACE.starts_with(&self.read_ahead[..self.read_ahead_end]) {
                return Ok(Some(Protocol::Http1));
            }
        }
        Ok(Some(Protocol::Http2))
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncRead for DownstreamIo<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(answer) = this.info.last_answer() {
            // Nothing waits for a client that does not read.
            if !this.is_congested {
                let written = Pin::new(&mut this.inner).poll_write(cx, answer);
                if let Poll::Ready(Ok(written)) = written {
                    this.stats.downstream_cx_tx_bytes_total.add(written as u64);
                }
            }
            this.info.closed();
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        if this.read_ahead_start < this.read_ahead_end {
            let ahead = &this.read_ahead[this.read_ahead_start..this.read_ahead_end];
            let taken = ahead.len().min(buf.remaining());
            buf.put_slice(&ahead[..taken]);
            this.read_ahead_start += taken;
        } else {
            let read = ready!(Pin::new(&mut this.inner).poll_read(cx, buf));
            if read.is_err() || buf.filled().len() == before {
                if std::mem::replace(&mut this.end, End::AtOnce) == End::Later {
                    // The next poll reads the end again, or an error.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                this.info.closed();
            }
            read?;
        }
        if this.times_heads {
            this.info.received();
        }
        this.stats.downstream_cx_rx_bytes_total.add((buf.filled().len() - before) as u64);
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for DownstreamIo<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.wrote(buf.len(), written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.wrote(bufs.iter().map(|buf| buf.len()).sum(), written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use mesh_core::listener::ConnectionFacts;

    use super::*;
    use crate::{Downstream, drain::Drain};

    /// Sends `chunks` one by one and returns the protocol and everything that can be read after detection.
    async fn detect(chunks: &[&[u8]]) -> (Option<Protocol>, Vec<u8>) {
        let (mut client, server) = tokio::io::duplex(64);
        let info = ConnectionInfo::new(Downstream::new(ConnectionFacts::default()), Drain::new());
        let mut server = DownstreamIo::new(server, Arc::new(info), Arc::default());
        let write = async {
            for chunk in chunks {
                client.write_all(chunk).await.unwrap();
                tokio::task::yield_now().await;
            }
            drop(client);
        };
        let read = async {
            let protocol = server.detect().await.unwrap();
            let mut rest = Vec::new();
            server.read_to_end(&mut rest).await.unwrap();
            (protocol, rest)
        };
        tokio::join!(write, read).1
    }

    #[tokio::test]
    async fn the_protocol_is_detected_in_any_fragmentation_and_no_byte_is_lost() {
        let cases: [(&[&[u8]], Option<Protocol>); 6] = [
            (&[], None),
            (&[b"GET / HTTP/1.1\r\n\r\n"], Some(Protocol::Http1)),
            (&[b"P", b"RI * HTTP/2.0\r\n\r\nSM\r\n", b"\r\nframe"], Some(Protocol::Http2)),
            (&[PREFACE, b"0123456789"], Some(Protocol::Http2)),
            (&[b"PR", b"OPFIND / HTTP/1.1\r\n\r\n"], Some(Protocol::Http1)),
            (&[b"PRI * HTTP"], Some(Protocol::Http1)),
        ];
        for (chunks, protocol) in cases {
            assert_eq!(detect(chunks).await, (protocol, chunks.concat()), "{chunks:?}");
        }
    }
}
