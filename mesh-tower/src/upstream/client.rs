//! [`UpstreamClients`]: the requests of filters to clusters, through an [`Upstream`].

use std::{pin::Pin, sync::Arc};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response};
use mesh_core::{
    local_reply::LocalReply,
    model::{ClusterName, PathMatcher, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost},
    rng::Rng as _,
    store::{Routes, Store},
};

use super::Upstream;
use crate::{
    Body, Transport,
    call::{Call, StreamInfo},
    cluster_client::{ClientOptions, ClusterClient, ClusterClients},
    machine::local_address,
    rng::ThreadRng,
    route::Routing,
    timer::now,
};

const X_ENVOY_INTERNAL: HeaderName = HeaderName::from_static("x-envoy-internal");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Makes clients for the clusters of a store.
#[derive(Debug)]
pub(crate) struct UpstreamClients<T> {
    store: Arc<Store>,
    upstream: Upstream<T>,
    /// The address of this machine; `None` if it is unknown.
    own_address: Option<HeaderValue>,
}

/// A client with a route table of its own, whose only route leads to its cluster.
#[derive(Debug)]
struct UpstreamClient<T> {
    routes: Routes,
    upstream: Upstream<T>,
    /// Sent as `x-forwarded-for`.
    own_address: Option<HeaderValue>,
}

impl<T> UpstreamClients<T> {
    pub(crate) fn new(store: Arc<Store>, upstream: Upstream<T>) -> Self {
        let own_address = local_address().and_then(|address| HeaderValue::try_from(address.to_string()).ok());
        Self { store, upstream, own_address }
    }
}

impl<T: Transport> ClusterClients for UpstreamClients<T> {
    fn client(&self, cluster: &ClusterName, options: &ClientOptions) -> Arc<dyn ClusterClient> {
        let mut action = RouteAction::to_cluster(cluster.clone()).with_timeout(options.timeout);
        action.retry_policy.clone_from(&options.retry_policy);
        let everything = Route::new(RouteMatch::path(PathMatcher::Prefix("/".into())), action);
        let routes = RouteConfiguration::new("", vec![VirtualHost::new("", vec![everything])]);
        let routes = self.store.compile_routes(Arc::new(routes)).expect("one route without patterns compiles");
        let (upstream, own_address) = (self.upstream.clone(), self.own_address.clone().filter(|_| options.send_xff));
        Arc::new(UpstreamClient { routes, upstream, own_address })
    }
}

impl<T: Transport> ClusterClient for UpstreamClient<T> {
    fn send(&self, mut request: Request<Bytes>) -> Pin<Box<dyn Future<Output = Response<Body>> + Send + '_>> {
        Box::pin(async move {
            // As in Envoy, the mesh's own requests are internal, and come from this machine.
            if let Some(address) = &self.own_address {
                request.headers_mut().append(X_FORWARDED_FOR, address.clone());
            }
            request.headers_mut().insert(X_ENVOY_INTERNAL, HeaderValue::from_static("true"));
            let info = StreamInfo::new(now());
            info.complete_at_start();
            let mut call = Call::new(request.map(Body::from));
            match Routing::find(&self.routes, &call.head, None, ThreadRng.next_u64(), None) {
                Routing::Matched(matched) => self.upstream.forward(&mut call, &info, &matched).await,
                // The request has no path.
                Routing::TlsRequired | Routing::NotFound => call.reply(&info, LocalReply::ROUTE_NOT_FOUND),
            }
            call.response.take().unwrap_or_default()
        })
    }
}
