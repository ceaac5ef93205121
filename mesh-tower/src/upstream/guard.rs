//! What a response holds until its body has ended.

use std::task::{Context, Poll};

use mesh_core::telemetry::ResponseFlags;

use super::{
    failure,
    limits::{Expired, Limits},
};
use crate::{BoxError, StreamInfo, TransportError, timeout::ResponseCutOff, timer::Timers, timer::now};

/// Gives back a response's place in the circuit breaker and its share of the endpoint's load when it is dropped, and
/// watches its time until then.
#[derive(Debug)]
pub(crate) struct ResponseGuard {
    info: StreamInfo,
    limits: Limits,
    timers: Timers,
}

impl ResponseGuard {
    pub(super) fn new(info: &StreamInfo, limits: Limits, timers: &Timers) -> Self {
        Self { info: info.clone(), limits, timers: timers.clone() }
    }

    /// While the body waits: an error once its time is up.
    pub(crate) fn poll_cut_off(&mut self, cx: &mut Context<'_>) -> Poll<BoxError> {
        self.limits.poll_expired(None, &self.info, &self.timers, cx).map(|expired| {
            let mut state = self.info.state();
            if let Some(cluster) = &state.upstream_cluster {
                failure::count_expired(expired, cluster.stats());
            }
            state.response_flags.insert(match expired {
                Expired::MaxStreamDuration => ResponseFlags::DURATION_TIMEOUT,
                Expired::Route | Expired::PerTry => ResponseFlags::UPSTREAM_REQUEST_TIMEOUT,
            });
            ResponseCutOff.into()
        })
    }

    /// The body broke off.
    pub(crate) fn handle_error(&self, error: &BoxError) {
        let mut state = self.info.state();
        if let Some(cluster) = &state.upstream_cluster {
            cluster.stats().upstream_rq_rx_reset.inc();
        }
        state.response_flags.insert(match error.downcast_ref::<TransportError>() {
            Some(error) => failure::flag(error.reason()),
            None => ResponseFlags::UPSTREAM_CONNECTION_TERMINATION,
        });
    }

    /// The body has ended as it should.
    pub(crate) fn handle_end(&self) {
        self.info.state().upstream_timing.last_upstream_rx_byte_received = Some(now());
    }
}

impl Drop for ResponseGuard {
    fn drop(&mut self) {
        self.info.state().end_response();
    }
}
