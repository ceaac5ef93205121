//! What a connection of either protocol knows about itself.

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

/// Where a connection belongs, when it was made, how long it may last and how it ends.
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
    /// Of a connection of `pool` that was made just now.
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

    /// What others may know of the connection.
    pub(super) fn info(&self) -> ConnectionInfo<'_> {
        let Self { protocol, local_address, tls, .. } = self;
        ConnectionInfo { protocol: Some(*protocol), local_address: *local_address, tls: tls.as_ref() }
    }

    /// Notes whether a request is on the connection, which matters when it ends.
    pub(super) fn set_in_use(&self, is_in_use: bool) {
        self.end.set_in_use(is_in_use);
    }

    /// Counts a connection that ends with the response that has announced it.
    pub(super) fn ended_as_announced(&self) {
        if self.end.by() == EndedBy::Us {
            self.stats.upstream_cx_close_notify.inc();
        }
    }

    /// Notes that the endpoint has announced that it takes no more requests.
    pub(super) fn going_away(&self) {
        if !self.is_going_away.swap(true, Ordering::Relaxed) {
            self.stats.upstream_cx_close_notify.inc();
        }
    }

    /// Whether a connection that has served `requests` takes no more.
    pub(super) fn is_spent(&self, requests: u32) -> bool {
        let is_spent = self.options.max_requests_per_connection.is_some_and(|limit| requests >= limit.get());
        if is_spent {
            self.stats.upstream_cx_max_requests.inc();
        }
        is_spent
    }

    /// Whether a connection that has been unused for `idle` is to be closed.
    pub(super) fn is_over(&self, idle: Duration, now: Instant) -> bool {
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

    /// The pool, unless its endpoint is gone.
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
