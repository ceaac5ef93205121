//! Fault injection. Envoy `filters.http.fault.v3.HTTPFault`; semantics in `features.md` E70 and VS12.

use std::{num::NonZeroU32, time::Duration};

use http::StatusCode;

use super::{ClusterName, FractionalPercent, HeaderMatcher};

/// Delays and failures injected before a request is routed on. Delay and abort are drawn independently, delay first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fault {
    /// Hold the request for a while.
    pub delay: Option<Delay>,
    /// Answer without an upstream.
    pub abort: Option<Abort>,
    /// Only requests that match all of these are affected; empty = all.
    pub headers: Vec<HeaderMatcher>,
    /// Only requests routed to this cluster are affected.
    pub upstream_cluster: Option<ClusterName>,
    /// Faults active at once, further requests pass unharmed; `None` = unlimited.
    pub max_active_faults: Option<NonZeroU32>,
}

/// How long to hold a request, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delay {
    /// A fixed delay; `None` takes milliseconds from the request's `x-envoy-fault-delay-request`.
    pub fixed_delay: Option<Duration>,
    /// Share of requests delayed.
    pub percentage: FractionalPercent,
}

/// How to fail a request, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abort {
    /// The answer given.
    pub status: AbortStatus,
    /// Share of requests aborted.
    pub percentage: FractionalPercent,
}

/// The answer of an injected failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbortStatus {
    /// An HTTP status, 200 to 599; a gRPC request gets the mapped gRPC status.
    Http(StatusCode),
    /// A gRPC status, 0 to 16, as a trailers-only answer with HTTP 200.
    Grpc(u32),
    /// From the request's `x-envoy-fault-abort-request` or `x-envoy-fault-abort-grpc-request`.
    Header,
}
