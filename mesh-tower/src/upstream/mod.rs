//! Everything after routing: what becomes of a request once its route is known.
//!
//! ```text
//! rewrite, headers > timeout > retry
//!   per try > pick (priority > locality > policy) > connection (pool) > circuit breaker > send > outlier detection
//! ```
//!
//! An [`Upstream`] always answers: what goes wrong becomes the answer that Envoy gives in that case, with its response
//! flag. The stages are functions called one after the other and not layers around each other, since each needs what
//! the one before has found out.

mod exchange;
mod failure;
mod guard;
mod kept;
mod limits;
mod request;
mod tries;

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response, request::Parts};
use mesh_core::{
    cluster::ClusterState, local_reply::LocalReply, model::HttpConnectionManager, request::RequestHead,
    route::ChosenCluster, store::Store,
};
use tower_service::Service;

pub(crate) use guard::{HeldByTunnel, ResponseGuard};

use self::{exchange::Exchange, tries::Tries};
use crate::{
    Body, StreamInfo, Transport,
    call::Call,
    peer_metadata::PeerExchange,
    pool::{Pool, Worker},
    route::{FoundRoute, Route},
    timer::Timers,
};

/// What a listener says about the requests it sends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpstreamOptions {
    /// Write `x-envoy-*` headers into requests and responses. Default true. Envoy router `suppress_envoy_headers`,
    /// inverted.
    pub envoy_headers: bool,
    /// Limit for the life of a stream whose route says nothing; `None` = unlimited, the default.
    pub max_stream_duration: Option<Duration>,
}

impl Default for UpstreamOptions {
    fn default() -> Self {
        Self { envoy_headers: true, max_stream_duration: None }
    }
}

impl From<&HttpConnectionManager> for UpstreamOptions {
    fn from(config: &HttpConnectionManager) -> Self {
        Self { envoy_headers: config.envoy_headers, max_stream_duration: config.max_stream_duration }
    }
}

/// Sends requests along their routes. Cheap to clone; clones share their connections.
///
/// As a `Service` it takes requests whose extensions hold a [`StreamInfo`] with a route, as the connection manager
/// leaves it there.
#[derive(Debug)]
pub struct Upstream<T = Pool> {
    shared: Arc<Shared<T>>,
    options: UpstreamOptions,
    peers: PeerExchange,
}

#[derive(Debug)]
struct Shared<T> {
    store: Arc<Store>,
    worker: Worker,
    transport: T,
}

impl Upstream {
    /// Over the connection pools of `worker`. `store` is asked for clusters that requests name themselves.
    #[must_use]
    pub fn new(store: Arc<Store>, worker: Worker) -> Self {
        Self::with_transport(store, worker.clone(), Pool::new(worker))
    }
}

impl<T: Transport> Upstream<T> {
    /// Over another transport.
    #[must_use]
    pub fn with_transport(store: Arc<Store>, worker: Worker, transport: T) -> Self {
        Self {
            shared: Arc::new(Shared { store, worker, transport }),
            options: UpstreamOptions::default(),
            peers: PeerExchange::default(),
        }
    }

    /// The same, as a listener wants it.
    #[must_use]
    pub fn with_options(&self, options: UpstreamOptions) -> Self {
        Self { shared: Arc::clone(&self.shared), options, peers: self.peers.clone() }
    }

    /// The same, with what endpoints are told about who calls them. Default nothing.
    #[must_use]
    pub fn with_peer_exchange(self, peers: PeerExchange) -> Self {
        Self { peers, ..self }
    }

    pub(crate) fn peers(&self) -> &PeerExchange {
        &self.peers
    }

    pub(crate) fn timers(&self) -> &Timers {
        self.shared.worker.timers()
    }

    /// Answers `request` as the route in `info` says. The body is expected to be counted by `info`.
    ///
    /// # Cancel safety
    /// Dropping the future gives the request up: its stream is reset, or its connection closed.
    pub fn send(&self, request: Request<Body>, info: &StreamInfo) -> impl Future<Output = Response<Body>> + Send {
        let mut call = Call::new(request);
        async move {
            let (route, random) = {
                let state = info.state();
                (state.route.clone(), state.random)
            };
            match route {
                Some(route) => self.forward(&mut call, info, (&route).into(), random).await,
                None => call.answer(not_found(info)),
            }
            call.take_response()
        }
    }

    /// Answers a call whose route is known.
    pub(crate) async fn forward(&self, call: &mut Call, info: &StreamInfo, route: FoundRoute<'_>, random: u64) {
        let Some((parts, _)) = &mut call.request else { return call.answer(not_found(info)) };
        let (cluster, weighted) = self.choose_cluster(parts, &route, random);
        if info.is_logged() || route.changes_headers_by_attributes() {
            let mut state = info.state();
            state.observe_route(route, random);
            state.upstream_cluster.clone_from(&cluster);
        }
        let exchange = Exchange::new(info, self.options, (&route, weighted), parts, call.survey.is_grpc);
        let Some(cluster) = cluster else {
            let status = route
                .action()
                .map_or(http::StatusCode::SERVICE_UNAVAILABLE, |action| action.cluster_not_found_response_code);
            return call.answer(exchange.reply(LocalReply::cluster_not_found(status)));
        };
        self.peers.send_request(&mut parts.headers, cluster.config().metadata_exchange);
        let through = (&self.shared.transport, &self.shared.worker);
        let mut tries = Tries::new(&exchange, through, cluster, (parts, call.survey));
        request::prepare(parts, &exchange);
        exchange.observe_request(parts);
        info.observe_request(parts);
        tries.run(call).await;
    }

    /// The cluster, if it exists, and its position in a split.
    fn choose_cluster(&self, parts: &Parts, route: &Route, random: u64) -> (Option<Arc<ClusterState>>, Option<usize>) {
        if let Some(slot) = route.only_cluster() {
            return (slot.load(), None);
        }
        let head = RequestHead::from_parts(parts);
        let Some(choice) = route.select_cluster(&head, random) else { return (None, None) };
        let cluster = match choice.cluster {
            ChosenCluster::Resolved(slot) => slot.load(),
            ChosenCluster::Named(name) => self.shared.store.cluster(name),
            ChosenCluster::Unnamed => None,
        };
        (cluster, choice.weighted)
    }
}

fn not_found(info: &StreamInfo) -> Response<Body> {
    let reply = LocalReply::ROUTE_NOT_FOUND;
    let mut state = info.state();
    state.response_flags.insert(reply.flags);
    state.response_code_details = Some(reply.details.clone());
    drop(state);
    reply.into_response(false).map(Body::from)
}

impl<T> Clone for Upstream<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), options: self.options, peers: self.peers.clone() }
    }
}

impl<T: Transport> Service<Request<Body>> for Upstream<T> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let upstream = self.clone();
        Box::pin(async move {
            let info = request.extensions_mut().remove::<StreamInfo>();
            let response = match info {
                Some(info) => upstream.send(request, &info).await,
                None => LocalReply::ROUTE_NOT_FOUND.into_response(false).map(Body::from),
            };
            Ok(response)
        })
    }
}

#[cfg(test)]
mod tests;
