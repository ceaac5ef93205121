//! The service of [`RetryLayer`](super::RetryLayer), and its future.

use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{RetryLayer, tries::Tries};
use crate::{Body, BoxError};

/// Repeats requests to the service inside, which takes them with a [`Body`].
#[derive(Clone, Debug)]
pub struct Retry<S> {
    pub(super) inner: S,
    pub(super) layer: Arc<RetryLayer>,
}

impl<S, B, R> Service<Request<B>> for Retry<S>
where
    S: Service<Request<Body>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    R: From<Bytes> + Send + 'static,
{
    type Response = Response<R>;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        let body = Body::new(body);
        match Tries::new(&self.layer, &mut parts) {
            None => {
                let inner = self.inner.call(Request::from_parts(parts, body));
                ResponseFuture { state: State::Once { inner } }
            }
            Some(tries) => {
                // The service that was asked whether it is ready is the one to call.
                let clone = self.inner.clone();
                let ready = mem::replace(&mut self.inner, clone);
                ResponseFuture { state: State::Repeated { tries: Box::pin(tries.run(ready, parts, body)) } }
            }
        }
    }
}

pin_project! {
    /// Future of [`Retry`].
    ///
    /// # Cancel safety
    /// Dropping it gives the request up.
    pub struct ResponseFuture<F, R> {
        #[pin]
        state: State<F, R>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F, R> {
        Once { #[pin] inner: F },
        Repeated { tries: Pin<Box<dyn Future<Output = Result<Response<R>, BoxError>> + Send>> },
    }
}

impl<F, R> fmt::Debug for ResponseFuture<F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

impl<F, R, E> Future for ResponseFuture<F, R>
where
    F: Future<Output = Result<Response<R>, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Response<R>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Once { inner } => inner.poll(cx).map_err(Into::into),
            StateProjection::Repeated { tries } => tries.as_mut().poll(cx),
        }
    }
}
