//! Requests of the process itself to clusters, through an [`Upstream`]: [`ClusterChannel`], and [`UpstreamClients`] for filters.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Request, Response,
    header::{HOST, InvalidHeaderValue},
};
use http_body::Body as HttpBody;
use mesh_core::{
    local_reply::LocalReply,
    model::{ClusterName, PathMatcher, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost},
    rng::Rng as _,
    store::{Routes, Store},
};

use tower_service::Service;

use super::Upstream;
use crate::{
    Body, BoxError, Pool, Transport,
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

/// Sends requests to one cluster of a store, through the upstream stack: connection pool, circuit breakers, TLS, load
/// balancing and statistics. It is a tower service, such as a transport for gRPC clients of the process itself; bodies
/// stream in both directions.
///
/// A failure is a response, as everywhere in the upstream stack; one to a gRPC request has the status in its trailers. The
/// cluster need not exist yet. There is no timeout and no retry.
///
/// Its only route, in a route table of its own, leads to the cluster.
#[derive(Debug)]
pub struct ClusterChannel<T = Pool>(Arc<Shared<T>>);

#[derive(Debug)]
struct Shared<T> {
    routes: Routes,
    upstream: Upstream<T>,
    added: Added,
}

/// Header fields that are added to requests.
#[derive(Debug, Default)]
struct Added {
    /// For requests without one.
    authority: Option<HeaderValue>,
    /// Whether `x-envoy-internal` is.
    envoy_internal: bool,
    /// Sent as `x-forwarded-for`.
    own_address: Option<HeaderValue>,
}

impl<T> Clone for ClusterChannel<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Transport> ClusterChannel<T> {
    /// A channel to `cluster`. Requests without an authority get `authority`, or the name of the cluster.
    ///
    /// # Errors
    /// If the authority is not a header value.
    pub fn new(
        store: &Store,
        upstream: Upstream<T>,
        cluster: &ClusterName,
        authority: Option<&str>,
    ) -> Result<Self, InvalidHeaderValue> {
        let authority = HeaderValue::try_from(authority.unwrap_or(cluster.as_str()))?;
        let added = Added { authority: Some(authority), ..Added::default() };
        Ok(Self::with_options(store, upstream, cluster, &ClientOptions::default(), added))
    }

    fn with_options(
        store: &Store,
        upstream: Upstream<T>,
        cluster: &ClusterName,
        options: &ClientOptions,
        added: Added,
    ) -> Self {
        let mut action = RouteAction::to_cluster(cluster.clone()).with_timeout(options.timeout);
        action.retry_policy.clone_from(&options.retry_policy);
        let everything = Route::new(RouteMatch::path(PathMatcher::Prefix("/".into())), action);
        let routes = RouteConfiguration::new("", vec![VirtualHost::new("", vec![everything])]);
        let routes = store.compile_routes(Arc::new(routes)).expect("one route without patterns compiles");
        Self(Arc::new(Shared { routes, upstream, added }))
    }

    async fn send(&self, mut request: Request<Body>) -> Response<Body> {
        let Shared { routes, upstream, added: Added { authority, envoy_internal, own_address } } = &*self.0;
        let headers = request.headers_mut();
        if let Some(address) = own_address {
            headers.append(X_FORWARDED_FOR, address.clone());
        }
        if *envoy_internal {
            headers.insert(X_ENVOY_INTERNAL, HeaderValue::from_static("true"));
        }
        if let Some(authority) = authority
            && request.uri().authority().is_none()
        {
            request.headers_mut().entry(HOST).or_insert_with(|| authority.clone());
        }
        let info = StreamInfo::new(now());
        info.complete_at_start();
        let mut call = Call::new(request);
        match Routing::find(routes, &call.head, None, ThreadRng.next_u64(), None) {
            Routing::Matched(matched) => upstream.forward(&mut call, &info, &matched).await,
            // The request has no path.
            Routing::TlsRequired | Routing::NotFound => call.reply(&info, LocalReply::ROUTE_NOT_FOUND),
        }
        call.response.take().unwrap_or_default()
    }
}

impl<T> UpstreamClients<T> {
    pub(crate) fn new(store: Arc<Store>, upstream: Upstream<T>) -> Self {
        let own_address = local_address().and_then(|address| HeaderValue::try_from(address.to_string()).ok());
        Self { store, upstream, own_address }
    }
}

impl<T: Transport> ClusterClients for UpstreamClients<T> {
    fn client(&self, cluster: &ClusterName, options: &ClientOptions) -> Arc<dyn ClusterClient> {
        // As in Envoy, the requests of filters are internal, and come from this machine.
        let own_address = self.own_address.clone().filter(|_| options.send_xff);
        let (upstream, added) = (self.upstream.clone(), Added { authority: None, envoy_internal: true, own_address });
        Arc::new(ClusterChannel::with_options(&self.store, upstream, cluster, options, added))
    }
}

impl<T: Transport> ClusterClient for ClusterChannel<T> {
    fn send(&self, request: Request<Bytes>) -> Pin<Box<dyn Future<Output = Response<Body>> + Send + '_>> {
        Box::pin(self.send(request.map(Body::from)))
    }
}

impl<T, B> Service<Request<B>> for ClusterChannel<T>
where
    T: Transport,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let channel = self.clone();
        let request = request.map(Body::new);
        Box::pin(async move { Ok(channel.send(request).await) })
    }
}
