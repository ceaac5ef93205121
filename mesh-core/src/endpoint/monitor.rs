//! How tries at an endpoint end, and how many in a row have failed.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use http::StatusCode;

use super::EndpointStats;
use crate::{grpc, model::OutlierDetection};

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

/// Failures of one endpoint in a row, and what became of it.
#[derive(Debug, Default)]
pub(crate) struct Monitor {
    consecutive_5xx: AtomicU32,
    consecutive_gateway_failure: AtomicU32,
    consecutive_local_origin_failure: AtomicU32,
    ejected: AtomicBool,
    retired: AtomicBool,
}

impl Monitor {
    pub(crate) fn is_ejected(&self) -> bool {
        self.ejected.load(Ordering::Relaxed)
    }

    /// Whether the endpoint is no longer a member of its cluster.
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
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

    /// Counts the failures of one kind from 0 again.
    pub(crate) fn start_over(&self, detection: Detection) {
        reset(match detection {
            Detection::Consecutive5xx => &self.consecutive_5xx,
            Detection::ConsecutiveGatewayFailure => &self.consecutive_gateway_failure,
            Detection::ConsecutiveLocalOriginFailure => &self.consecutive_local_origin_failure,
        });
    }

    pub(crate) fn eject(&self) {
        self.ejected.store(true, Ordering::Relaxed);
    }

    pub(crate) fn uneject(&self) {
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
