//! Timeouts of a request.
//!
//! The timeouts of a request come from the route, the retry policy, the connection manager and the request itself. As in
//! Envoy, `x-envoy-upstream-rq-timeout-ms` takes precedence over the route's timeout, and `grpc-timeout`, if the route
//! allows it, over `max_stream_duration`. Envoy "How do I configure timeouts?".

use std::time::Duration;

use http::HeaderMap;

use super::overrides::Overrides;
use crate::{
    grpc,
    model::{MaxStreamDuration, RetryPolicy, RouteAction},
};

/// The timeouts of a request; `None` = unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// Time from the end of the request to the end of the response, retries included.
    pub route: Option<Duration>,
    /// Timeout of one try.
    pub per_try: Option<Duration>,
    /// Idle timeout of one try.
    pub per_try_idle: Option<Duration>,
    /// Maximum duration of the stream.
    pub max_stream_duration: Option<Duration>,
}

/// The timeouts of a route.
#[derive(Clone, Copy, Debug)]
pub struct RouteLimits<'a> {
    /// [`RouteAction::timeout`]; zero = unlimited.
    pub timeout: Duration,
    /// [`RouteAction::max_stream_duration`].
    pub max_stream_duration: Option<&'a MaxStreamDuration>,
}

impl<'a> From<&'a RouteAction> for RouteLimits<'a> {
    fn from(action: &'a RouteAction) -> Self {
        Self { timeout: action.timeout, max_stream_duration: action.max_stream_duration.as_ref() }
    }
}

impl Timeouts {
    /// The timeouts of a request on a route with `retry_policy`. `stream_default` is the connection manager's
    /// `max_stream_duration`. `grpc-timeout` is read from `headers`.
    #[must_use]
    pub fn new(
        limits: RouteLimits<'_>,
        retry_policy: Option<&RetryPolicy>,
        overrides: &Overrides,
        headers: &HeaderMap,
        stream_default: Option<Duration>,
    ) -> Self {
        let route = limited(overrides.timeout.unwrap_or(limits.timeout));
        let per_try = overrides
            .per_try_timeout
            .or_else(|| retry_policy.and_then(|policy| policy.per_try_timeout))
            .and_then(limited)
            // Envoy ignores a per-try timeout that is not below the route timeout.
            .filter(|per_try| route.is_none_or(|route| *per_try < route));
        Self {
            route,
            per_try,
            per_try_idle: retry_policy.and_then(|policy| policy.per_try_idle_timeout).and_then(limited),
            max_stream_duration: max_stream_duration(limits, headers, stream_default),
        }
    }

    /// The timeouts of a request that a program responds to itself, from the `action` of its route. A route that does not
    /// forward (`None`) has no timeouts of its own. Its requests are limited by `grpc-timeout`, as in any gRPC server, and by
    /// `stream_default`, the connection manager's `max_stream_duration`.
    ///
    /// A gRPC server enforces the deadline of its client by default; gRFC A31 leaves this to the program.
    #[must_use]
    pub fn of_program(action: Option<&RouteAction>, headers: &HeaderMap, stream_default: Option<Duration>) -> Self {
        let by_client = MaxStreamDuration {
            grpc_timeout_header_max: Some(stream_default.unwrap_or(Duration::ZERO)),
            ..MaxStreamDuration::default()
        };
        let own = RouteLimits { timeout: Duration::ZERO, max_stream_duration: Some(&by_client) };
        Self::new(action.map_or(own, RouteLimits::from), None, &Overrides::default(), headers, stream_default)
    }

    /// The value of `x-envoy-expected-rq-timeout-ms` for a try that starts after `elapsed`: the time that the upstream has
    /// to respond.
    #[must_use]
    pub fn expected(&self, elapsed: Duration) -> Option<Duration> {
        let left = |limit: Duration| if elapsed.is_zero() { limit } else { left(limit, elapsed) };
        match (self.per_try, self.route) {
            (Some(per_try), Some(route)) => Some(per_try.min(left(route))),
            (Some(per_try), None) => Some(per_try),
            (None, route) => route.map(left),
        }
    }
}

#[cold]
fn left(limit: Duration, elapsed: Duration) -> Duration {
    // The header has whole milliseconds, so a fraction of one is not subtracted.
    let elapsed = Duration::new(elapsed.as_secs(), elapsed.subsec_millis() * 1_000_000);
    // Zero would mean unlimited.
    limit.saturating_sub(elapsed).max(Duration::from_millis(1))
}

fn limited(duration: Duration) -> Option<Duration> {
    (!duration.is_zero()).then_some(duration)
}

