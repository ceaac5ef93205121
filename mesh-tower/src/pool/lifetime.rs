//! What connections of both protocols have in common: their limits, their statistics, their pool.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use mesh_core::{
    cluster::{ClusterState, ClusterStats},
    model::HttpProtocolOptions,
    tls::TlsInfo,
};

use super::{connecting::PooledStream, endpoint_pool::EndpointPool};
use crate::{
    ConnectionInfo, Protocol,
    connect::{ConnectionEnd, EndedBy},
    timer::now,
};

/// The state that connections of both protocols have in common.
pub(super) struct Lifetime {
    pool: Weak<EndpointPool>,
    opened: Instant,
    options: HttpProtocolOptions,
    stats: Arc<ClusterStats>,
    protocol: Protocol,
    local_address: Option<SocketAddr>,
    tls: Option<Arc<TlsInfo>>,
    end: Arc<ConnectionEnd>,
    is_going_away: AtomicBool,
}

impl Lifetime {
    /// For a connection of `pool` that was just made.
    pub(super) fn new(
        pool: &Arc<EndpointPool>,
        cluster: &ClusterState,
        protocol: Protocol,
        stream: &PooledStream,
    ) -> Self {
        Self {
            pool: Arc::downgrade(pool),
            opened: now(),
            options: cluster.config().http_protocol_options,
            stats: Arc::clone(cluster.stats()),
            protocol,
            local_address: stream.local_address(),
            tls: stream.tls().cloned(),
            end: Arc::clone(stream.end()),
            is_going_away: AtomicBool::new(false),
        }
    }

    /// The options of the cluster.
    pub(super) fn options(&self) -> &HttpProtocolOptions {
        &self.options
    }

    /// The protocol of the connection.
    pub(super) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// What is known about the connection.
    pub(super) fn info(&self) -> ConnectionInfo<'_> {
        let Self { protocol, local_address, tls, .. } = self;
        ConnectionInfo { protocol: Some(*protocol), local_address: *local_address, tls: tls.as_ref() }
    }

    /// Sets whether a request is active, which is counted if the connection ends now.
    pub(super) fn set_in_use(&self, is_in_use: bool) {
        self.end.set_in_use(is_in_use);
    }

    /// Counts a connection that ends after a response with `connection: close`.
    pub(super) fn count_close_notify(&self) {
        if self.end.by() == EndedBy::Us {
            self.stats.upstream_cx_close_notify.inc();
        }
    }

    /// Counts a GOAWAY. Returns whether it is the first; several count once.
    pub(super) fn count_go_away(&self) -> bool {
        let is_first = !self.is_going_away.swap(true, Ordering::Relaxed);
        if is_first {
            self.stats.upstream_cx_close_notify.inc();
        }
        is_first
    }

    /// Counts a connection that is closed because of a keepalive timeout.
    pub(super) fn count_keepalive_timeout(&self) {
        self.stats.http2_keepalive_timeout.inc();
    }

    /// Whether a connection that has served `requests` requests has reached `max_requests_per_connection`. Counts it if so.
    pub(super) fn has_reached_max_requests(&self, requests: u32) -> bool {
        let is_reached = self.options.max_requests_per_connection.is_some_and(|limit| requests >= limit.get());
        if is_reached {
            self.stats.upstream_cx_max_requests.inc();
        }
        is_reached
    }

    /// Whether a connection that has been idle for `idle` has reached a time limit. Counts it if so.
    pub(super) fn has_expired(&self, idle: Duration, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.opened);
        if self.options.max_connection_duration.is_some_and(|limit| age >= limit) {
            self.stats.upstream_cx_max_duration_reached.inc();
            return true;
        }
        if self.options.idle_timeout.is_some_and(|limit| idle >= limit) {
            self.stats.upstream_cx_idle_timeout.inc();
            return true;
        }
        false
    }

    /// The pool; `None` if its endpoint was removed.
    pub(super) fn pool(&self) -> Option<Arc<EndpointPool>> {
        self.pool.upgrade()
    }

    /// When the connection was made.
    pub(super) fn opened(&self) -> Instant {
        self.opened
    }
}

impl fmt::Debug for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lifetime").field("opened", &self.opened).finish_non_exhaustive()
    }
}
