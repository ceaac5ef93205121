//! A response that occupies something until its body has ended: a place in a circuit breaker, an endpoint's attention.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// A response body that holds `G` until its end.
    #[derive(Debug)]
    pub struct HeldBody<B, G> {
        #[pin]
        inner: B,
        held: Option<G>,
    }
}

impl<B: Body, G> HeldBody<B, G> {
    fn new(inner: B, held: Option<G>) -> Self {
        let held = held.filter(|_| !inner.is_end_stream());
        Self { inner, held }
    }
}

impl<B: From<Bytes>, G> From<Bytes> for HeldBody<B, G> {
    fn from(bytes: Bytes) -> Self {
        Self { inner: bytes.into(), held: None }
    }
}

impl<B: Body, G> Body for HeldBody<B, G> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.inner.as_mut().poll_frame(cx));
        // Whoever knows that nothing follows need not ask again.
        if !matches!(frame, Some(Ok(_))) || this.inner.is_end_stream() {
            *this.held = None;
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

pin_project! {
    /// Future of a service that holds `G` while a request is under way.
    ///
    /// # Cancel safety
    /// Dropping it gives the request up and gives back what it holds.
    #[derive(Debug)]
    pub struct HeldFuture<F, G> {
        #[pin]
        inner: F,
        held: Option<G>,
    }
}

impl<F, G> HeldFuture<F, G> {
    pub(crate) fn new(inner: F, held: G) -> Self {
        Self { inner, held: Some(held) }
    }
}

impl<F, G, R, E> Future for HeldFuture<F, G>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Body,
{
    type Output = Result<Response<HeldBody<R, G>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.inner.poll(cx))?;
        let held = this.held.take();
        Poll::Ready(Ok(response.map(|body| HeldBody::new(body, held))))
    }
}
