//! The service of [`RouteLayer`](super::RouteLayer).

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use tower_service::Service;

use super::RouteLayer;
use crate::reply::ResponseFuture;

/// Leaves a [`RouteMatched`](super::RouteMatched) beside each request, or answers it.
#[derive(Clone, Debug)]
pub struct Router<S> {
    pub(super) inner: S,
    pub(super) layer: Arc<RouteLayer>,
}

impl<S, B, R> Service<Request<B>> for Router<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: From<Bytes>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        match self.layer.decide(&parts) {
            Err(answer) => ResponseFuture::answered(*answer),
            Ok(matched) => {
                parts.extensions.insert(matched);
                ResponseFuture::passed(self.inner.call(Request::from_parts(parts, body)))
            }
        }
    }
}
