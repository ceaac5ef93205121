//! The body of an HTTP/2 request.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::{Body, http2::Incoming};

/// The body of a request. A stream that the client has reset fails, so that no part of a body passes for all of it.
#[derive(Debug)]
struct RequestBody(Incoming);

/// The body of a request with `headers`. There is none if the headers end the stream; otherwise there is one, also if the method
/// usually has none and there is no `content-length`.
pub(super) fn request_body(headers: &HeaderMap, receive: RecvStream) -> Body {
    if receive.is_end_stream() { Body::empty() } else { Body::new(RequestBody(Incoming::new(headers, receive))) }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        Poll::Ready(ready!(self.0.poll_frame(cx)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}
