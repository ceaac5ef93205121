//! The byte stream of a downstream connection. It replays the bytes that were read to detect the protocol, and counts
//! bytes. It records the end of the stream before the codec ends the requests, because their access logs depend on it.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::ConnectionInfo;
use crate::{http1::Input, telemetry::HttpStats};

/// The connection preface of HTTP/2, RFC 9113 section 3.4.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The part of the preface that no HTTP/1 request begins with.
const HTTP2_LINE: &[u8] = b"PRI * HTTP/2.0";

/// A byte stream that replays the bytes which were read ahead.
pub(crate) struct DownstreamIo<I> {
    inner: I,
    ahead: Input,
    info: Arc<ConnectionInfo>,
    stats: Arc<HttpStats>,
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

/// What a read has shown about the protocol of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// The connection has ended without a byte.
    Ended,
    /// More bytes are needed.
    Unsure,
    /// The protocol. If it is HTTP/2, the preface may be broken.
    Certain(Protocol),
}

impl<I> DownstreamIo<I> {
    pub(crate) fn new(inner: I, info: Arc<ConnectionInfo>, stats: Arc<HttpStats>) -> Self {
        Self { inner, ahead: Input::default(), info, stats, end: End::AtOnce }
    }

    /// Delays the end of the stream: see [`End::Later`].
    pub(crate) fn ending_later(self) -> Self {
        Self { end: End::Later, ..self }
    }

    /// Counts the bytes written.
    fn wrote(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Ready(Ok(written)) => self.stats.downstream_cx_tx_bytes_total.add(*written as u64),
            Poll::Ready(Err(_)) => self.info.closed(),
            Poll::Pending => {}
        }
        written
    }
}

impl<I: AsyncRead + Unpin> DownstreamIo<I> {
    /// Reads once, to detect the protocol.
    ///
    /// # Cancel safety
    /// No byte is lost.
    pub(crate) async fn look(&mut self) -> io::Result<Look> {
        let read = poll_fn(|cx| self.ahead.poll_read(&mut self.inner, cx)).await?;
        let ahead = &**self.ahead.bytes();
        Ok(if ahead.is_empty() {
            Look::Ended
        } else if ahead.starts_with(PREFACE) {
            Look::Certain(Protocol::Http2)
        } else if read > 0 && PREFACE.starts_with(ahead) {
            Look::Unsure
        } else if ahead.starts_with(HTTP2_LINE) {
            Look::Certain(Protocol::Http2)
        } else {
            Look::Certain(Protocol::Http1)
        })
    }

    /// Whether the connection, whose protocol has been detected, does not begin with the preface of HTTP/2.
    pub(crate) fn lacks_preface(&mut self) -> bool {
        !self.ahead.bytes().starts_with(PREFACE)
    }

    /// Takes the bytes that were read to detect the protocol.
    pub(crate) fn take_ahead(&mut self) -> Input {
        self.stats.downstream_cx_rx_bytes_total.add(self.ahead.len() as u64);
        std::mem::take(&mut self.ahead)
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncRead for DownstreamIo<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        if !this.ahead.is_empty() {
            let taken = this.ahead.len().min(buf.remaining());
            buf.put_slice(&this.ahead.bytes().split_to(taken));
            this.ahead.release();
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
        this.stats.downstream_cx_rx_bytes_total.add((buf.filled().len() - before) as u64);
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for DownstreamIo<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.wrote(written)
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
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

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
            let protocol = loop {
                match server.look().await.unwrap() {
                    Look::Ended => break None,
                    Look::Unsure => {}
                    Look::Certain(protocol) => {
                        let is_whole = chunks.concat().starts_with(PREFACE);
                        assert_eq!(server.lacks_preface(), !is_whole, "{chunks:?}");
                        break Some(protocol);
                    }
                }
            };
            let mut rest = Vec::new();
            server.read_to_end(&mut rest).await.unwrap();
            (protocol, rest)
        };
        tokio::join!(write, read).1
    }

    #[tokio::test]
    async fn the_protocol_is_detected_in_any_fragmentation_and_no_byte_is_lost() {
        let cases: [(&[&[u8]], Option<Protocol>); 9] = [
            (&[], None),
            (&[b"GET / HTTP/1.1\r\n\r\n"], Some(Protocol::Http1)),
            (&[b"P", b"RI * HTTP/2.0\r\n\r\nSM\r\n", b"\r\nframe"], Some(Protocol::Http2)),
            (&[PREFACE, b"0123456789"], Some(Protocol::Http2)),
            (&[b"PR", b"OPFIND / HTTP/1.1\r\n\r\n"], Some(Protocol::Http1)),
            (&[b"PRI * HTTP"], Some(Protocol::Http1)),
            (&[b"PRI * HTTP/2.0\r\n\r\nno preface"], Some(Protocol::Http2)),
            (&[b"PRI * HTTP", b"/2.0\r\n\r\nSM"], Some(Protocol::Http2)),
            (&[b"PRI * HTTP/1.1\r\n\r\n"], Some(Protocol::Http1)),
        ];
        for (chunks, protocol) in cases {
            assert_eq!(detect(chunks).await, (protocol, chunks.concat()), "{chunks:?}");
        }
    }
}
