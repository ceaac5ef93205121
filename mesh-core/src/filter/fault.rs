//! Fault injection: delays requests or fails them on purpose, to test their callers.
//!
//! Delay and abort are drawn independently. If request headers control a fault, their percentages can only lower the
//! configured share. The caller counts active faults against `max_active_faults`. The most specific configuration of a
//! route replaces that of the filter.
//!
//! Envoy `filters.http.fault.v3.HTTPFault` and "Fault Injection".

use std::{num::NonZeroU32, time::Duration};

use http::{HeaderMap, HeaderName, StatusCode};

use crate::{
    request::RequestHead,
    value::{ClusterName, FractionalPercent, HeaderMatcher},
};

/// Delays and failures injected before a request is routed on. Delay and abort are drawn independently, delay first.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Fault {
    /// Hold the request for a while.
    pub delay: Option<Delay>,
    /// Respond without an upstream.
    pub abort: Option<Abort>,
    /// Only requests that match all of these are affected; empty = all.
    pub headers: Vec<HeaderMatcher>,
    /// Only requests routed to this cluster are affected.
    pub upstream_cluster: Option<ClusterName>,
    /// Faults active at once, beyond which requests are not affected; `None` = unlimited.
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
#[non_exhaustive]
pub struct Abort {
    /// The response.
    pub status: AbortStatus,
    /// Share of requests aborted.
    pub percentage: FractionalPercent,
}

/// The response of an injected failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbortStatus {
    /// An HTTP status, 200 to 599; a gRPC request gets the mapped gRPC status.
    Http(StatusCode),
    /// A gRPC status, 0 to 16, as a trailers-only response with HTTP 200.
    Grpc(u32),
    /// From the request's `x-envoy-fault-abort-request` or `x-envoy-fault-abort-grpc-request`.
    Header,
}

impl Fault {
    /// Sets the delay.
    #[must_use]
    pub fn with_delay(mut self, delay: Delay) -> Self {
        self.delay = Some(delay);
        self
    }

    /// Sets the abort.
    #[must_use]
    pub fn with_abort(mut self, abort: Abort) -> Self {
        self.abort = Some(abort);
        self
    }
}

impl Abort {
    /// Responds with `status` to a share of the requests.
    #[must_use]
    pub fn new(status: AbortStatus, percentage: FractionalPercent) -> Self {
        Self { status, percentage }
    }
}

/// Milliseconds to hold a request.
pub const X_ENVOY_FAULT_DELAY_REQUEST: HeaderName = HeaderName::from_static("x-envoy-fault-delay-request");
/// Percentage of requests held, at most the configured one.
pub const X_ENVOY_FAULT_DELAY_REQUEST_PERCENTAGE: HeaderName =
    HeaderName::from_static("x-envoy-fault-delay-request-percentage");
/// HTTP status of the response, 200 to 599.
pub const X_ENVOY_FAULT_ABORT_REQUEST: HeaderName = HeaderName::from_static("x-envoy-fault-abort-request");
/// gRPC status of the response, 0 to 16.
pub const X_ENVOY_FAULT_ABORT_GRPC_REQUEST: HeaderName = HeaderName::from_static("x-envoy-fault-abort-grpc-request");
/// Percentage of requests aborted, at most the configured one.
pub const X_ENVOY_FAULT_ABORT_REQUEST_PERCENTAGE: HeaderName =
    HeaderName::from_static("x-envoy-fault-abort-request-percentage");

/// What happens to a request; by default nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultDecision {
    /// Hold it for so long first; flag DI.
    pub delay: Option<Duration>,
    /// Then respond with this; flag FI.
    pub abort: Option<FaultAbort>,
}

/// The response of an injected failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultAbort {
    /// An HTTP status; a gRPC request gets the mapped gRPC status.
    Http(StatusCode),
    /// A gRPC status, with HTTP 200.
    Grpc(u32),
}

