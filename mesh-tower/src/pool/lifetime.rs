//! What every connection carries from its making to its end.

use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use mesh_core::cluster::{ClusterStats, EndpointRuntime};
use mesh_core::model::HttpProtocolOptions;

use super::{
    OwnedTarget,
    endpoint_pool::EndpointPool,
    io::{EndedBy, OpenConnection, PooledIo, StreamEnd},
};
use crate::{Io, timer::now};

/// When one connection was made, how long it may last and what counts it.
pub(super) struct Lifetime {
    pool: Weak<EndpointPool>,
    opened: Instant,
    options: HttpProtocolOptions,
    stats: Arc<ClusterStats>,
    endpoint: Arc<EndpointRuntime>,
    end: Arc<StreamEnd>,
    /// A request is on the connection, or was when it ended.
    is_in_use: AtomicBool,
    is_going_away: AtomicBool,
}

impl Lifetime {
    /// Begins now, before the connection is made.
    pub(super) fn new(pool: &Arc<EndpointPool>, target: &OwnedTarget) -> Self {
        let endpoint = Arc::clone(target.endpoint.runtime());
        endpoint.stats().cx_active.inc();
        Self {
            pool: Arc::downgrade(pool),
            opened: now(),
            options: target.cluster.config().http_protocol_options,
            stats: Arc::clone(target.stats()),
            endpoint,
            end: Arc::default(),
            is_in_use: AtomicBool::new(false),
            is_going_away: AtomicBool::new(false),
        }
    }

    /// The connection is made; its time begins.
    pub(super) fn connected(&mut self, io: Io, open: OpenConnection) -> PooledIo {
        self.opened = now();
        PooledIo::new(io, Arc::clone(&self.end), open)
    }

    /// The endpoint is the reason that there is no connection.
    pub(super) fn not_connected(&self) {
        self.end.ended(EndedBy::Endpoint);
    }

    /// Whether a request is on the connection, which matters when it ends.
    pub(super) fn set_in_use(&self, is_in_use: bool) {
        self.is_in_use.store(is_in_use, Ordering::Relaxed);
    }

    /// The connection took a last response and ends, as that said it would.
    pub(super) fn ended_as_announced(&self) {
        if self.end.by() == EndedBy::Us {
            self.stats.upstream_cx_close_notify.inc();
        }
    }

    /// The endpoint says that it will take no more requests.
    pub(super) fn going_away(&self) {
        if !self.is_going_away.swap(true, Ordering::Relaxed) {
            self.stats.upstream_cx_close_notify.inc();
        }
    }

    /// Lasts until the byte stream is dropped, which goes on without the connection.
    pub(super) fn follow_stream(self) {
        let end = Arc::clone(&self.end);
        end.hold(self);
    }

    fn count_end(&self) {
        let stats = &self.stats;
        let (ended, with_active_rq) = match self.end.by() {
            EndedBy::Us => (&stats.upstream_cx_destroy_local, &stats.upstream_cx_destroy_local_with_active_rq),
            EndedBy::Endpoint => (&stats.upstream_cx_destroy_remote, &stats.upstream_cx_destroy_remote_with_active_rq),
        };
        stats.upstream_cx_destroy.inc();
        ended.inc();
        if self.is_in_use.load(Ordering::Relaxed) {
            stats.upstream_cx_destroy_with_active_rq.inc();
            with_active_rq.inc();
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

impl Drop for Lifetime {
    fn drop(&mut self) {
        self.count_end();
        self.endpoint.stats().cx_active.dec();
    }
}

impl fmt::Debug for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lifetime").field("opened", &self.opened).finish_non_exhaustive()
    }
}
