//! Outlier detection: endpoints that fail several times in a row get no traffic for a while (E31 to E36).
//!
//! ```text
//!            record: threshold reached, enforced, below max_ejection_percent
//!   healthy ────────────────────────────────────────────────────────────────► ejected
//!      ▲  multiplier − 1 per sweep                                multiplier + 1 │
//!      └─────────────────────────────────────────────────────────────────────────┘
//!            sweep: min(base_ejection_time × multiplier, max_ejection_time) + jitter is over
//! ```
//!
//! Counting is lock-free and happens on every answer; only a failure that reaches a threshold gets to the cluster's
//! detector, which decides. Sweeps run on a fixed grid of `interval`, and only while an endpoint is ejected or
//! its multiplier has to fall, so a mesh of 10,000 well-behaved clusters arms no timer.
//!
//! `max_ejection_percent` is Envoy's rule: an ejection must leave the share at or below the maximum, so with the default
//! of 10 % no endpoint of a cluster of fewer than ten is ever ejected unless `always_eject_one_host` is set (E34).

mod detector;
#[cfg(test)]
mod tests;

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::Duration,
};

use http::StatusCode;

pub(crate) use self::detector::{Context, Detector};
use crate::{
    cluster::{ClusterStats, EndpointStats},
    grpc,
    model::{OutlierDetection, Percent},
};

/// How a try at an endpoint ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An HTTP answer that is not gRPC.
    Status(StatusCode),
    /// A gRPC answer: the number in `grpc-status`.
    GrpcStatus(u32),
    /// No answer.
    LocalOrigin(LocalOriginFailure),
    /// A connection that was made for other traffic than HTTP, whose answers nobody understands.
    Connected,
}

/// Why there was no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalOriginFailure {
    /// The connection could not be made.
    ConnectFailed,
    /// The route timeout or the per-try timeout ended first.
    Timeout,
    /// The connection or stream was reset.
    Reset,
}

impl Outcome {
    /// The HTTP status that stands for it.
    fn status_code(self) -> u16 {
        match self {
            Self::Status(status) => status.as_u16(),
            Self::GrpcStatus(status) => grpc::http_of_status(status),
            Self::Connected => 200,
            Self::LocalOrigin(LocalOriginFailure::Timeout) => 504,
            Self::LocalOrigin(LocalOriginFailure::ConnectFailed | LocalOriginFailure::Reset) => 503,
        }
    }

    pub(crate) fn count(self, stats: &EndpointStats) {
        match self.status_code() {
            500.. => stats.rq_error.inc(),
            _ => stats.rq_success.inc(),
        }
        if self == Self::LocalOrigin(LocalOriginFailure::Timeout) {
            stats.rq_timeout.inc();
        }
    }
}

/// Which failures in a row led to an ejection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detection {
    /// `consecutive_5xx`.
    Consecutive5xx,
    /// `consecutive_gateway_failure`.
    ConsecutiveGatewayFailure,
    /// `consecutive_local_origin_failure`.
    ConsecutiveLocalOriginFailure,
}

impl Detection {
    fn enforcing(self, config: &OutlierDetection) -> Percent {
        match self {
            Self::Consecutive5xx => config.enforcing_consecutive_5xx,
            Self::ConsecutiveGatewayFailure => config.enforcing_consecutive_gateway_failure,
            Self::ConsecutiveLocalOriginFailure => config.enforcing_consecutive_local_origin_failure,
        }
    }

    fn count_detected(self, stats: &ClusterStats) {
        match self {
            Self::Consecutive5xx => stats.ejections_detected_consecutive_5xx.inc(),
            Self::ConsecutiveGatewayFailure => stats.ejections_detected_consecutive_gateway_failure.inc(),
            Self::ConsecutiveLocalOriginFailure => stats.ejections_detected_consecutive_local_origin_failure.inc(),
        }
    }

    fn count_enforced(self, stats: &ClusterStats) {
        stats.ejections_enforced_total.inc();
        match self {
            Self::Consecutive5xx => stats.ejections_enforced_consecutive_5xx.inc(),
            Self::ConsecutiveGatewayFailure => stats.ejections_enforced_consecutive_gateway_failure.inc(),
            Self::ConsecutiveLocalOriginFailure => stats.ejections_enforced_consecutive_local_origin_failure.inc(),
        }
    }
}

/// An endpoint was ejected: for logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejected {
    /// Which one.
    pub address: SocketAddr,
    /// Why.
    pub detection: Detection,
    /// For how long, up to the next sweep.
    pub ejection_time: Duration,
    /// No sweep was due before: from now on somebody has to sweep until none is due.
    pub starts_sweeping: bool,
}

/// What is counted per endpoint.
#[derive(Debug, Default)]
pub(crate) struct Monitor {
    consecutive_5xx: AtomicU32,
    consecutive_gateway_failure: AtomicU32,
    consecutive_local_origin_failure: AtomicU32,
    ejected: AtomicBool,
    /// No longer a member of its cluster.
    retired: AtomicBool,
}

impl Monitor {
    pub(crate) fn is_ejected(&self) -> bool {
        self.ejected.load(Ordering::Relaxed)
    }

    /// Counts an outcome and says which thresholds it reached, in the order in which they are acted upon.
    pub(crate) fn record(&self, outcome: Outcome, config: &OutlierDetection) -> [Option<Detection>; 2] {
        if let (true, Outcome::LocalOrigin(_)) = (config.split_external_local_origin_errors, outcome) {
            let reached = reaches(&self.consecutive_local_origin_failure, config.consecutive_local_origin_failure);
            return [reached.then_some(Detection::ConsecutiveLocalOriginFailure), None];
        }
        reset(&self.consecutive_local_origin_failure);
        if config.split_external_local_origin_errors && outcome == Outcome::Connected {
            return [None, None];
        }
        let code = outcome.status_code();
        if !(500..=599).contains(&code) {
            reset(&self.consecutive_5xx);
            reset(&self.consecutive_gateway_failure);
            return [None, None];
        }
        let gateway_failure = if (502..=504).contains(&code) {
            reaches(&self.consecutive_gateway_failure, config.consecutive_gateway_failure)
        } else {
            reset(&self.consecutive_gateway_failure);
            false
        };
        let consecutive_5xx = reaches(&self.consecutive_5xx, config.consecutive_5xx);
        [
            gateway_failure.then_some(Detection::ConsecutiveGatewayFailure),
            consecutive_5xx.then_some(Detection::Consecutive5xx),
        ]
    }

    fn counter(&self, detection: Detection) -> &AtomicU32 {
        match detection {
            Detection::Consecutive5xx => &self.consecutive_5xx,
            Detection::ConsecutiveGatewayFailure => &self.consecutive_gateway_failure,
            Detection::ConsecutiveLocalOriginFailure => &self.consecutive_local_origin_failure,
        }
    }

    fn uneject(&self) {
        // Counters start over, so that an endpoint that was close to another threshold is not ejected by one failure.
        reset(&self.consecutive_5xx);
        reset(&self.consecutive_gateway_failure);
        reset(&self.consecutive_local_origin_failure);
        self.ejected.store(false, Ordering::Relaxed);
    }
}

/// Counts one more and says whether that is exactly the threshold: of many threads one sees it.
fn reaches(counter: &AtomicU32, threshold: u32) -> bool {
    counter.fetch_add(1, Ordering::Relaxed).wrapping_add(1) == threshold
}

/// Most answers are successes after successes; a load keeps the counter's cache line shared between workers.
fn reset(counter: &AtomicU32) {
    if counter.load(Ordering::Relaxed) != 0 {
        counter.store(0, Ordering::Relaxed);
    }
}
