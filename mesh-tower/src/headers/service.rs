//! The service of [`HeadersLayer`](super::HeadersLayer), and its future.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{HeadersLayer, layer::ResponseChanges};

/// Changes the headers of requests and of responses.
#[derive(Clone, Debug)]
pub struct Headers<S> {
    pub(super) inner: S,
    pub(super) layer: HeadersLayer,
}

impl<S, B, R> Service<Request<B>> for Headers<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        let changes = self.layer.change_request(&mut parts);
        ResponseFuture { inner: self.inner.call(Request::from_parts(parts, body)), changes }
    }
}

pin_project! {
    /// Future of [`Headers`].
    ///
    /// # Cancel safety
    /// Dropping it gives the request up.
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
        changes: ResponseChanges,
    }
}

impl<F, R, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let mut response = ready!(this.inner.poll(cx))?;
        this.changes.apply(&mut response);
        Poll::Ready(Ok(response))
    }
}
