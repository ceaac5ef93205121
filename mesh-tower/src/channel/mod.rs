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
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{Request, Response, Uri, request::Parts, uri::Authority};
use http_body::Body as HttpBody;
use mesh_core::{
    local_reply::LocalReply,
    model::{DestinationService, HttpConnectionManager, Listener, RouteSource},
    policy::{hop_by_hop, request_id, survey::HeaderSurvey},
    store::{Routes, Store, Watch},
};
use tower_service::Service;

use self::recorder::Recorder;
use crate::{
    Body, BoxError, Pool, StreamInfo, Transport, Upstream, UpstreamOptions,
    call::Call,
    fault::ActiveFaults,
    peer_metadata::PeerExchange,
    route::{self, RouteConfigProvider},
    stack::Stack,
    telemetry::Telemetry,
    timer::now,
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
    telemetry: Arc<Telemetry>,
    active_faults: ActiveFaults,
    initial_fetch_timeout: Duration,
    ready: ArcSwapOption<Ready<T>>,
}

/// The target's configuration, ready for use.
#[derive(Debug)]
struct Ready<T> {
    /// Follows all listeners: while it has not changed, the listener is the newest.
    listeners: Watch,
    http: Arc<HttpConnectionManager>,
    provider: RouteConfigProvider,
    /// Follows the routes, likewise; `None` = they are part of the listener.
    routes_watch: Option<Watch>,
    routes: Option<Arc<Routes>>,
    upstream: Upstream<T>,
}

impl<T: Transport> Ready<T> {
    fn is_newest(&self) -> bool {
        !self.listeners.has_changed() && self.has_newest_routes()
    }

    fn has_newest_routes(&self) -> bool {
        !self.routes_watch.as_ref().is_some_and(Watch::has_changed)
    }

    /// The same with the routes as they are now.
    fn with_newest_routes(&self) -> Self {
        let routes_watch = self.provider.watch();
        Self {
            listeners: self.listeners.clone(),
            http: Arc::clone(&self.http),
            provider: self.provider.clone(),
            routes_watch,
            routes: self.provider.load(),
            upstream: self.upstream.clone(),
        }
    }
}

impl<T: Transport> Channel<T> {
    /// How long the first requests wait for configuration. Envoy `initial_fetch_timeout`.
    pub const INITIAL_FETCH_TIMEOUT: Duration = Duration::from_secs(15);

