//! The service of [`TimeoutLayer`](super::TimeoutLayer), and its future.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use mesh_core::{local_reply::LocalReply, policy::grpc};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{TimeoutBody, layer::timeout_of};
use crate::{
    BoxError,
    outlier::TimeIsUp,
    reply::local_reply,
    timer::{Deadline, Timers, now},
};

/// Answers in place of a service that takes too long.
#[derive(Clone, Debug)]
pub struct Timeout<S> {
    pub(super) inner: S,
    pub(super) timeout: Option<Duration>,
    pub(super) timers: Timers,
}

impl<S, B, R> Service<Request<B>> for Timeout<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Body + From<Bytes>,
    R::Error: Into<BoxError>,
{
    type Response = Response<TimeoutBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let timeout = timeout_of(request.extensions(), self.timeout);
        let time_is_up = timeout.map(|_| TimeIsUp::of(request.extensions_mut()));
        let deadline = self.timers.deadline(timeout.and_then(|timeout| now().checked_add(timeout)));
        let is_grpc = grpc::is_grpc_request(request.headers());
        ResponseFuture { inner: self.inner.call(request), deadline: Some(deadline), time_is_up, is_grpc }
    }
}

pin_project! {
    /// Future of [`Timeout`].
    ///
    /// # Cancel safety
    /// Dropping it gives the request up.
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
        deadline: Option<Deadline>,
        time_is_up: Option<TimeIsUp>,
        is_grpc: bool,
    }
}

impl<F, R, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Body + From<Bytes>,
{
    type Output = Result<Response<TimeoutBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(result) = this.inner.poll(cx) {
            let deadline = this.deadline.take();
            return Poll::Ready(result.map(|response| response.map(|body| TimeoutBody::new(body, deadline))));
        }
        let Some(deadline) = this.deadline else { return Poll::Pending };
        ready!(deadline.poll_expired(cx));
        if let Some(time_is_up) = this.time_is_up {
            time_is_up.tell();
        }
        Poll::Ready(Ok(local_reply(LocalReply::RESPONSE_TIMEOUT, *this.is_grpc)))
    }
}
