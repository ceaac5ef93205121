//! What is known of an endpoint from using it, which outlives changes of its configuration.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::Monitor;
use crate::telemetry::{Counter, Gauge};

/// Identifies an endpoint for as long as it is a member of its cluster; unique in the process, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointId(u64);

impl EndpointId {
    /// The only state of this crate outside of values; no decision depends on the numbers.
    fn unique() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// What outlives changes of an endpoint's configuration. In this order, all that a request touches is one cache line,
/// which no other endpoint has a part of.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct EndpointRuntime {
    id: EndpointId,
    pub(crate) outlier: Monitor,
    stats: EndpointStats,
    /// The last attempt to connect has failed.
    is_unreachable: AtomicBool,
}

/// Counts of one endpoint, as in Envoy's `/clusters`. Those that requests count come first, and are few: what is under way
/// is the difference of two.
#[derive(Debug, Default)]
#[repr(C)]
pub struct EndpointStats {
    rq_total: Counter,
    rq_ended: Counter,
    /// Tries answered with less than 500.
    pub rq_success: Counter,
    /// Tries answered with 500 or more, or not at all.
    pub rq_error: Counter,
    /// Tries that timed out.
    pub rq_timeout: Counter,
    /// Connections open.
    pub cx_active: Gauge,
    /// Connections attempted.
    pub cx_total: Counter,
    /// Connections that could not be made.
    pub cx_connect_fail: Counter,
}

impl EndpointStats {
    /// Tries.
    #[must_use]
    pub fn rq_total(&self) -> u64 {
        self.rq_total.get()
    }

    /// Tries under way: those that have begun and not ended.
    #[must_use]
    pub fn rq_active(&self) -> u64 {
        // What begins and ends between the two looks must not make it less than none.
        let ended = self.rq_ended.get();
        self.rq_total.get().saturating_sub(ended)
    }
}

impl EndpointRuntime {
    pub(crate) fn id(&self) -> EndpointId {
        self.id
    }

    /// The endpoint's counts.
    #[must_use]
    pub fn stats(&self) -> &EndpointStats {
        &self.stats
    }

    /// Notes whether a connection could be made. True if that is news; an endpoint is reachable until it is not.
    pub fn note_reachable(&self, is_reachable: bool) -> bool {
        self.is_unreachable.swap(!is_reachable, Ordering::Relaxed) == is_reachable
    }

    pub(crate) fn begin_request(&self) {
        self.stats.rq_total.inc();
    }

    pub(crate) fn end_request(&self) {
        self.stats.rq_ended.inc();
    }

    /// Tries under way: what least request compares.
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
        }
    }
}
