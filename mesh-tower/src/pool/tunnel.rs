//! Connections whose protocol was switched: bytes in both directions, until both ends have ended.
//!
//! The two directions are independent, as those of a TCP connection are: a client that takes nothing may still send. So a task
//! of its own sends what the client sends, and the body of the response is what the endpoint sends.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};
use mesh_core::{
    http1::{BodyPart, ResponseReader},
    retry::ResetReason,
};
use tokio::{
    io::{AsyncWrite, ReadHalf, WriteHalf},
    sync::oneshot,
};

use super::{
    connecting::PooledStream,
    http1::{Http1Connection, Upload},
    lifetime::Lifetime,
};
use crate::{
    BoxError, TransportError,
    http1::{Filled, Input, Output},
};

/// What the end of the endpoint's bytes means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The end of the response: the endpoint's protocol is not HTTP.
    Tcp,
    /// The loss of the connection, in which the client's stream has no end of its own. The end of the client's bytes is not passed on.
    Upgrade,
    /// The loss of the connection.
    Connect,
}

/// The bytes that the endpoint sends.
pub(super) struct Tunnel {
    kind: Kind,
    stream: ReadHalf<PooledStream>,
    reader: ResponseReader,
    input: Input,
    lifetime: Lifetime,
    has_ended: bool,
    /// Tells the other direction when this is dropped.
    _abandoned: oneshot::Sender<()>,
}

impl Tunnel {
    /// Turns a connection whose response head has been read into a tunnel.
    pub(super) fn open(connection: Http1Connection, kind: Kind) -> Self {
        let Http1Connection { stream, mut reader, input, output, upload, lifetime, .. } = connection;
        reader.begin_tunnel();
        let (stream, sink) = tokio::io::split(stream);
        let (sender, abandoned) = oneshot::channel();
        let shuts_down = kind != Kind::Upgrade;
        tokio::spawn(Sending { sink, output, upload, shuts_down, abandoned, is_abandoned: false });
        Self { kind, stream, reader, input, lifetime, has_ended: false, _abandoned: sender }
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, TransportError>>> {
        loop {
            if let Ok(Some(BodyPart::Data(data))) = self.reader.read_body(self.input.bytes()) {
                return Poll::Ready(Some(Ok(data)));
            }
            let lost = || TransportError::new(ResetReason::ConnectionTermination);
            match ready!(self.input.poll_read(&mut self.stream, cx)) {
                Ok(1..) => {}
                Ok(0) if self.kind == Kind::Tcp => return Poll::Ready(None),
                Ok(0) => return Poll::Ready(Some(Err(lost()))),
                Err(error) => return Poll::Ready(Some(Err(lost().with_source(error)))),
            }
        }
    }
}

impl HttpBody for Tunnel {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let data = ready!(self.poll_data(cx));
        if !matches!(data, Some(Ok(_))) {
            self.has_ended = true;
            self.lifetime.set_in_use(false);
        }
        Poll::Ready(data.map(|data| data.map(Frame::data).map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended
    }
}

/// Sends what the client sends.
struct Sending<W> {
    sink: W,
    output: Output,
    /// `None` = all of it is in the output.
    upload: Option<Upload>,
    /// The end of the client's bytes is passed on.
    shuts_down: bool,
    abandoned: oneshot::Receiver<()>,
    /// The other direction has ended: what has been received is still sent, as far as the endpoint takes it.
    is_abandoned: bool,
}

impl Sending<WriteHalf<PooledStream>> {
    fn poll_all(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        loop {
            let filled = match &mut self.upload {
                Some(Upload { body, writer }) => self.output.fill(body, writer, cx)?,
                None => Filled::Complete,
            };
            if filled == Filled::Complete {
                self.upload = None;
            }
            ready!(self.output.poll_send(&mut self.sink, cx, &mut 0))?;
            match filled {
                Filled::Full => {}
                Filled::Waits => {
                    self.output.release();
                    return Poll::Pending;
                }
                Filled::Complete if self.shuts_down => {
                    return Pin::new(&mut self.sink).poll_shutdown(cx).map_err(Into::into);
                }
                Filled::Complete => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl Future for Sending<WriteHalf<PooledStream>> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // The reader learns from the endpoint, or from its own client, how the tunnel ends.
        if self.poll_all(cx).is_ready() {
            return Poll::Ready(());
        }
        self.is_abandoned = self.is_abandoned || Pin::new(&mut self.abandoned).poll(cx).is_ready();
        if self.is_abandoned { Poll::Ready(()) } else { Poll::Pending }
    }
}
