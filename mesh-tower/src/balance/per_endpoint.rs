//! [`PerEndpoint`].

use std::{
    any::Any,
    fmt,
    future::{Future, ready},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use mesh_core::{cluster::EndpointState, grpc, local_reply::LocalReply};
use tower_service::Service;

use super::SelectedEndpoint;
use crate::{Body, call::local_reply, layer::HttpService};

/// A service for each endpoint. It sends a request to the service of the endpoint that
/// [`BalanceLayer`](super::BalanceLayer) has picked, or responds that there is none (flag UH).
///
/// The service is created by the first request, and is stored with the endpoint while the endpoint is a member of its
/// cluster. An endpoint stores one service: if another `PerEndpoint` or a connection pool is stored there, a service is
/// created for each request.
pub struct PerEndpoint<F> {
    shared: Arc<F>,
}

/// The service of an endpoint, as it is stored with the endpoint.
struct Kept<S> {
    owner: Arc<dyn Any + Send + Sync>,
    service: S,
}

impl<F, S> PerEndpoint<F>
where
    F: Fn(&EndpointState) -> S + Send + Sync + 'static,
    S: Clone + Send + Sync + 'static,
{
    /// Creates services by `make`.
    pub fn new(make: F) -> Self {
        Self { shared: Arc::new(make) }
    }

    fn service(&self, endpoint: &EndpointState) -> S {
        let kept = endpoint.attachment().get_or_init(|| {
            let owner = Arc::clone(&self.shared);
            Arc::new(Kept { owner, service: (self.shared)(endpoint) })
        });
        match kept.downcast_ref::<Kept<S>>() {
            Some(kept) if std::ptr::addr_eq(Arc::as_ptr(&kept.owner), Arc::as_ptr(&self.shared)) => {
                kept.service.clone()
            }
            Some(_) | None => (self.shared)(endpoint),
        }
    }
}

impl<F> Clone for PerEndpoint<F> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<F> fmt::Debug for PerEndpoint<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerEndpoint").finish_non_exhaustive()
    }
}

impl<F, S> Service<Request<Body>> for PerEndpoint<F>
where
    F: Fn(&EndpointState) -> S + Send + Sync + 'static,
    S: HttpService + Sync,
{
    type Response = Response<Body>;
    type Error = S::Error;
    /// Dropping it cancels the request.
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        // The service depends on the request, so readiness is awaited in the future.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let selected = request.extensions().get::<SelectedEndpoint>();
        match selected.map(|selected| self.service(&selected.endpoint)) {
            Some(mut service) => Box::pin(async move { service.send(request).await }),
            None => {
                let is_grpc = grpc::is_grpc_request(request.headers());
                Box::pin(ready(Ok(local_reply(LocalReply::NO_HEALTHY_UPSTREAM, is_grpc))))
            }
        }
    }
}
