//! [`CircuitBreakerLayer`].

use std::sync::Arc;

use http::Response;
use mesh_core::{
    cluster::ClusterState,
    local_reply::{LocalReply, UpstreamReset},
    model::Thresholds,
};

use crate::{
    Body, BoxError, ClusterHandle,
    call::{Call, HeldBody, local_reply},
    layer::{HttpService, Middleware, layers},
    route::{RouteMatched, not_found_status},
};

/// Limits requests; see the [module](super).
///
/// ```
/// use http::{Request, Response};
/// use mesh_core::model::Thresholds;
/// use mesh_tower::{Body, BoxError, circuit_breaker::CircuitBreakerLayer};
/// use tower::{Layer as _, ServiceExt as _, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let mut thresholds = Thresholds::default();
/// thresholds.max_requests = 0;
/// let layer = CircuitBreakerLayer::new(thresholds);
/// let service = layer.layer(service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Body::empty()))));
/// let response = service.oneshot(Request::new(Body::empty())).await?;
/// assert_eq!((response.status().as_u16(), &response.headers()["x-envoy-overloaded"]), (503, &"true".parse()?));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct CircuitBreakerLayer {
    cluster: Option<Arc<ClusterState>>,
}

layers!(CircuitBreakerLayer);

impl CircuitBreakerLayer {
    /// Limits all requests through the services that this layer makes, with limits of its own.
    #[must_use]
    pub fn new(thresholds: Thresholds) -> Self {
        Self::with_cluster(ClusterHandle::with_thresholds(thresholds))
    }

    /// Applies the limits of `cluster`, shared with everything else that sends to it.
    #[must_use]
    pub fn with_cluster(cluster: impl Into<ClusterHandle>) -> Self {
        Self { cluster: Some(cluster.into().into_state()) }
    }

    /// Applies the limits of the cluster that [`RouteLayer`](crate::route::RouteLayer) chose.
    #[must_use]
    pub fn from_route() -> Self {
        Self { cluster: None }
    }
}

impl Middleware for CircuitBreakerLayer {
    type Error<E: Into<BoxError> + Send> = E;

    async fn serve<S: HttpService>(self, mut service: S, mut call: Call) -> Result<Response<Body>, S::Error> {
        let extensions = &call.head.extensions;
        let permit = match RouteMatched::cluster_of(extensions, self.cluster.as_ref()) {
            None => Err(LocalReply::cluster_not_found(not_found_status(RouteMatched::of(extensions)))),
            Some(cluster) => {
                let permit = cluster.try_request(RouteMatched::priority_of(extensions));
                permit.map_err(|_| LocalReply::upstream_reset(UpstreamReset::Overflow, "", false))
            }
        };
        match permit {
            Err(reply) => Ok(local_reply(reply, call.is_grpc())),
            Ok(permit) => {
                let response = service.send(call.take_request().unwrap_or_default()).await?;
                Ok(response.map(|body| HeldBody::wrap(body, permit)))
            }
        }
    }
}
