//! The body of an endpoint's response, which holds a circuit breaker permit and is limited by timeouts.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Response;
use http_body::{Body as HttpBody, Frame, SizeHint};
use mesh_core::{
    cluster::{ClusterState, EndpointState},
    model::RoutingPriority,
    retry::ResetReason,
    telemetry::{ResponseFlags, details},
};

use super::failure;
use crate::{
    Body, BoxError, TransportError,
    call::{ResponseCutOff, ResponseSource, StreamInfo},
    timeout::{Expired, Limits},
    timer::now,
};

/// The guard of a response: the request counts in the circuit breaker and at the endpoint, as [`ClusterState::begin_try`]
/// has counted it.
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

/// The guard of an upgraded connection, in the extensions of a response that switches protocols.
#[derive(Clone, Debug)]
pub(crate) struct HeldByTunnel {
    _active: Arc<ActiveTry>,
}

impl From<ActiveTry> for HeldByTunnel {
    fn from(active: ActiveTry) -> Self {
        Self { _active: Arc::new(active) }
    }
}

/// A response body that holds a guard until it ends, and fails when a timeout of the request expires.
#[derive(Debug)]
pub(super) struct GuardedBody {
    inner: Body,
    info: StreamInfo,
    limits: Limits,
    active: Option<ActiveTry>,
    /// The end of the body has been counted.
    has_ended: bool,
}

impl GuardedBody {
    pub(super) fn wrap(inner: Body, info: &StreamInfo, limits: Limits, active: Option<ActiveTry>) -> Body {
        let info = info.clone();
        Body::new(Self { inner, info, limits, active, has_ended: false })
    }

    /// An error when a timeout has expired.
    fn poll_cut_off(&mut self, cx: &mut Context<'_>) -> Poll<BoxError> {
        self.limits.poll_expired(None, &self.info, cx).map(|expired| {
            self.end();
            let state = &mut *self.info.state();
            if let Some(cluster) = &state.upstream_cluster {
                failure::count_expired(expired, cluster.stats(), state.upstream_protocol);
            }
            state.response_code_details = Some(match expired {
                Expired::MaxStreamDuration => {
                    state.response_source = Some(ResponseSource::MaxStreamDuration);
                    details::MAX_DURATION_TIMEOUT.into()
                }
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

    /// Counts a failure of the body.
    fn handle_error(&mut self, error: &BoxError) {
        self.end();
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

    /// Counts the end of the body.
    fn handle_end(&mut self) {
        self.end();
        self.info.state().upstream_timing.last_upstream_rx_byte_received = Some(now());
    }

    fn end(&mut self) {
        self.has_ended = true;
        self.active = None;
    }
}

/// Wraps the response of a program. The body fails when a timeout of the request expires.
pub(crate) fn limited(response: Response<Body>, info: &StreamInfo, limits: Limits) -> Response<Body> {
    if limits.is_unlimited() || response.body().is_end_stream() {
        return response;
    }
    response.map(|body| GuardedBody::wrap(body, info, limits, None))
}

impl HttpBody for GuardedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.has_ended {
            return Pin::new(&mut self.inner).poll_frame(cx);
        }
        let frame = Pin::new(&mut self.inner).poll_frame(cx);
        match &frame {
            Poll::Pending => {
                if let Poll::Ready(error) = self.poll_cut_off(cx) {
                    self.inner = Body::empty();
                    return Poll::Ready(Some(Err(error)));
                }
            }
            Poll::Ready(Some(Ok(_))) if !self.inner.is_end_stream() => {}
            Poll::Ready(Some(Err(error))) => self.handle_error(error),
            Poll::Ready(Some(Ok(_)) | None) => self.handle_end(),
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for GuardedBody {
    fn drop(&mut self) {
        if !self.has_ended {
            let state = self.info.state();
            if let Some(cluster) = &state.upstream_cluster {
                failure::count_local_reset(cluster.stats(), state.upstream_protocol);
            }
        }
    }
}
