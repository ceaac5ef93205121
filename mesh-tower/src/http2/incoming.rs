//! The body of a message that is received on an HTTP/2 stream.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, header::CONTENT_LENGTH};
use http_body::{Frame, SizeHint};

/// The body of a message that is received. A frame that is read makes room in the flow-control window.
#[derive(Debug)]
pub(crate) struct Incoming {
    receive: RecvStream,
    /// Remaining bytes, if the message has a `content-length`. h2 checks that it is true.
    remaining: Option<u64>,
    data_ended: bool,
    /// Whether all of the stream had been read after the latest frame. h2 would have to lock the connection to tell, and the
    /// layers around a body ask often: 3 % of the instructions of a gRPC request.
    has_ended: bool,
}

impl Incoming {
    /// The body of a message with `headers`.
    pub(crate) fn new(headers: &HeaderMap, receive: RecvStream) -> Self {
        let remaining = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let has_ended = receive.is_end_stream();
        Self { receive, remaining, data_ended: false, has_ended }
    }

    /// Whether as many bytes have been received as `content-length` says, if there is one.
    pub(crate) fn has_whole_content(&self) -> bool {
        self.remaining.unwrap_or(0) == 0
    }

    /// The next frame.
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let frame = ready!(self.poll_receive(cx));
        self.has_ended = self.receive.is_end_stream();
        Poll::Ready(frame)
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        while !self.data_ended {
            match ready!(self.receive.poll_data(cx)) {
                // An empty frame that only ends the stream.
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => {
                    self.remaining = self.remaining.map(|remaining| remaining.saturating_sub(data.len() as u64));
                    // Cannot fail, because as much was just received.
                    let _ = self.receive.flow_control().release_capacity(data.len());
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.data_ended = true,
            }
        }
        let trailers = ready!(self.receive.poll_trailers(cx));
        Poll::Ready(trailers.map(|trailers| trailers.map(Frame::trailers)).transpose())
    }

    /// Whether all of the stream has been read. False if the stream has ended since the latest frame was read.
    pub(crate) fn is_end_stream(&self) -> bool {
        self.has_ended
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        match self.remaining {
            Some(remaining) => SizeHint::with_exact(remaining),
            None if self.is_end_stream() => SizeHint::with_exact(0),
            None => SizeHint::default(),
        }
    }
}
