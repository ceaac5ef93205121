//! Outcomes of tries at an endpoint, and counts of consecutive failures.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use http::StatusCode;

use super::EndpointStats;
use crate::{grpc, model::OutlierDetection};

/// The outcome of a try at an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An HTTP response that is not gRPC.
    Status(StatusCode),
    /// A gRPC response with this `grpc-status`.
    GrpcStatus(u32),
    /// No response.
    LocalOrigin(LocalOriginFailure),
    /// A connection for traffic other than HTTP was established. Responses are not inspected.
    Connected,
}

/// A locally originated failure: the reason why there was no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalOriginFailure {
    /// The connection could not be established.
    ConnectFailed,
    /// The route timeout or the per-try timeout expired.
    Timeout,
    /// The connection or stream was reset.
    Reset,
}

impl Outcome {
    /// The HTTP status that the outcome is mapped to.
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

/// The kind of failures that an ejection is based on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detection {
    /// `consecutive_5xx`.
    Consecutive5xx,
    /// `consecutive_gateway_failure`.
    ConsecutiveGatewayFailure,
    /// `consecutive_local_origin_failure`.
    ConsecutiveLocalOriginFailure,
    /// `success_rate_stdev_factor`.
    SuccessRate,
    /// `failure_percentage_threshold`.
    FailurePercentage,
}

/// Consecutive failures of an endpoint, and whether it is ejected.
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

    /// Counts an outcome, and returns the thresholds that it reaches in the order in which they are to be handled.
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

    /// Resets the count of one kind of failures.
    pub(crate) fn start_over(&self, detection: Detection) {
        reset(match detection {
            Detection::Consecutive5xx => &self.consecutive_5xx,
            Detection::ConsecutiveGatewayFailure => &self.consecutive_gateway_failure,
            Detection::ConsecutiveLocalOriginFailure => &self.consecutive_local_origin_failure,
            // They are counted anew in each interval.
            Detection::SuccessRate | Detection::FailurePercentage => return,
        });
    }

    pub(crate) fn eject(&self) {
        self.ejected.store(true, Ordering::Relaxed);
    }

    pub(crate) fn uneject(&self) {
        // Otherwise one failure could eject an endpoint that was close to another threshold.
        reset(&self.consecutive_5xx);
        reset(&self.consecutive_gateway_failure);
        reset(&self.consecutive_local_origin_failure);
        self.ejected.store(false, Ordering::Relaxed);
    }
}

/// Increments the counter, and returns whether it reaches the threshold. Only one of several threads gets true.
fn reaches(counter: &AtomicU32, threshold: u32) -> bool {
    counter.fetch_add(1, Ordering::Relaxed).wrapping_add(1) == threshold
}

/// Resets the counter. It is usually 0, and reading it first keeps its cache line shared between workers.
fn reset(counter: &AtomicU32) {
    if counter.load(Ordering::Relaxed) != 0 {
        counter.store(0, Ordering::Relaxed);
    }
}
