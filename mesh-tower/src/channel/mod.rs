//! [`Channel`]: sends the requests of a program through the mesh.
//!
//! A channel has a target, such as `reviews.default.svc.cluster.local:9080`, and does what a sidecar does for a program:
//! it applies the configuration of the listener with that name. It is a `tower::Service` for HTTP with any body, and a
//! transport for tonic.
//!
//! The configuration may arrive and change at any time. A request waits for the first configuration, with a timeout; later
//! requests use the newest.

use std::{
    any::Any,
    convert::Infallible,
    error::Error as StdError,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header::USER_AGENT, request::Parts, uri::Authority};
use http_body::Body as HttpBody;
use mesh_core::{
    local_reply::LocalReply,
    model::{DestinationService, HttpConnectionManager, Listener, RouteConfiguration, RouteSource, TrafficDirection},
    policy::{request_id, survey::HeaderSurvey},
    store::{Store, Watch},
    telemetry::{ResponseFlags, details},
};
use tower_service::Service;

use crate::{
    Body, BoxError, Pool, Transport, Upstream, UpstreamOptions,
    call::{Call, OnFailure, Recorder, ResponseBody, StreamInfo},
    http_connection_manager::{HttpListener, ListenerConfigError, ListenerFacts, Served},
    peer_metadata::PeerExchange,
    telemetry::Telemetry,
    timer::now,
    upstream::UpstreamClients,
};

/// Sends requests to one target through the mesh. Clones are handles to the same channel.
#[derive(Debug)]
pub struct Channel<T = Pool>(Arc<Shared<T>>);

#[derive(Debug)]
struct Shared<T> {
    /// The authority of requests without one.
    target: Authority,
    /// The name of the listener.
    listener: Arc<str>,
    store: Arc<Store>,
    upstream: Upstream<T>,
    telemetry: Telemetry,
    envoy_headers: bool,
    /// The listener of requests whose configuration does not arrive in time. It has no routes.
    unconfigured: HttpListener,
    ready: ArcSwapOption<Ready<T>>,
    /// Held while the channel or one of its requests is in use.
    held: Option<Arc<dyn Any + Send + Sync>>,
}

/// The target's configuration, ready for use.
#[derive(Debug)]
struct Ready<T> {
    /// Watches all listeners. While there is no change, `http` is the newest.
    listeners: Watch,
    http: HttpListener,
    upstream: Upstream<T>,
}

impl<T: Transport> Channel<T> {
    /// How long requests wait for the first configuration. Envoy `initial_fetch_timeout`.
    pub const INITIAL_FETCH_TIMEOUT: Duration = Duration::from_secs(15);

    /// A channel to `target`, which is the name of the listener in `store` and the authority of requests without one.
    #[must_use]
    pub fn new(target: Authority, store: Arc<Store>, upstream: Upstream<T>, telemetry: Telemetry) -> Self {
        let listener = target.as_str().into();
        Self::of_listener(listener, target, store, upstream, telemetry)
    }

    /// A channel to `target`, the authority of requests without one, with the configuration of the listener called `listener`.
    #[must_use]
    pub fn of_listener(
        listener: Arc<str>,
        target: Authority,
        store: Arc<Store>,
        upstream: Upstream<T>,
        telemetry: Telemetry,
    ) -> Self {
        Self(Arc::new(Shared::new((listener, target), store, upstream, telemetry, false)))
    }

    /// A channel to the same target that adds Envoy's headers to requests and responses, such as
    /// `x-envoy-expected-rq-timeout-ms` and `x-envoy-upstream-service-time`. Default false: neither the program nor an
    /// endpoint without a proxy needs them.
    #[must_use]
    pub fn with_envoy_headers(&self, envoy_headers: bool) -> Self {
        self.with(envoy_headers, self.0.held.clone())
    }

    /// A channel to the same target that holds `held`, such as a subscription to the target's configuration, until the channel
    /// is dropped and its requests have ended.
    #[must_use]
    pub fn holding(&self, held: Arc<dyn Any + Send + Sync>) -> Self {
        self.with(self.0.envoy_headers, Some(held))
    }

