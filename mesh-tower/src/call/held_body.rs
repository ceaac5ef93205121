//! A response body that holds a guard until it has ended, such as a circuit breaker permit.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::{Body, BoxError};

/// A response body that holds `G` until its end.
#[derive(Debug)]
pub(crate) struct HeldBody<G> {
    inner: Body,
    held: Option<G>,
}

impl<G: Send + Unpin + 'static> HeldBody<G> {
    pub(crate) fn wrap(inner: Body, held: G) -> Body {
        if inner.is_end_stream() { inner } else { Body::new(Self { inner, held: Some(held) }) }
    }
}

impl<G: Unpin> HttpBody for HeldBody<G> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        // A reader that knows the end does not poll again.
        if !matches!(frame, Some(Ok(_))) || self.inner.is_end_stream() {
            self.held = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