/// Decides about `request`, which goes to `cluster` if that is known. `draws` are two fresh random numbers, for delay
/// and abort.
#[must_use]
pub fn decide(fault: &Fault, request: &RequestHead<'_>, cluster: Option<&str>, draws: [u64; 2]) -> FaultDecision {
    let other_cluster = fault.upstream_cluster.as_ref().is_some_and(|name| Some(name.as_str()) != cluster);
    if other_cluster || !fault.headers.iter().all(|header| header.matches(request)) {
        return FaultDecision::default();
    }
    let [delay_draw, abort_draw] = draws;
    FaultDecision {
        delay: fault.delay.as_ref().and_then(|delay| delay_of(delay, request.headers, delay_draw)),
        abort: fault.abort.as_ref().and_then(|abort| abort_of(abort, request.headers, abort_draw)),
    }
}

fn delay_of(delay: &Delay, headers: &HeaderMap, draw: u64) -> Option<Duration> {
    let (duration, percentage) = match delay.fixed_delay {
        Some(duration) => (duration, delay.percentage),
        None => {
            let milliseconds = number(headers, &X_ENVOY_FAULT_DELAY_REQUEST)?;
            let percentage = lowered(delay.percentage, headers, &X_ENVOY_FAULT_DELAY_REQUEST_PERCENTAGE);
            (Duration::from_millis(milliseconds), percentage)
        }
    };
    (!duration.is_zero() && percentage.hits(draw)).then_some(duration)
}

fn abort_of(abort: &Abort, headers: &HeaderMap, draw: u64) -> Option<FaultAbort> {
    let (answer, percentage) = match abort.status {
        AbortStatus::Http(status) => (FaultAbort::Http(status), abort.percentage),
        AbortStatus::Grpc(status) => (FaultAbort::Grpc(status), abort.percentage),
        AbortStatus::Header => {
            let percentage = lowered(abort.percentage, headers, &X_ENVOY_FAULT_ABORT_REQUEST_PERCENTAGE);
            (requested_answer(headers)?, percentage)
        }
    };
    percentage.hits(draw).then_some(answer)
}

fn requested_answer(headers: &HeaderMap) -> Option<FaultAbort> {
    let http = number(headers, &X_ENVOY_FAULT_ABORT_REQUEST).filter(|status| (200..600).contains(status));
    if let Some(status) = http.and_then(|status| StatusCode::from_u16(u16::try_from(status).ok()?).ok()) {
        return Some(FaultAbort::Http(status));
    }
    let grpc = number(headers, &X_ENVOY_FAULT_ABORT_GRPC_REQUEST).filter(|status| *status <= 16)?;
    Some(FaultAbort::Grpc(u32::try_from(grpc).ok()?))
}

/// `configured`, or the percentage in the header, in whole percent, if it is lower.
fn lowered(configured: FractionalPercent, headers: &HeaderMap, name: &HeaderName) -> FractionalPercent {
    let percent = number(headers, name).map(|percent| u32::try_from(percent.min(100)).unwrap_or(100));
    percent.map_or(configured, |percent| configured.min(FractionalPercent::from_parts_per_million(percent * 10_000)))
}

