//! What a response holds until its body has ended.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use mesh_core::{
    cluster::{ClusterState, EndpointState},
    model::RoutingPriority,
    telemetry::ResponseFlags,
};

use super::{
    failure,
    limits::{Expired, Limits},
};
use crate::{BoxError, StreamInfo, TransportError, timeout::ResponseCutOff, timer::Timers, timer::now};

/// A response's place in the circuit breaker and its share of the endpoint's load, as [`ClusterState::begin_try`] has
/// taken them.
#[derive(Debug)]
pub(super) struct ActiveTry {
    pub(super) cluster: Arc<ClusterState>,
    pub(super) endpoint: Arc<EndpointState>,
    pub(super) priority: RoutingPriority,
}

impl Drop for ActiveTry {
    fn drop(&mut self) {
        self.cluster.end_try(&self.endpoint, self.priority);
    }
}

/// Holds what a response has of its cluster and endpoint, and watches its time.
#[derive(Debug)]
pub(crate) struct ResponseGuard {
    info: StreamInfo,
    limits: Limits,
    timers: Timers,
    _active: Option<ActiveTry>,
}

impl ResponseGuard {
    pub(super) fn new(info: &StreamInfo, limits: Limits, timers: &Timers, active: Option<ActiveTry>) -> Self {
        Self { info: info.clone(), limits, timers: timers.clone(), _active: active }
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
