//! The service of [`CircuitBreakerLayer`](super::CircuitBreakerLayer).

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use mesh_core::{
    cluster::ClusterState,
    local_reply::{LocalReply, UpstreamReset},
    policy::grpc,
    resilience::breaker::Permit,
};
use tower_service::Service;

use crate::{
    held::{HeldBody, HeldFuture},
    reply::{ResponseFuture, local_reply},
    route::{RouteMatched, not_found_status},
};

/// Passes on as many requests at once as its circuit breaker allows.
#[derive(Clone, Debug)]
pub struct CircuitBreaker<S> {
    pub(super) inner: S,
    pub(super) cluster: Option<Arc<ClusterState>>,
}

impl<S, B, R> Service<Request<B>> for CircuitBreaker<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Body + From<Bytes>,
{
    type Response = Response<HeldBody<R, Permit>>;
    type Error = S::Error;
    type Future = ResponseFuture<HeldFuture<S::Future, Permit>, HeldBody<R, Permit>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let extensions = request.extensions();
        let permit = match RouteMatched::cluster_of(extensions, self.cluster.as_ref()) {
            None => Err(LocalReply::cluster_not_found(not_found_status(RouteMatched::of(extensions)))),
            Some(cluster) => {
                let permit = cluster.try_request(RouteMatched::priority_of(extensions));
                permit.map_err(|_| LocalReply::upstream_reset(UpstreamReset::Overflow, "", false))
            }
        };
        match permit {
            Ok(permit) => ResponseFuture::passed(HeldFuture::new(self.inner.call(request), permit)),
            Err(reply) => ResponseFuture::answered(local_reply(reply, grpc::is_grpc_request(request.headers()))),
        }
    }
}
