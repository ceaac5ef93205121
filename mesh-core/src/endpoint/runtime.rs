//! Runtime state of an endpoint, which outlives its configuration.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::Monitor;
use crate::telemetry::{Counter, Gauge};

/// Identifies an endpoint while it is a member of its cluster. Unique in the process and not reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointId(u64);

impl EndpointId {
    /// The counter is the only global state of this crate. No decision depends on the numbers.
    fn unique() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// Runtime state of an endpoint. The order of the fields and the alignment put all fields that requests update into one
/// cache line, which is not shared with other endpoints.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct EndpointRuntime {
    id: EndpointId,
    pub(crate) outlier: Monitor,
    stats: EndpointStats,
    /// Whether the last attempt to connect has failed.
    is_unreachable: AtomicBool,
    /// Whether the endpoint gets no requests because of that, if others are left.
    is_avoided: AtomicBool,
}

/// Statistics of an endpoint, as in Envoy's `/clusters`. The counters that requests update come first. There are few of
/// them: the number of active requests is the difference of two counters.
#[derive(Debug, Default)]
#[repr(C)]
pub struct EndpointStats {
    rq_total: Counter,
    rq_ended: Counter,
    /// Tries with a response below 500.
    pub rq_success: Counter,
    /// Tries with a response of 500 or above, or without a response.
    pub rq_error: Counter,
    /// Tries that timed out.
    pub rq_timeout: Counter,
    /// Open connections.
    pub cx_active: Gauge,
    /// Attempts to connect.
    pub cx_total: Counter,
    /// Failed attempts to connect.
    pub cx_connect_fail: Counter,
}

impl EndpointStats {
    /// Number of tries.
    #[must_use]
    pub fn rq_total(&self) -> u64 {
        self.rq_total.get()
    }

    /// Number of active tries.
    #[must_use]
    pub fn rq_active(&self) -> u64 {
        // Read first, so that a try that begins and ends meanwhile does not make the difference negative.
        let ended = self.rq_ended.get();
        self.rq_total.get().saturating_sub(ended)
    }
}

impl EndpointRuntime {
    pub(crate) fn id(&self) -> EndpointId {
        self.id
    }

    /// The statistics.
    #[must_use]
    pub fn stats(&self) -> &EndpointStats {
        &self.stats
    }

    /// Records whether a connection could be established. Returns whether that differs from the last attempt; an endpoint
    /// counts as reachable before the first one.
    pub fn note_reachable(&self, is_reachable: bool) -> bool {
        self.is_unreachable.swap(!is_reachable, Ordering::Relaxed) == is_reachable
    }

    pub(crate) fn is_avoided(&self) -> bool {
        self.is_avoided.load(Ordering::Relaxed)
    }

    pub(crate) fn set_avoided(&self, is_avoided: bool) {
        self.is_avoided.store(is_avoided, Ordering::Relaxed);
    }

    pub(crate) fn begin_request(&self) {
        self.stats.rq_total.inc();
    }

    pub(crate) fn end_request(&self) {
        self.stats.rq_ended.inc();
    }

    /// Number of active tries, which least request compares.
    pub(crate) fn active_requests(&self) -> u64 {
        self.stats.rq_active()
    }
}

impl Default for EndpointRuntime {
    fn default() -> Self {
        Self {
            id: EndpointId::unique(),
            outlier: Monitor::default(),
            stats: EndpointStats::default(),
            is_unreachable: AtomicBool::new(false),
            is_avoided: AtomicBool::new(false),
        }
    }
}
