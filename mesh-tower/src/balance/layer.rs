//! [`BalanceLayer`].

use std::sync::Arc;

use http::{Extensions, Response};
use mesh_core::{
    balance::Avoid,
    cluster::{ClusterState, EndpointState},
    local_reply::LocalReply,
};

use crate::{
    Body, BoxError, ClusterHandle,
    call::{Call, HeldBody, local_reply},
    layer::{HttpService, Middleware, layers},
    pick::pick,
    retry::TriedEndpoints,
    rng::ThreadRng,
    route::{RouteMatched, not_found_status},
};

/// Picks endpoints; see the [module](super).
///
/// ```
/// use http::{Request, Response};
/// use mesh_core::model::{Cluster, Discovery};
/// use mesh_tower::{Body, BoxError, balance::{BalanceLayer, SelectedEndpoint}};
/// use tower::{Layer as _, ServiceExt as _, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let endpoints = ["127.0.0.1:9080".parse()?].into_iter().collect();
/// let cluster = Cluster::new("reviews", Discovery::Static(endpoints));
/// let service = BalanceLayer::new(cluster).layer(service_fn(async |request: Request<Body>| {
///     let selected = request.extensions().get::<SelectedEndpoint>().ok_or("no endpoint")?;
///     Ok::<_, BoxError>(Response::new(Body::from(selected.endpoint.address().to_string())))
/// }));
/// assert_eq!(service.oneshot(Request::new(Body::empty())).await?.status(), 200);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct BalanceLayer {
    cluster: Option<Arc<ClusterState>>,
}

layers!(BalanceLayer);

/// The endpoint of a request, in its extensions.
#[derive(Clone, Debug)]
pub struct SelectedEndpoint {
    /// The cluster.
    pub cluster: Arc<ClusterState>,
    /// The endpoint that was picked.
    pub endpoint: Arc<EndpointState>,
}

impl BalanceLayer {
    /// Picks among the endpoints of `cluster`.
    #[must_use]
    pub fn new(cluster: impl Into<ClusterHandle>) -> Self {
        Self { cluster: Some(cluster.into().into_state()) }
    }

    /// Picks among the endpoints of the cluster that [`RouteLayer`](crate::route::RouteLayer) chose.
    #[must_use]
    pub fn from_route() -> Self {
        Self { cluster: None }
    }

    fn select(&self, extensions: &Extensions) -> Result<SelectedEndpoint, LocalReply> {
        let Some(cluster) = RouteMatched::cluster_of(extensions, self.cluster.as_ref()) else {
            return Err(LocalReply::cluster_not_found(not_found_status(RouteMatched::of(extensions))));
        };
        let chosen = cluster.choose(&mut ThreadRng);
        let cluster = chosen.as_ref().unwrap_or(cluster);
        let picked = match extensions.get::<TriedEndpoints>() {
            Some(tried) => tried.pick_another(cluster),
            None => pick(cluster, Avoid::NONE),
        };
        let endpoint = picked.map_err(|_| LocalReply::NO_HEALTHY_UPSTREAM)?;
        Ok(SelectedEndpoint { cluster: Arc::clone(cluster), endpoint })
    }
}

impl Middleware for BalanceLayer {
    type Error<E: Into<BoxError> + Send> = E;

    async fn serve<S: HttpService>(self, mut service: S, mut call: Call) -> Result<Response<Body>, S::Error> {
        match self.select(&call.head.extensions) {
            Err(reply) => Ok(local_reply(reply, call.is_grpc())),
            Ok(selected) => {
                let active = Arc::clone(&selected.endpoint).start_request();
                selected.cluster.stats().upstream_rq_total.inc();
                let mut request = call.take_request().unwrap_or_default();
                request.extensions_mut().insert(selected);
                let response = service.send(request).await?;
                Ok(response.map(|body| HeldBody::wrap(body, active)))
            }
        }
    }
}
