//! [`CircuitBreakerLayer`].

use std::sync::Arc;

use http::Response;
use mesh_core::{
    cluster::ClusterState,
    local_reply::{LocalReply, UpstreamReset},
    model::{CircuitBreakers, Cluster, Discovery, LoadAssignment, Thresholds},
};

use crate::{
    Body, BoxError,
    call::{Call, HeldBody, local_reply},
    layer::{HttpService, Middleware, layers},
    rng::ThreadRng,
    route::{RouteMatched, not_found_status},
    timer::now,
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
    /// With limits of its own, for all requests through the services that this layer makes.
    #[must_use]
    pub fn new(thresholds: Thresholds) -> Self {
        Self::with_cluster(cluster_with(thresholds))
    }

    /// With the limits of `cluster`, shared with everything else that sends to it.
    #[must_use]
    pub fn with_cluster(cluster: Arc<ClusterState>) -> Self {
        Self { cluster: Some(cluster) }
    }

    /// With the limits of the cluster that [`RouteLayer`](crate::route::RouteLayer) chose.
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

/// A cluster that consists of its limits.
pub(crate) fn cluster_with(thresholds: Thresholds) -> Arc<ClusterState> {
    let mut config = Cluster::new("", Discovery::Static(LoadAssignment::default()));
    config.circuit_breakers = CircuitBreakers::new(thresholds, thresholds);
    Arc::new(ClusterState::new(Arc::new(config), now(), &mut ThreadRng))
}
