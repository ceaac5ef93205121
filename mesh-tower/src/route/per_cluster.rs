//! [`PerCluster`].

use std::{
    collections::HashMap,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use mesh_core::{local_reply::LocalReply, model::ClusterName, policy::grpc};
use tower_service::Service;

use super::RouteMatched;
use crate::{
    oneshot::Oneshot,
    reply::{ResponseFuture, local_reply},
};

/// A service for each cluster: hands a request to that of the cluster which [`RouteLayer`](super::RouteLayer) chose, or
/// answers that there is none (flag NC).
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

impl<S, B, R> Service<Request<B>> for PerCluster<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone,
    R: From<Bytes>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = ResponseFuture<Oneshot<S, Request<B>>, R>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        // Which service is asked, the request will tell; its future waits for it.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let matched = RouteMatched::of(request.extensions());
        let service = matched.and_then(RouteMatched::cluster_name).and_then(|name| self.services.get(name.as_str()));
        match service {
            Some(service) => ResponseFuture::passed(Oneshot::new(service.clone(), request)),
            None => {
                let reply = LocalReply::cluster_not_found(not_found_status(matched));
                ResponseFuture::answered(local_reply(reply, grpc::is_grpc_request(request.headers())))
            }
        }
    }
}

/// What a route says about a cluster that does not exist.
pub(crate) fn not_found_status(matched: Option<&RouteMatched>) -> StatusCode {
    let action = matched.and_then(|matched| matched.entry().action());
    action.map_or(StatusCode::SERVICE_UNAVAILABLE, |action| action.cluster_not_found_response_code)
}
