//! The upstream side of the pipeline: sending a request to the cluster of its route.
//!
//! ```text
//! rewrite, headers > timeout > retry
//!   per try > pick (priority > locality > policy) > connection (pool) > circuit breaker > send > outlier detection
//! ```
//!
//! An [`Upstream`] always responds: a failure becomes the local reply that Envoy gives in that case, with its response
//! flags. The stages are functions that are called in order, not layers around each other, because each needs the result of
//! the previous one.

mod client;
mod exchange;
mod failure;
mod guard;
mod request;
mod tries;

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use mesh_core::{local_reply::LocalReply, model::HttpConnectionManager};

pub use client::ClusterChannel;
pub(crate) use client::UpstreamClients;
pub(crate) use guard::limited;

use self::{exchange::Exchange, tries::Tries};
use crate::{
    Transport,
    call::{Call, StreamInfo},
    peer_metadata::PeerExchange,
    pool::{Pool, Worker},
    route::Matched,
};

/// Options of an [`Upstream`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpstreamOptions {
    /// Add `x-envoy-*` headers to requests and responses. Default true. Envoy router `suppress_envoy_headers`, inverted.
    pub envoy_headers: bool,
    /// Maximum duration of streams whose route has none; `None` = unlimited, the default.
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

/// Sends requests to the clusters of their routes. Clones share connections.
#[derive(Debug)]
pub struct Upstream<T = Pool> {
    transport: Arc<T>,
    options: UpstreamOptions,
    peers: PeerExchange,
}

impl Upstream {
    /// Creates an upstream with the connection pools of `worker`.
    #[must_use]
    pub fn new(worker: Worker) -> Self {
        Self::with_transport(Pool::new(worker))
    }
}

impl<T: Transport> Upstream<T> {
    /// Creates an upstream with another transport.
    #[must_use]
    pub fn with_transport(transport: T) -> Self {
        let transport = Arc::new(transport);
        Self { transport, options: UpstreamOptions::default(), peers: PeerExchange::default() }
    }

    /// Sets the options.
    #[must_use]
    pub fn with_options(&self, options: UpstreamOptions) -> Self {
        Self { transport: Arc::clone(&self.transport), options, peers: self.peers.clone() }
    }

    /// Sets the exchange of peer metadata. Default none.
    #[must_use]
    pub fn with_peer_exchange(self, peers: PeerExchange) -> Self {
        Self { peers, ..self }
    }

    /// Sends a call by its route, and sets its response. `info` counts the request's body.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the request: its stream is reset, or its connection closed.
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
        let mut tries = Tries::new(&exchange, &*self.transport, cluster, call);
        request::prepare(&mut call.head, &exchange);
        info.observe_request(&call.head);
        tries.run(call).await;
    }
}

impl<T> Clone for Upstream<T> {
    fn clone(&self) -> Self {
        Self { transport: Arc::clone(&self.transport), options: self.options, peers: self.peers.clone() }
    }
}

#[cfg(test)]
mod tests;
