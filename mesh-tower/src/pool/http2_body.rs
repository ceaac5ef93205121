//! The body of an HTTP/2 response.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::http2::Http2Stream;
use crate::{BoxError, TransportError, http2::Incoming};

/// The body of a response. It holds the stream until it has ended.
#[derive(Debug)]
pub(super) struct Http2Body {
    incoming: Incoming,
    stream: Option<Http2Stream>,
    /// Whether the whole request had been sent when the response began.
    is_request_sent: bool,
}

impl Http2Body {
    pub(super) fn new(headers: &HeaderMap, receive: RecvStream, stream: Http2Stream, is_request_sent: bool) -> Self {
        let stream = (!receive.is_end_stream()).then_some(stream);
        Self { incoming: Incoming::new(headers, receive), stream, is_request_sent }
    }

    /// `error`, unless it only asks to stop the upload: a reset with NO_ERROR after a complete response (RFC 9113 section
    /// 8.1). If there is no upload or no complete response, it is a reset like any other.
    fn not_early_end(&self, error: h2::Error) -> Option<h2::Error> {
        let is_early_end = error.reason() == Some(Reason::NO_ERROR)
            && !error.is_go_away()
            && !self.is_request_sent
            && self.incoming.has_whole_content();
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
        let frame = match ready!(self.incoming.poll_frame(cx)) {
            Some(Err(error)) => self.not_early_end(error).map(Err),
            frame => frame,
        };
        if frame.is_none() || self.incoming.is_end_stream() {
            self.stream = None;
        }
        Poll::Ready(frame.map(|frame| frame.map_err(|error| self.failed(error))))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
