//! [`PerEndpoint`].

use std::{
    any::Any,
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use mesh_core::{cluster::EndpointState, local_reply::LocalReply, policy::grpc};
use tower_service::Service;

use super::SelectedEndpoint;
use crate::{
    oneshot::Oneshot,
    reply::{ResponseFuture, local_reply},
};

/// A service for each endpoint: hands a request to that of the endpoint which [`BalanceLayer`](super::BalanceLayer)
/// picked, or answers that there is none (flag UH).
///
/// The service is made at the first request, and kept with the endpoint for as long as that is a member of its cluster. An
/// endpoint keeps one service: if something else keeps its own there, such as another `PerEndpoint` or a connection pool,
/// a service is made for each request.
pub struct PerEndpoint<F> {
    shared: Arc<F>,
}

/// The service of an endpoint, as the endpoint keeps it.
struct Kept<S> {
    owner: Arc<dyn Any + Send + Sync>,
    service: S,
}

impl<F, S> PerEndpoint<F>
where
    F: Fn(&EndpointState) -> S + Send + Sync + 'static,
    S: Clone + Send + Sync + 'static,
{
    /// Services made by `make`.
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

impl<F, S, B, R> Service<Request<B>> for PerEndpoint<F>
where
    F: Fn(&EndpointState) -> S + Send + Sync + 'static,
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + Sync + 'static,
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
        match request.extensions().get::<SelectedEndpoint>() {
            Some(selected) => {
                let service = self.service(&selected.endpoint);
                ResponseFuture::passed(Oneshot::new(service, request))
            }
            None => {
                let is_grpc = grpc::is_grpc_request(request.headers());
                ResponseFuture::answered(local_reply(LocalReply::NO_HEALTHY_UPSTREAM, is_grpc))
            }
        }
    }
}
