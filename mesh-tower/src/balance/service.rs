//! The service of [`BalanceLayer`](super::BalanceLayer).

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use mesh_core::{
    balance::PickContext,
    cluster::{ActiveRequest, ClusterState},
    local_reply::LocalReply,
    policy::grpc,
};
use tower_service::Service;

use super::SelectedEndpoint;
use crate::{
    held::{HeldBody, HeldFuture},
    reply::{ResponseFuture, local_reply},
    retry::TriedEndpoints,
    rng::ThreadRng,
    route::{RouteMatched, not_found_status},
};

/// Picks an endpoint for each request.
#[derive(Clone, Debug)]
pub struct Balance<S> {
    pub(super) inner: S,
    pub(super) cluster: Option<Arc<ClusterState>>,
}

impl<S> Balance<S> {
    fn select<B>(&self, request: &Request<B>) -> Result<SelectedEndpoint, LocalReply> {
        let extensions = request.extensions();
        let Some(cluster) = RouteMatched::cluster_of(extensions, self.cluster.as_ref()) else {
            return Err(LocalReply::cluster_not_found(not_found_status(RouteMatched::of(extensions))));
        };
        let picked = match extensions.get::<TriedEndpoints>() {
            Some(tried) => tried.pick_another(cluster),
            None => cluster.pick(PickContext::new(&mut ThreadRng)),
        };
        let endpoint = picked.map_err(|_| LocalReply::NO_HEALTHY_UPSTREAM)?;
        Ok(SelectedEndpoint { cluster: Arc::clone(cluster), endpoint })
    }
}

impl<S, B, R> Service<Request<B>> for Balance<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Body + From<Bytes>,
{
    type Response = Response<HeldBody<R, ActiveRequest>>;
    type Error = S::Error;
    type Future = ResponseFuture<HeldFuture<S::Future, ActiveRequest>, HeldBody<R, ActiveRequest>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        match self.select(&request) {
            Ok(selected) => {
                let active = Arc::clone(&selected.endpoint).start_request();
                selected.cluster.stats().upstream_rq_total.inc();
                request.extensions_mut().insert(selected);
                ResponseFuture::passed(HeldFuture::new(self.inner.call(request), active))
            }
            Err(reply) => ResponseFuture::answered(local_reply(reply, grpc::is_grpc_request(request.headers()))),
        }
    }
}
