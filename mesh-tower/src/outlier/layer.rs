//! [`OutlierLayer`].

use std::sync::Arc;

use http::Response;
use mesh_core::{
    cluster::EndpointState,
    health::outlier::{LocalOriginFailure, Outcome},
    telemetry::ResponseFlags,
};

use super::{outcome_of_reset, outcome_of_response, record};
use crate::{
    Body, BoxError, ClusterHandle,
    balance::SelectedEndpoint,
    call::{Call, flags_of},
    layer::{HttpService, Middleware, layers},
    retry::reset_reason,
    timeout::TimeIsUp,
    timer::now,
};

/// Reports the outcomes of requests to outlier detection; see the [module](super).
///
/// A request that is cancelled has no outcome, unless a [`TimeoutLayer`](crate::timeout::TimeoutLayer) or a
/// [`RetryLayer`](crate::retry::RetryLayer) cancels it because it timed out: then it counts as a timeout.
///
/// ```
/// use http::{Request, Response};
/// use mesh_core::model::{Cluster, Discovery};
/// use mesh_tower::{Body, BoxError, balance::BalanceLayer, outlier::OutlierLayer};
/// use tower::{Layer as _, ServiceExt as _, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let endpoints = ["127.0.0.1:9080".parse()?].into_iter().collect();
/// let cluster = Cluster::new("reviews", Discovery::Static(endpoints));
/// let stack = (BalanceLayer::new(cluster), OutlierLayer::from_selected());
/// let service = stack.layer(service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Body::empty()))));
/// assert_eq!(service.oneshot(Request::new(Body::empty())).await?.status(), 200);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct OutlierLayer {
    endpoint: Option<SelectedEndpoint>,
}

layers!(OutlierLayer);

impl OutlierLayer {
    /// For a service that sends requests to one endpoint.
    #[must_use]
    pub fn new(cluster: impl Into<ClusterHandle>, endpoint: Arc<EndpointState>) -> Self {
        let cluster = cluster.into().into_state();
        Self { endpoint: Some(SelectedEndpoint { cluster, endpoint }) }
    }

    /// For a service that sends requests to the endpoints that [`BalanceLayer`](crate::balance::BalanceLayer) picked.
    #[must_use]
    pub fn from_selected() -> Self {
        Self { endpoint: None }
    }
}

impl Middleware for OutlierLayer {
    type Error<E: Into<BoxError> + Send> = BoxError;

    async fn serve<S: HttpService>(self, mut service: S, mut call: Call) -> Result<Response<Body>, BoxError> {
        let extensions = &call.head.extensions;
        let endpoint = self.endpoint.or_else(|| extensions.get().cloned());
        let mut observed = endpoint.map(|endpoint| Observed { endpoint, time_is_up: extensions.get().cloned() });
        let is_grpc = call.is_grpc();
        let result = service.send(call.take_request().unwrap_or_default()).await.map_err(Into::into);
        if let (Some(observed), Some(outcome)) = (observed.take(), outcome(&result, is_grpc)) {
            observed.record(outcome);
        }
        result
    }
}

/// The outcome for outlier detection; `None` if the endpoint did not cause the result.
fn outcome(result: &Result<Response<Body>, BoxError>, is_grpc: bool) -> Option<Outcome> {
    match result {
        Ok(response) => match flags_of(response) {
            ResponseFlags::NONE => Some(outcome_of_response(response, is_grpc)),
            flags if flags.contains(ResponseFlags::UPSTREAM_REQUEST_TIMEOUT) => {
                Some(Outcome::LocalOrigin(LocalOriginFailure::Timeout))
            }
            _ => None,
        },
        Err(error) => outcome_of_reset(reset_reason(error)),
    }
}

/// A request to an endpoint.
#[derive(Debug)]
struct Observed {
    endpoint: SelectedEndpoint,
    time_is_up: Option<TimeIsUp>,
}

impl Observed {
    fn record(&self, outcome: Outcome) {
        record(&self.endpoint.cluster, &self.endpoint.endpoint, outcome, now());
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        if self.time_is_up.as_ref().is_some_and(TimeIsUp::take) {
            self.record(Outcome::LocalOrigin(LocalOriginFailure::Timeout));
        }
    }
}