fn max_stream_duration(
    limits: RouteLimits<'_>,
    headers: &HeaderMap,
    stream_default: Option<Duration>,
) -> Option<Duration> {
    let Some(config) = limits.max_stream_duration else { return stream_default.and_then(limited) };
    if let Some(max) = config.grpc_timeout_header_max
        && let Some(requested) = headers.get(grpc::GRPC_TIMEOUT).and_then(grpc::parse_timeout)
    {
        let capped = limited(max).map_or(requested, |max| requested.min(max));
        // Zero is an expired deadline here, not an unlimited one.
        return Some(capped.saturating_sub(config.grpc_timeout_header_offset));
    }
    config.max_stream_duration.or(stream_default).and_then(limited)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::model::MaxStreamDuration;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn action(timeout: Duration) -> RouteAction {
        RouteAction { timeout, ..RouteAction::to_cluster("c") }
    }

    fn retry(per_try_timeout: Duration) -> RetryPolicy {
        RetryPolicy { per_try_timeout: Some(per_try_timeout), ..RetryPolicy::default() }
    }

    #[test]
    fn a_request_may_replace_the_routes_timeouts() {
        // (route, per try) in the configuration and in the request's headers; zero is unlimited.
        let check = |configured: (u64, u64),
                     requested: (Option<u64>, Option<u64>),
                     expected: (Option<u64>, Option<u64>)| {
            let overrides = Overrides {
                timeout: requested.0.map(ms),
                per_try_timeout: requested.1.map(ms),
                ..Overrides::default()
            };
            let policy = retry(ms(configured.1));
            let timeouts =
                Timeouts::new((&action(ms(configured.0))).into(), Some(&policy), &overrides, &HeaderMap::new(), None);
            let actual = (timeouts.route, timeouts.per_try);
            assert_eq!(actual, (expected.0.map(ms), expected.1.map(ms)), "{configured:?} requested {requested:?}");
        };
        check((5_000, 0), (None, None), (Some(5_000), None));
        check((5_000, 200), (None, None), (Some(5_000), Some(200)));
        check((5_000, 0), (Some(300), None), (Some(300), None));
        check((5_000, 0), (Some(0), None), (None, None));
        check((0, 200), (None, None), (None, Some(200)));
        check((5_000, 0), (None, Some(200)), (Some(5_000), Some(200)));
        check((5_000, 300), (None, Some(0)), (Some(5_000), None));
        // A per-try timeout that is not below the route timeout is ignored.
        check((5_000, 5_000), (None, None), (Some(5_000), None));
        check((5_000, 400), (Some(300), None), (Some(300), None));
    }

    #[test]
    fn the_expected_timeout_is_the_time_left_for_the_try() {
        let timeouts = |route: Option<u64>, per_try: Option<u64>| Timeouts {
            route: route.map(ms),
            per_try: per_try.map(ms),
            ..Timeouts::default()
        };
        let check = |route, per_try, elapsed, expected: Option<u64>| {
            assert_eq!(timeouts(route, per_try).expected(ms(elapsed)), expected.map(ms), "{route:?} {per_try:?}");
        };
        check(Some(15_000), None, 0, Some(15_000));
        check(Some(15_000), None, 1_000, Some(14_000));
        check(Some(15_000), None, 20_000, Some(1));
        check(Some(1_000), Some(300), 200, Some(300));
        check(Some(1_000), Some(300), 900, Some(100));
        check(None, Some(300), 900, Some(300));
        check(None, None, 900, None);
        assert_eq!(timeouts(Some(300), None).expected(Duration::from_micros(999)), Some(ms(300)));
    }

    #[test]
    fn grpc_timeout_is_used_if_the_route_allows_it() {
        let check = |config: Option<MaxStreamDuration>, header: Option<&'static str>, expected: Option<u64>| {
            let action = RouteAction { max_stream_duration: config, ..action(Duration::ZERO) };
            let mut headers = HeaderMap::new();
            headers.extend(header.map(|value| (grpc::GRPC_TIMEOUT, HeaderValue::from_static(value))));
            let timeouts = Timeouts::new((&action).into(), None, &Overrides::default(), &headers, Some(ms(9_000)));
            assert_eq!(timeouts.max_stream_duration, expected.map(ms), "{config:?} {header:?}");
        };
        let grpc = |max, offset| {
            Some(MaxStreamDuration {
                max_stream_duration: Some(ms(700)),
                grpc_timeout_header_max: Some(ms(max)),
                grpc_timeout_header_offset: ms(offset),
            })
        };
        check(None, Some("1S"), Some(9_000));
        check(Some(MaxStreamDuration::default()), Some("1S"), Some(9_000));
        let fixed = MaxStreamDuration { max_stream_duration: Some(ms(0)), ..MaxStreamDuration::default() };
        check(Some(fixed), None, None);
        check(grpc(500, 0), None, Some(700));
        check(grpc(500, 0), Some("soon"), Some(700));
        check(grpc(500, 0), Some("200m"), Some(200));
        check(grpc(500, 0), Some("1S"), Some(500));
        check(grpc(0, 0), Some("1S"), Some(1_000));
        check(grpc(0, 100), Some("1S"), Some(900));
        check(grpc(0, 100), Some("50m"), Some(0));
    }

    #[test]
    fn the_deadline_of_the_client_applies_to_a_program() {
        let check = |action: Option<&RouteAction>,
                     header: Option<&'static str>,
                     listener,
                     expected: (Option<u64>, _)| {
            let mut headers = HeaderMap::new();
            headers.extend(header.map(|value| (grpc::GRPC_TIMEOUT, HeaderValue::from_static(value))));
            let timeouts = Timeouts::of_program(action, &headers, Option::map(listener, ms));
            let actual = (timeouts.route, timeouts.max_stream_duration);
            assert_eq!(actual, (expected.0.map(ms), Option::map(expected.1, ms)), "{action:?} {header:?} {listener:?}");
        };
        check(None, None, None, (None, None));
        check(None, None, Some(300), (None, Some(300)));
        check(None, Some("200m"), None, (None, Some(200)));
        check(None, Some("200m"), Some(300), (None, Some(200)));
        check(None, Some("1S"), Some(300), (None, Some(300)));
        // The timeouts of a route with an action apply, as in a sidecar.
        check(Some(&action(ms(500))), Some("200m"), None, (Some(500), None));
    }
}