    fn with(&self, envoy_headers: bool, held: Option<Arc<dyn Any + Send + Sync>>) -> Self {
        let Shared { target, listener, store, upstream, telemetry, .. } = &*self.0;
        let (store, upstream) = (Arc::clone(store), upstream.clone());
        let names = (Arc::clone(listener), target.clone());
        let shared = Shared::new(names, store, upstream, telemetry.clone(), envoy_headers);
        Self(Arc::new(Shared { held, ..shared }))
    }

    /// The authority of requests without one.
    #[must_use]
    pub fn target(&self) -> &Authority {
        &self.0.target
    }

    /// Sends a request. There is always a response: a failure becomes the response that a sidecar would send. Such a response
    /// has [`ResponseFlags`] and [`ResponseDetails`](crate::ResponseDetails) in its extensions; the response of an endpoint
    /// has none.
    ///
    /// # Cancel safety
    /// Dropping the future aborts the request: its stream is reset, or its connection closed.
    pub fn send(&self, request: Request<Body>) -> impl Future<Output = Response<ResponseBody>> + Send {
        let mut call = Call::new(request);
        async move {
            let (recorder, served) = self.serve(&mut call).await;
            let on_failure = OnFailure::of(call.is_grpc());
            ResponseBody::wrap(call.response.take().unwrap_or_default(), recorder, served.timeouts, on_failure)
        }
    }

    /// Answers a call. The recorder is the one for the response.
    async fn serve(&self, call: &mut Call) -> (Recorder, Served) {
        let info = StreamInfo::new(now());
        let ready = match self.current() {
            Some(ready) => Some(ready),
            // Boxed, because few requests wait, and the future of every request would have room for it.
            None => Box::pin(self.wait_for_configuration()).await,
        };
        let listener = ready.as_ref().map_or(&self.0.unconfigured, |ready| &ready.http);
        let mut recorder = Recorder::start(&listener.telemetry, None, info, call);
        let served = match &ready {
            Some(ready) => {
                self.prepare(&mut call.head, call.survey, &listener.config);
                listener.serve(&ready.upstream, call, &mut recorder).await
            }
            None => {
                call.reply(recorder.info(), NOT_CONFIGURED);
                Served::default()
            }
        };
        if let Some(response) = &mut call.response {
            recorder.observe_server(listener.peers.receive_response(response.headers_mut()));
            recorder.observe_response(response.status(), response.headers());
        }
        (recorder, served)
    }

    /// Completes a request as a proxy does for requests from a network.
    fn prepare(&self, parts: &mut Parts, survey: HeaderSurvey, config: &HttpConnectionManager) {
        if parts.uri.authority().is_none() && !survey.has_host {
            let mut target = std::mem::take(&mut parts.uri).into_parts();
            target.authority = Some(self.0.target.clone());
            target.scheme.get_or_insert(http::uri::Scheme::HTTP);
            target.path_and_query.get_or_insert_with(|| http::uri::PathAndQuery::from_static("/"));
            parts.uri = Uri::from_parts(target).expect("scheme, authority and path make a URI");
        }
        if survey.is_grpc && !parts.headers.contains_key(USER_AGENT) {
            parts.headers.insert(USER_AGENT, GRPC_USER_AGENT);
        }
        if config.generate_request_id && !survey.has_request_id {
            let random = || [fastrand::u64(..), fastrand::u64(..)];
            request_id::ensure(&mut parts.headers, request_id::Existing::Keep, random);
        }
    }

    /// Waits for the first configuration. `None` after [`INITIAL_FETCH_TIMEOUT`](Self::INITIAL_FETCH_TIMEOUT).
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
        tokio::time::timeout(Self::INITIAL_FETCH_TIMEOUT, waiting).await.ok()
    }

    /// The newest configuration; the last one if the listener was removed. `None` while there are no routes.
    fn current(&self) -> Option<Arc<Ready<T>>> {
        let ready = self.0.ready.load_full();
        if ready.as_ref().is_some_and(|ready| !ready.listeners.has_changed()) { ready } else { self.0.update() }
    }
}

