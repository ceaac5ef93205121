//! The body of an HTTP/2 response.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http::{HeaderMap, header::CONTENT_LENGTH};
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::http2::Http2Stream;
use crate::{BoxError, TransportError};

/// The body of a response. It holds the stream until it has ended.
#[derive(Debug)]
pub(super) struct Http2Body {
    receive: RecvStream,
    /// Remaining bytes, if the response has a `content-length`.
    remaining: Option<u64>,
    data_ended: bool,
    stream: Option<Http2Stream>,
    /// Whether the whole request had been sent when the response began.
    is_request_sent: bool,
}

impl Http2Body {
    pub(super) fn new(headers: &HeaderMap, receive: RecvStream, stream: Http2Stream, is_request_sent: bool) -> Self {
        let remaining = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let stream = (!receive.is_end_stream()).then_some(stream);
        Self { receive, remaining, data_ended: false, stream, is_request_sent }
    }

    fn poll_stream(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
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
                Some(Err(error)) => return Poll::Ready(self.not_early_end(error).map(Err)),
                None => self.data_ended = true,
            }
        }
        match ready!(self.receive.poll_trailers(cx)) {
            Ok(trailers) => Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers)))),
            Err(error) => Poll::Ready(self.not_early_end(error).map(Err)),
        }
    }

    /// `error`, unless it only asks to stop the upload: a reset with NO_ERROR after a complete response (RFC 9113 section
    /// 8.1). If there is no upload or no complete response, it is a reset like any other.
    fn not_early_end(&self, error: h2::Error) -> Option<h2::Error> {
        let is_early_end = error.reason() == Some(Reason::NO_ERROR)
            && !error.is_go_away()
            && !self.is_request_sent
            && self.remaining.unwrap_or(0) == 0;
        (!is_early_end).then_some(error)
    }

    fn failed(&mut self, error: h2::Error) -> BoxError {
        match self.stream.take() {
            Some(stream) => stream.failed(error).into(),
            None => TransportError::from_h2(error).into(),
        }
    }
}

impl HttpBody for Http2Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(self.poll_stream(cx));
        if frame.is_none() || self.receive.is_end_stream() {
            self.stream = None;
        }
        Poll::Ready(frame.map(|frame| frame.map_err(|error| self.failed(error))))
    }

    fn is_end_stream(&self) -> bool {
        self.receive.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.remaining {
            Some(remaining) => SizeHint::with_exact(remaining),
            None if self.is_end_stream() => SizeHint::with_exact(0),
            None => SizeHint::default(),
        }
    }
}
