//! A [`Channel`]: the way of a program's requests into the mesh.
//!
//! A channel stands for a target, such as `reviews.default.svc.cluster.local:9080`, and does what the sidecar of a
//! proxyless program would: the listener of that name in the store says which routes there are, and everything else
//! follows from them. It is a `tower::Service` for HTTP with any body, and a transport for tonic.
//!
//! Configuration may come and change at any time. A request that comes before it waits for it, within a bound; later
//! ones use what there is.

mod body;
mod recorder;

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{Request, Response, Uri, header::HOST, request::Parts, uri::Authority};
use http_body::Body as HttpBody;
use mesh_core::{
    local_reply::LocalReply,
    model::{DestinationService, Listener, RouteSource},
    policy::{grpc, hop_by_hop, request_id},
    store::{ListenerMap, RouteSlot, Routes, Store},
};
use tower_service::Service;

use self::recorder::Recorder;
use crate::{
    Body, BoxError, Pool, StreamInfo, Transport, Upstream, UpstreamOptions, fault::ActiveFaults,
    peer_metadata::PeerExchange, stack::Stack, telemetry::Telemetry, timer::now,
};

pub use body::ChannelBody;

/// Sends requests to one target through the mesh. Clones are the same channel.
#[derive(Debug)]
pub struct Channel<T = Pool>(Arc<Shared<T>>);

#[derive(Debug)]
struct Shared<T> {
    /// Name of the listener, and the authority of requests that have none.
    target: Authority,
    store: Arc<Store>,
    upstream: Upstream<T>,
    telemetry: Telemetry,
    active_faults: ActiveFaults,
    initial_fetch_timeout: Duration,
    ready: ArcSwapOption<Ready<T>>,
}

/// The target's configuration, ready for use.
#[derive(Debug)]
struct Ready<T> {
    /// All listeners when this was made: if they are the same, this is still the newest.
    listeners: Arc<ListenerMap>,
    listener: Arc<Listener>,
    routes: RoutesOf,
    upstream: Upstream<T>,
}

#[derive(Debug)]
enum RoutesOf {
    Inline(Arc<Routes>),
    Rds(Arc<RouteSlot>),
}

impl RoutesOf {
    fn load(&self) -> Option<Arc<Routes>> {
        match self {
            Self::Inline(routes) => Some(Arc::clone(routes)),
            Self::Rds(slot) => slot.load(),
        }
    }
}

impl<T: Transport> Channel<T> {
    /// How long the first requests wait for configuration. Envoy `initial_fetch_timeout`.
    pub const INITIAL_FETCH_TIMEOUT: Duration = Duration::from_secs(15);

    /// Time between two looks for configuration that has not come yet.
    const POLL_INTERVAL: Duration = Duration::from_millis(5);

    /// A channel to `target`: the listener of that name in `store`, and the authority of requests that name none.
    #[must_use]
    pub fn new(target: Authority, store: Arc<Store>, upstream: Upstream<T>, telemetry: Telemetry) -> Self {
        let service = Some(Arc::new(DestinationService::by_authority(target.as_str())));
        let telemetry = Telemetry { service, ..telemetry };
        Self(Arc::new(Shared {
            target,
            store,
            upstream,
            telemetry,
            active_faults: ActiveFaults::default(),
            initial_fetch_timeout: Self::INITIAL_FETCH_TIMEOUT,
            ready: ArcSwapOption::empty(),
        }))
    }

    /// Where requests go: the name of the listener.
    #[must_use]
    pub fn target(&self) -> &Authority {
        &self.0.target
    }

    /// Sends a request. It is answered always: what goes wrong becomes the answer that a sidecar would give.
    ///
    /// # Cancel safety
    /// Dropping the future gives the request up: its stream is reset, or its connection closed.
    pub async fn send(&self, request: Request<Body>) -> Response<ChannelBody> {
        let info = StreamInfo::new(now());
        let (mut parts, body) = request.into_parts();
        let mut recorder = Recorder::start(&self.0.telemetry, &info, &parts);
        let body = Body::counted(body, &info);
        let response = match self.ready().await {
            Some(ready) => {
                self.prepare(&mut parts, &ready.listener);
                let routes = ready.routes.load();
                let stack = Stack {
                    routes: routes.as_deref(),
                    authority: self.0.target.as_str(),
                    filters: &ready.listener.http.http_filters,
                    active_faults: &self.0.active_faults,
                    upstream: &ready.upstream,
                };
                let mut response = stack.serve(Request::from_parts(parts, body), &info).await;
                recorder.peer(ready.upstream.peers().receive_response(response.headers_mut()));
                response
            }
            None => crate::route::reply(&info, NOT_CONFIGURED, grpc::is_grpc_request(&parts.headers)),
        };
        ChannelBody::wrap(response, recorder)
    }