impl<T: Transport> Shared<T> {
    fn new(
        (listener, target): (Arc<str>, Authority),
        store: Arc<Store>,
        upstream: Upstream<T>,
        telemetry: Telemetry,
        envoy_headers: bool,
    ) -> Self {
        let no_routes = RouteSource::Inline(Arc::new(RouteConfiguration::new("", Vec::new())));
        let http = Arc::new(HttpConnectionManager::new("", no_routes));
        let unconfigured = HttpListener::new(facts(&target), http, &store, &telemetry, None);
        let unconfigured = unconfigured.expect("a listener without routes and access logs cannot fail");
        Self {
            target,
            listener,
            store,
            upstream,
            telemetry,
            envoy_headers,
            unconfigured,
            ready: ArcSwapOption::empty(),
            held: None,
        }
    }

    #[cold]
    fn update(&self) -> Option<Arc<Ready<T>>> {
        let watch = self.store.watch_listeners();
        let listener = self.store.listeners().get(&*self.listener).cloned();
        let newer = listener.and_then(|listener| match self.compile(watch, &listener) {
            Ok(ready) => ready,
            Err(error) => {
                let error = &error as &dyn StdError;
                tracing::warn!(target = %self.target, error, "the configuration of a listener is not used");
                None
            }
        });
        match newer {
            Some(newer) => {
                let newer = Arc::new(newer);
                self.ready.store(Some(Arc::clone(&newer)));
                Some(newer)
            }
            None => self.ready.load_full(),
        }
    }

    /// Watches the routes of the listener, if the listener exists and gets them by RDS.
    fn watch_routes(&self) -> Option<Watch> {
        match &self.store.listeners().get(&*self.listener)?.http_connection_manager()?.routes {
            RouteSource::Rds(name) => Some(self.store.route_slot(name).watch()),
            RouteSource::Inline(_) => None,
        }
    }

    /// `None` while the routes have not arrived.
    fn compile(&self, listeners: Watch, listener: &Listener) -> Result<Option<Ready<T>>, ListenerConfigError> {
        let Some(config) = listener.http_connection_manager() else {
            tracing::warn!(target = %self.target, "expected one filter chain, with an HTTP connection manager");
            return Ok(None);
        };
        let clients = UpstreamClients::new(Arc::clone(&self.store), self.upstream.clone());
        let facts = facts(&self.target);
        let http = HttpListener::new(facts, Arc::clone(config), &self.store, &self.telemetry, Some(&clients))?;
        if !http.has_routes() {
            return Ok(None);
        }
        let peers = PeerExchange::new(config.peer_metadata, self.telemetry.peer.clone());
        let options = UpstreamOptions::from(&**config);
        let options = UpstreamOptions { envoy_headers: options.envoy_headers && self.envoy_headers, ..options };
        let upstream = self.upstream.with_options(options).with_peer_exchange(peers);
        Ok(Some(Ready { listeners, http, upstream }))
    }
}

/// The default user agent of gRPC calls, in the form of gRPC's "PROTOCOL-HTTP2", section "User Agents".
const GRPC_USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("grpc-rust-mesh/", env!("CARGO_PKG_VERSION")));

/// The facts about the listener of `target`.
fn facts(target: &Authority) -> ListenerFacts {
    ListenerFacts {
        name: target.as_str().into(),
        stat_prefix: target.as_str().into(),
        traffic_direction: TrafficDirection::Outbound,
        service: Some(Arc::new(DestinationService::by_authority(target.as_str()))),
        default_authority: Some(target.as_str().into()),
    }
}

/// No configuration arrived in time.
const NOT_CONFIGURED: LocalReply = LocalReply::new(
    StatusCode::SERVICE_UNAVAILABLE,
    "no configuration for this target",
    ResponseFlags::NO_ROUTE_FOUND,
    details::ROUTE_NOT_FOUND,
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
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, Infallible>> + Send>>;

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
mod grpc_tests;
#[cfg(test)]
mod tests;