fn number(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::value::{HeaderKey, HeaderMatch, StringMatcher};

    fn decided(fault: &Fault, headers: &[(&'static str, &str)], draws: [u64; 2]) -> FaultDecision {
        let headers: HeaderMap =
            headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect();
        let (method, target_scheme, authority) = (&Method::GET, None, "localhost");
        decide(
            fault,
            &RequestHead { method, target_scheme, authority, path_and_query: "/", headers: &headers },
            Some("up1"),
            draws,
        )
    }

    fn abort(status: AbortStatus, percentage: FractionalPercent) -> Fault {
        Fault { abort: Some(Abort { status, percentage }), ..Fault::default() }
    }

    #[test]
    fn delay_and_abort_are_drawn_independently() {
        let percentage = FractionalPercent::from_parts_per_million(500_000);
        let (delay, status) = (Duration::from_millis(400), StatusCode::TOO_MANY_REQUESTS);
        let fault = Fault {
            delay: Some(Delay { fixed_delay: Some(delay), percentage }),
            abort: Some(Abort { status: AbortStatus::Http(status), percentage }),
            ..Fault::default()
        };
        let abort = FaultAbort::Http(status);
        for (draws, expected) in [
            ([0, 0], (Some(delay), Some(abort))),
            ([0, 999_999], (Some(delay), None)),
            ([999_999, 0], (None, Some(abort))),
            ([999_999, 999_999], (None, None)),
        ] {
            let decision = decided(&fault, &[], draws);
            assert_eq!((decision.delay, decision.abort), expected, "{draws:?}");
        }
    }

    #[test]
    fn headers_choose_the_fault_and_can_only_lower_its_share() {
        let by_header = abort(AbortStatus::Header, FractionalPercent::from_parts_per_million(500_000));
        for (headers, draw, expected) in [
            (&[][..], 0, None),
            (&[("x-envoy-fault-abort-request", "418")], 0, Some(FaultAbort::Http(StatusCode::IM_A_TEAPOT))),
            (&[("x-envoy-fault-abort-request", "199")], 0, None),
            (&[("x-envoy-fault-abort-request", "600")], 0, None),
            (&[("x-envoy-fault-abort-request", "x")], 0, None),
            (&[("x-envoy-fault-abort-grpc-request", "9")], 0, Some(FaultAbort::Grpc(9))),
            (&[("x-envoy-fault-abort-grpc-request", "17")], 0, None),
            (
                &[("x-envoy-fault-abort-request", "418"), ("x-envoy-fault-abort-request-percentage", "100")],
                500_000,
                None,
            ),
            (
                &[("x-envoy-fault-abort-request", "418"), ("x-envoy-fault-abort-request-percentage", "10")],
                100_000,
                None,
            ),
        ] {
            assert_eq!(decided(&by_header, headers, [0, draw]).abort, expected, "{headers:?}");
        }
        let delay = Delay { fixed_delay: None, percentage: FractionalPercent::ALWAYS };
        let by_header = Fault { delay: Some(delay), ..Fault::default() };
        let headers = [("x-envoy-fault-delay-request", "300")];
        assert_eq!(decided(&by_header, &headers, [0, 0]).delay, Some(Duration::from_millis(300)));
        assert_eq!(decided(&by_header, &[], [0, 0]).delay, None);
    }

    #[test]
    fn a_fixed_fault_ignores_headers() {
        let fixed = abort(AbortStatus::Http(StatusCode::BAD_GATEWAY), FractionalPercent::ALWAYS);
        let headers = [("x-envoy-fault-abort-request", "418"), ("x-envoy-fault-abort-request-percentage", "0")];
        assert_eq!(decided(&fixed, &headers, [0, 0]).abort, Some(FaultAbort::Http(StatusCode::BAD_GATEWAY)));
    }

    #[test]
    fn header_and_cluster_conditions_limit_the_fault() {
        let mut fault = abort(AbortStatus::Grpc(14), FractionalPercent::ALWAYS);
        fault.headers.push(HeaderMatcher {
            key: HeaderKey::parse("x-fault").unwrap(),
            matches: HeaderMatch::String(StringMatcher::exact("on")),
            invert_match: false,
            treat_missing_header_as_empty: false,
        });
        assert_eq!(decided(&fault, &[], [0, 0]), FaultDecision::default());
        assert_eq!(decided(&fault, &[("x-fault", "on")], [0, 0]).abort, Some(FaultAbort::Grpc(14)));
        fault.upstream_cluster = Some("up2".into());
        assert_eq!(decided(&fault, &[("x-fault", "on")], [0, 0]), FaultDecision::default());
    }
}
