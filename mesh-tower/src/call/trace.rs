//! The `tracing` span of a request. It has the method and the URI, and from the end of the request also its outcome.
//!
//! The span `request` is at level DEBUG. One event is logged in it when the request ends, so with `RUST_LOG=mesh=debug` each
//! request is one line. If no subscriber enables the span, its cost is one comparison of levels.

use std::{fmt, time::Duration};

use http::{StatusCode, request};
use tracing::{Span, field::Empty};

use super::StreamState;
use crate::telemetry::Reporter;

/// The span of a request that this process sends (`outbound`) or serves (`inbound`).
pub(super) fn span(reporter: Reporter, request: &request::Parts) -> Span {
    let direction = match reporter {
        Reporter::Source => "outbound",
        Reporter::Destination => "inbound",
    };
    tracing::debug_span!(
        "request",
        direction,
        method = %request.method,
        uri = %request.uri,
        route = Empty,
        cluster = Empty,
        endpoint = Empty,
        tries = Empty,
        status = Empty,
        grpc_status = Empty,
        flags = Empty,
        details = Empty,
        duration_ms = Empty,
    )
}

/// Records the outcome of the request in the span, and logs the end of the request. Fields without a value are omitted.
#[cold]
pub(super) fn end(
    span: &Span,
    state: &StreamState,
    status: Option<StatusCode>,
    grpc_status: Option<u32>,
    duration: Duration,
) {
    let show = |name: &str, value: Option<&dyn fmt::Display>| {
        if let Some(value) = value {
            span.record(name, tracing::field::display(value));
        }
    };
    let route = state.route.as_ref().map(|route| &route.route().name).filter(|name| !name.is_empty());
    show("route", route.map(|name| name as _));
    show("cluster", state.upstream_cluster.as_ref().map(|cluster| &cluster.config().name as _));
    let endpoint = state.upstream_host.as_ref();
    show("endpoint", endpoint.map(|endpoint| endpoint.address() as _));
    span.record("tries", state.attempt_count);
    let status = status.map(|status| status.as_u16());
    show("status", status.as_ref().map(|status| status as _));
    show("grpc_status", grpc_status.as_ref().map(|status| status as _));
    show("flags", (!state.response_flags.is_empty()).then_some(&state.response_flags as _));
    show("details", state.response_code_details.as_ref().map(|details| details as _));
    span.record("duration_ms", (duration.as_secs_f64() * 1e6).round() / 1e3);
    span.in_scope(|| tracing::debug!("ended"));
}
