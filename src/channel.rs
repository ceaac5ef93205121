//! Calling a service.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use mesh_tower::{BoxError, ResponseBody};
use tower_service::Service;

use crate::{Mesh, background::Subscription};

/// A client of one service, made by [`Mesh::channel`]. Clones are the same channel and cheap.
///
/// It is a transport for tonic (`GreeterClient::new(channel)`) and a `tower::Service` for HTTP requests with any body.
/// A request without an authority gets that of the service. Every request gets a response: failures become the local
/// reply of a sidecar, such as 503 if no endpoint is healthy, or `grpc-status` 14 for gRPC. If an error caused the reply, it is a
/// [`ResponseCause`](crate::ResponseCause) in the extensions of the response.
///
/// A gRPC response that fails after it has begun ends with trailers: `DEADLINE_EXCEEDED` if a timeout of the route has
/// expired, `UNAVAILABLE` if the connection was lost. The body of any other response ends with an error.
#[derive(Clone, Debug)]
pub struct Channel(mesh_tower::Channel);

impl Channel {
    pub(crate) fn new(inner: &mesh_tower::Channel, subscription: Option<Subscription>, mesh: Mesh) -> Self {
        // A request may outlive its channel, and may still be waiting for the configuration.
        Self(inner.holding(Arc::new((subscription, mesh))))
    }
}

impl<B> Service<Request<B>> for Channel
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = <mesh_tower::Channel as Service<Request<B>>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<B>>::poll_ready(&mut self.0, cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.0.call(request)
    }
}
