//! Everything after the filters: sending a request along its route.
//!
//! ```text
//! rewrite, headers > timeout > retry
//!   per try > pick (priority > locality > policy) > connection (pool) > circuit breaker > send > outlier detection
//! ```
//!
//! An [`Upstream`] always answers: a failure becomes the response that Envoy gives in that case, with its response flag.
//! The stages are functions that are called one after the other and not layers around each other, since each needs the
//! result of the one before.

mod exchange;
mod failure;
mod guard;
mod request;
mod tries;

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use mesh_core::{local_reply::LocalReply, model::HttpConnectionManager};

pub(crate) use guard::HeldByTunnel;

use self::{exchange::Exchange, tries::Tries};
use crate::{
    Transport,
    call::{Call, StreamInfo},
    peer_metadata::PeerExchange,
    pool::{Pool, Worker},
    route::Matched,
    timer::Timers,
};

/// How a listener sends requests on.
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
#[derive(Debug)]
pub struct Upstream<T = Pool> {
    shared: Arc<Shared<T>>,
    options: UpstreamOptions,
    peers: PeerExchange,
}

#[derive(Debug)]
struct Shared<T> {
    transport: T,
    timers: Timers,
}

impl Upstream {
    /// Over the connection pools of `worker`.
    #[must_use]
    pub fn new(worker: Worker) -> Self {
        let timers = worker.timers().clone();
        Self::from_parts(Pool::new(worker), timers)
    }
}

impl<T: Transport> Upstream<T> {
    /// Over another transport.
    #[must_use]
    pub fn with_transport(transport: T) -> Self {
        Self::from_parts(transport, Timers::default())
    }

    fn from_parts(transport: T, timers: Timers) -> Self {
        Self {
            shared: Arc::new(Shared { transport, timers }),
            options: UpstreamOptions::default(),
            peers: PeerExchange::default(),
        }
    }

    /// The same with other options.
    #[must_use]
    pub fn with_options(&self, options: UpstreamOptions) -> Self {
        Self { shared: Arc::clone(&self.shared), options, peers: self.peers.clone() }
    }

    /// The same with an exchange of peer metadata. Default none.
    #[must_use]
    pub fn with_peer_exchange(self, peers: PeerExchange) -> Self {
        Self { peers, ..self }
    }

    /// Answers a call as its route says. `info` counts the request's body.
    ///
    /// # Cancel safety
    /// Dropping the future gives the request up: its stream is reset, or its connection closed.
    pub(crate) async fn forward(&self, call: &mut Call, info: &StreamInfo, matched: &Matched<'_>) {
        let route = &matched.route;
        if info.is_logged() || route.changes_headers_by_attributes() {
            let mut state = info.state();
            state.observe_route(|| route.to_handle());
            state.upstream_cluster.clone_from(&matched.cluster);
        }
        let exchange = Exchange::new(info, self.options, matched, &call.head, call.is_grpc());
        let Some(cluster) = &matched.cluster else {
            let status =
                route.action().map_or(StatusCode::SERVICE_UNAVAILABLE, |action| action.cluster_not_found_response_code);
            return exchange.reply(call, LocalReply::cluster_not_found(status));
        };
        self.peers.send_request(&mut call.head.headers, cluster.config().metadata_exchange);
        let through = (&self.shared.transport, &self.shared.timers);
        let mut tries = Tries::new(&exchange, through, cluster, call);
        request::prepare(&mut call.head, &exchange);
        info.observe_request(&call.head);
        tries.run(call).await;
    }
}

impl<T> Clone for Upstream<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), options: self.options, peers: self.peers.clone() }
    }
}

#[cfg(test)]
mod tests;