    /// A channel to `target`: the listener of that name in `store`, and the authority of requests that name none.
    #[must_use]
    pub fn new(target: Authority, store: Arc<Store>, upstream: Upstream<T>, telemetry: Telemetry) -> Self {
        let service = Some(Arc::new(DestinationService::by_authority(target.as_str())));
        let telemetry = Telemetry { service, ..telemetry };
        Self(Arc::new(Shared {
            target,
            store,
            upstream,
            telemetry: Arc::new(telemetry),
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
    pub fn send(&self, request: Request<Body>) -> impl Future<Output = Response<ChannelBody>> + Send {
        let mut call = Call::new(request);
        async move {
            let recorder = self.serve(&mut call).await;
            ChannelBody::wrap(call.take_response(), recorder)
        }
    }

    /// Answers a call; the recorder is for its response.
    async fn serve(&self, call: &mut Call) -> Recorder<&Arc<Telemetry>> {
        let mut recorder = Recorder::start(&self.0.telemetry, StreamInfo::new(now()), call);
        let ready = match self.current() {
            Some(ready) => Some(ready),
            // In a box: few requests have to, and all would have room for it.
            None => Box::pin(self.wait_for_configuration()).await,
        };
        match ready {
            Some(ready) => {
                self.serve_as_configured(&ready, call, recorder.info()).await;
                if let Some(response) = &mut call.response {
                    recorder.peer(ready.upstream.peers().receive_response(response.headers_mut()));
                }
            }
            None => call.answer(route::reply(recorder.info(), NOT_CONFIGURED, call.survey.is_grpc)),
        }
        recorder
    }

    async fn serve_as_configured(&self, ready: &Ready<T>, call: &mut Call, info: &StreamInfo) {
        if let Some((parts, _)) = &mut call.request {
            self.prepare(parts, call.survey, &ready.http);
        }
        let stack = Stack {
            routes: ready.routes.as_deref(),
            authority: self.0.target.as_str(),
            filters: &ready.http.http_filters,
            active_faults: &self.0.active_faults,
            upstream: &ready.upstream,
        };
        stack.serve(call, info).await;
    }

    /// What the edge of a proxy would have done.
    fn prepare(&self, parts: &mut Parts, survey: HeaderSurvey, http: &HttpConnectionManager) {
        if survey.has_hop_by_hop {
            hop_by_hop::remove_hop_by_hop(&mut parts.headers, hop_by_hop::Upgrade::PassIfRequested);
        }
        if parts.uri.authority().is_none() && !survey.has_host {
            let mut target = std::mem::take(&mut parts.uri).into_parts();
            target.authority = Some(self.0.target.clone());
            target.scheme.get_or_insert(http::uri::Scheme::HTTP);
            target.path_and_query.get_or_insert_with(|| http::uri::PathAndQuery::from_static("/"));
            parts.uri = Uri::from_parts(target).expect("scheme, authority and path make a URI");
        }
        if http.generate_request_id && !survey.has_request_id {
            let random = || [fastrand::u64(..), fastrand::u64(..)];
            request_id::ensure(&mut parts.headers, request_id::Existing::Keep, random);
        }
    }

    /// The first configuration, once it is there.
    async fn wait_for_configuration(&self) -> Option<Arc<Ready<T>>> {
        let waiting = async {
            let mut listeners = self.0.store.watch_listeners();
            loop {
                let mut routes = self.0.watch_routes();
                if let Some(ready) = self.current() {
                    return ready;
                }
                poll_fn(|cx| {
                    let listeners = listeners.poll_changed(cx);
                    let routes = routes.as_mut().map_or(Poll::Pending, |routes| routes.poll_changed(cx));
                    if listeners.is_ready() || routes.is_ready() { Poll::Ready(()) } else { Poll::Pending }
                })
                .await;
            }
        };
        tokio::time::timeout(self.0.initial_fetch_timeout, waiting).await.ok()
    }

    /// The newest configuration; the one before if the listener was taken away. `None` while there are no routes.
    fn current(&self) -> Option<Arc<Ready<T>>> {
        let ready = self.0.ready.load_full();
        if ready.as_ref().is_some_and(|ready| ready.is_newest()) { ready } else { self.0.update() }
    }
}

impl<T: Transport> Shared<T> {
    #[cold]
    fn update(self: &Arc<Self>) -> Option<Arc<Ready<T>>> {
        loop {
            let ready = self.ready.load_full();
            let newer = match &ready {
                Some(ready) if !ready.listeners.has_changed() => None,
                _ => {
                    let watch = self.store.watch_listeners();
                    let listener = self.store.listeners().get(self.target.as_str()).cloned();
                    listener.and_then(|listener| self.compile(watch, &listener))
                }
            };
            let older = ready.as_ref().filter(|ready| !ready.has_newest_routes());
            let Some(mut newer) = newer.or_else(|| Some(older?.with_newest_routes())) else { return ready };
            let changed_already = newer.routes_watch.as_mut().is_some_and(|routes| {
                let waker = Waker::from(Arc::new(LetOldRoutesGo(Arc::downgrade(self))));
                routes.poll_changed(&mut Context::from_waker(&waker)).is_ready()
            });
            if changed_already {
                continue;
            }
            let newer = Arc::new(newer);
            self.ready.store(Some(Arc::clone(&newer)));
            // A change that came before this was in place has found nothing to let go.
            if newer.has_newest_routes() {
                return Some(newer);
            }
        }
    }

    /// Follows the routes of the listener, if it is there and has them as a resource of their own.
    fn watch_routes(&self) -> Option<Watch> {
        match &self.store.listeners().get(self.target.as_str())?.http_connection_manager()?.routes {
            RouteSource::Rds(name) => Some(self.store.route_slot(name).watch()),
            RouteSource::Inline(_) => None,
        }
    }

    fn compile(&self, listeners: Watch, listener: &Listener) -> Option<Ready<T>> {
        let Some(http) = listener.http_connection_manager().cloned() else {
            tracing::warn!(target = %self.target, "the listener is not one HTTP connection manager");
            return None;
        };
        let provider = RouteConfigProvider::new(&http.routes, &self.store);
        let refused = |error: &_| tracing::warn!(target = %self.target, %error, "routes of a listener are unusable");
        let provider = provider.inspect_err(refused).ok()?;
        let routes_watch = provider.watch();
        let routes = Some(provider.load()?);
        let peers = PeerExchange::new(&http, &self.telemetry);
        let upstream = self.upstream.with_options(UpstreamOptions::from(&*http)).with_peer_exchange(peers);
        Some(Ready { listeners, http, provider, routes_watch, routes, upstream })
    }
}

/// Woken when the routes of a channel change: one that nobody uses would keep the old ones, and their clusters.
struct LetOldRoutesGo<T>(Weak<Shared<T>>);

impl<T: Transport> Wake for LetOldRoutesGo<T> {
    fn wake(self: Arc<Self>) {
        if let Some(shared) = self.0.upgrade()
            && shared.ready.load().as_ref().is_some_and(|ready| !ready.has_newest_routes())
        {
            shared.update();
        }
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
        let request = request.map(Body::new);
        Box::pin(async move { Ok(channel.send(request).await) })
    }
}

#[cfg(test)]
mod tests;
