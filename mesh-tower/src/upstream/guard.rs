//! What a response holds until its body has ended.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use mesh_core::{
    cluster::{ClusterState, EndpointState},
    model::RoutingPriority,
    resilience::retry::ResetReason,
    telemetry::{ResponseFlags, details},
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

/// In the extensions of a response that switches protocols: what the tunnel that follows occupies for as long as it lasts.
#[derive(Clone, Debug)]
pub(crate) struct HeldByTunnel {
    _active: Arc<ActiveTry>,
}

impl From<ActiveTry> for HeldByTunnel {
    fn from(active: ActiveTry) -> Self {
        Self { _active: Arc::new(active) }
    }
}

/// Holds what a response has of its cluster and endpoint, and watches its time.
#[derive(Debug)]
pub(crate) struct ResponseGuard {
    info: StreamInfo,
    limits: Limits,
    timers: Timers,
    _active: Option<ActiveTry>,
    /// How the body ended is known and counted.
    has_ended: bool,
}

impl ResponseGuard {
    pub(super) fn new(info: &StreamInfo, limits: Limits, timers: &Timers, active: Option<ActiveTry>) -> Self {
        Self { info: info.clone(), limits, timers: timers.clone(), _active: active, has_ended: false }
    }

    /// While the body waits: an error once its time is up.
    pub(crate) fn poll_cut_off(&mut self, cx: &mut Context<'_>) -> Poll<BoxError> {
        self.limits.poll_expired(None, &self.info, &self.timers, cx).map(|expired| {
            self.has_ended = true;
            let state = &mut *self.info.state();
            if let Some(cluster) = &state.upstream_cluster {
                failure::count_expired(expired, cluster.stats(), state.upstream_protocol);
            }
            state.response_code_details = Some(match expired {
                Expired::MaxStreamDuration => details::MAX_DURATION_TIMEOUT.into(),
                Expired::Route | Expired::PerTry => {
                    state.response_flags.insert(ResponseFlags::UPSTREAM_REQUEST_TIMEOUT);
                    if let Some(endpoint) = &state.upstream_host {
                        endpoint.stats().rq_timeout.inc();
                    }
                    details::RESPONSE_TIMEOUT.into()
                }
            });
            ResponseCutOff.into()
        })
    }

    /// The body broke off.
    pub(crate) fn handle_error(&mut self, error: &BoxError) {
        self.has_ended = true;
        let state = &mut *self.info.state();
        let reason = error.downcast_ref().map_or(ResetReason::ConnectionTermination, TransportError::reason);
        if let Some(cluster) = &state.upstream_cluster {
            failure::count_reset(reason, cluster.stats(), state.upstream_protocol);
        }
        if let Some(reset) = failure::upstream_reset(reason) {
            state.response_flags.insert(reset.flag());
            state.response_code_details = Some(details::upstream_reset_after_response_started(reset.as_str()).into());
        }
    }

    /// The body has ended as it should.
    pub(crate) fn handle_end(&mut self) {
        self.has_ended = true;
        self.info.state().upstream_timing.last_upstream_rx_byte_received = Some(now());
    }
}

impl Drop for ResponseGuard {
    fn drop(&mut self) {
        if !self.has_ended {
            let state = self.info.state();
            if let Some(cluster) = &state.upstream_cluster {
                failure::count_local_reset(cluster.stats(), state.upstream_protocol);
            }
        }
    }
}
