//! What the requests of a connection share with its driver.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use mesh_core::{model::ForwardClientCert, policy::client_certificate::Treatment};
use tokio::time::Instant;

use crate::{Downstream, call::DownstreamConnection, drain::Drain};

/// What the requests of a connection share.
#[derive(Debug)]
pub(crate) struct ConnectionInfo {
    pub(crate) downstream: Downstream,
    /// The group that the connection belongs to.
    pub(crate) drain: Drain,
    start: Instant,
    active: AtomicU32,
    requests: AtomicU32,
    idle_since_ms: AtomicU64,
    last_request_seen: AtomicBool,
    is_open: AtomicBool,
    client_certificate: OnceLock<Treatment>,
}

impl ConnectionInfo {
    pub(crate) fn new(downstream: Downstream, drain: Drain) -> Self {
        Self {
            downstream,
            drain,
            start: Instant::now(),
            active: AtomicU32::new(0),
            requests: AtomicU32::new(0),
            idle_since_ms: AtomicU64::new(0),
            last_request_seen: AtomicBool::new(false),
            is_open: AtomicBool::new(false),
            client_certificate: OnceLock::new(),
        }
    }

    /// When the connection was accepted.
    pub(super) fn start(&self) -> Instant {
        self.start
    }

    /// What is done with `x-forwarded-client-cert` in the requests of this connection.
    pub(crate) fn client_certificate(&self, config: ForwardClientCert) -> &Treatment {
        self.client_certificate.get_or_init(|| Treatment::new(config, self.downstream.tls.as_deref()))
    }

    /// Records that the connection is open.
    pub(super) fn opened(&self) {
        self.is_open.store(true, Ordering::Relaxed);
    }

    /// Records that either end has closed the connection.
    pub(super) fn closed(&self) {
        self.is_open.store(false, Ordering::Relaxed);
    }

    /// Counts a request that starts; returns how many have started.
    pub(crate) fn request_started(&self) -> u32 {
        self.active.fetch_add(1, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// Makes the request that has just started the last of this connection.
    pub(crate) fn take_no_more(&self) {
        self.last_request_seen.store(true, Ordering::Relaxed);
    }

    /// Whether the last request of this connection has started.
    pub(super) fn takes_no_more(&self) -> bool {
        self.last_request_seen.load(Ordering::Relaxed)
    }

    /// When the last request ended, or the connection began.
    pub(super) fn idle_since(&self) -> Instant {
        self.start + Duration::from_millis(self.idle_since_ms.load(Ordering::Relaxed))
    }

    /// When the connection reaches `idle_timeout`, if no request starts or ends before.
    pub(super) fn idle_until(&self, idle_timeout: Duration) -> Instant {
        if self.active.load(Ordering::Relaxed) > 0 {
            return Instant::now() + idle_timeout;
        }
        self.idle_since() + idle_timeout
    }
}

impl DownstreamConnection for ConnectionInfo {
    fn request_ended(&self, at: std::time::Instant) {
        let idle_since = at.saturating_duration_since(self.start.into_std()).as_millis();
        self.idle_since_ms.store(u64::try_from(idle_since).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.active.fetch_sub(1, Ordering::Relaxed);
    }

    fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Relaxed)
    }
}