    /// What the edge of a proxy would have done.
    fn prepare(&self, parts: &mut Parts, listener: &Listener) {
        let upgrade = match parts.headers.contains_key(http::header::UPGRADE) {
            true => hop_by_hop::Upgrade::Pass,
            false => hop_by_hop::Upgrade::Remove,
        };
        hop_by_hop::remove_hop_by_hop(&mut parts.headers, upgrade);
        if parts.uri.authority().is_none() && !parts.headers.contains_key(HOST) {
            let mut target = std::mem::take(&mut parts.uri).into_parts();
            target.authority = Some(self.0.target.clone());
            target.scheme.get_or_insert(http::uri::Scheme::HTTP);
            target.path_and_query.get_or_insert_with(|| http::uri::PathAndQuery::from_static("/"));
            parts.uri = Uri::from_parts(target).expect("scheme, authority and path make a URI");
        }
        if listener.http.generate_request_id {
            let random = || [fastrand::u64(..), fastrand::u64(..)];
            request_id::ensure(&mut parts.headers, request_id::Existing::Keep, random);
        }
    }

    /// The newest configuration; waits for the first.
    async fn ready(&self) -> Option<Arc<Ready<T>>> {
        if let Some(ready) = self.current() {
            return Some(ready);
        }
        let waiting = async {
            loop {
                tokio::time::sleep(Self::POLL_INTERVAL).await;
                if let Some(ready) = self.current() {
                    return ready;
                }
            }
        };
        tokio::time::timeout(self.0.initial_fetch_timeout, waiting).await.ok()
    }

    /// The newest configuration whose routes are there; the one before if the listener was taken away.
    fn current(&self) -> Option<Arc<Ready<T>>> {
        let listeners = self.0.store.listeners();
        let ready = self.0.ready.load_full();
        if let Some(ready) = &ready
            && Arc::ptr_eq(&ready.listeners, &listeners)
        {
            return Some(Arc::clone(ready));
        }
        let listener = listeners.get(self.0.target.as_str()).cloned();
        let newer = listener.and_then(|listener| self.compile(listeners, listener));
        match newer {
            Some(newer) => {
                let newer = Arc::new(newer);
                self.0.ready.store(Some(Arc::clone(&newer)));
                Some(newer)
            }
            None => ready,
        }
    }

    fn compile(&self, listeners: Arc<ListenerMap>, listener: Arc<Listener>) -> Option<Ready<T>> {
        let routes = match &listener.http.routes {
            RouteSource::Inline(config) => {
                let compiled = Routes::compile(Arc::clone(config), &mut |name| self.0.store.cluster_slot(name));
                match compiled {
                    Ok(routes) => RoutesOf::Inline(Arc::new(routes)),
                    Err(error) => {
                        tracing::warn!(target = %self.0.target, %error, "routes of a listener are unusable");
                        return None;
                    }
                }
            }
            RouteSource::Rds(name) => RoutesOf::Rds(self.0.store.route_slot(name)),
        };
        routes.load()?;
        let peers = PeerExchange::new(&listener.http, &self.0.telemetry);
        let upstream = self.0.upstream.with_options(UpstreamOptions::from(&*listener.http)).with_peer_exchange(peers);
        Some(Ready { listeners, listener, routes, upstream })
    }
}

/// No configuration came in time.
const NOT_CONFIGURED: LocalReply = LocalReply::new(
    http::StatusCode::SERVICE_UNAVAILABLE,
    "no configuration for this target",
    mesh_core::telemetry::ResponseFlags::NO_ROUTE_FOUND,
    mesh_core::telemetry::details::ROUTE_NOT_FOUND,
);

impl<T> Clone for Channel<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T, B> Service<Request<B>> for Channel<T>
where
    T: Transport,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<ChannelBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<ChannelBody>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let channel = self.clone();
        Box::pin(async move { Ok(channel.send(request.map(Body::new)).await) })
    }
}

#[cfg(test)]
mod tests;
