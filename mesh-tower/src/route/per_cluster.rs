//! [`PerCluster`].

use std::{
    collections::HashMap,
    future::{Future, ready},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response, StatusCode};
use mesh_core::{grpc, local_reply::LocalReply, model::ClusterName};
use tower_service::Service;

use super::RouteMatched;
use crate::{Body, call::local_reply, layer::HttpService};

/// A service for each cluster. It sends a request to the service of the cluster that [`RouteLayer`](super::RouteLayer) has
/// selected, or responds that there is none (flag NC).
#[derive(Clone, Debug)]
pub struct PerCluster<S> {
    services: Arc<HashMap<ClusterName, S>>,
}

impl<N: Into<ClusterName>, S> FromIterator<(N, S)> for PerCluster<S> {
    fn from_iter<I: IntoIterator<Item = (N, S)>>(services: I) -> Self {
        let services = services.into_iter().map(|(name, service)| (name.into(), service)).collect();
        Self { services: Arc::new(services) }
    }
}

impl<S: HttpService> Service<Request<Body>> for PerCluster<S> {
    type Response = Response<Body>;
    type Error = S::Error;
    /// Dropping it cancels the request.
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        // The service depends on the request, so readiness is awaited in the future.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let matched = RouteMatched::of(request.extensions());
        let service = matched.and_then(RouteMatched::cluster_name).and_then(|name| self.services.get(name.as_str()));
        match service.cloned() {
            Some(mut service) => Box::pin(async move { service.send(request).await }),
            None => {
                let reply = LocalReply::cluster_not_found(not_found_status(matched));
                Box::pin(ready(Ok(local_reply(reply, grpc::is_grpc_request(request.headers())))))
            }
        }
    }
}

/// The status of the response if the cluster does not exist.
pub(crate) fn not_found_status(matched: Option<&RouteMatched>) -> StatusCode {
    let action = matched.and_then(|matched| matched.entry().action());
    action.map_or(StatusCode::SERVICE_UNAVAILABLE, |action| action.cluster_not_found_response_code)
}
