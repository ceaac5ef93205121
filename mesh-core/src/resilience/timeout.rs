//! How long a request may take (E4, E6).
//!
//! The effective limits of one request, from the route, the retry policy, the connection manager, and what the request
//! itself asks for. Precedence is Envoy's: `x-envoy-upstream-rq-timeout-ms` over the route's timeout, and `grpc-timeout`,
//! where the route admits it, over the stream duration.

use std::time::Duration;

use http::HeaderMap;

use super::overrides::Overrides;
use crate::{
    model::{RetryPolicy, RouteAction},
    policy::grpc,
};

/// Limits of one request; `None` = unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// From the end of the request to the end of the response, retries included.
    pub route: Option<Duration>,
    /// For one try.
    pub per_try: Option<Duration>,
    /// Longest silence within one try.
    pub per_try_idle: Option<Duration>,
    /// For the whole stream, from its begin.
    pub max_stream_duration: Option<Duration>,
}

impl Timeouts {
    /// The limits of a request on `action` under `retry_policy`; `stream_default` is the connection manager's
    /// `max_stream_duration`. `headers` are read for `grpc-timeout`.
    #[must_use]
    pub fn new(
        action: &RouteAction,
        retry_policy: Option<&RetryPolicy>,
        overrides: &Overrides,
        headers: &HeaderMap,
        stream_default: Option<Duration>,
    ) -> Self {
        let route = limited(overrides.timeout.unwrap_or(action.timeout));
        let per_try = overrides
            .per_try_timeout
            .or_else(|| retry_policy.and_then(|policy| policy.per_try_timeout))
            .and_then(limited)
            // A try that may take as long as the request is not limited by itself.
            .filter(|per_try| route.is_none_or(|route| *per_try < route));
        Self {
            route,
            per_try,
            per_try_idle: retry_policy.and_then(|policy| policy.per_try_idle_timeout).and_then(limited),
            max_stream_duration: max_stream_duration(action, headers, stream_default),
        }
    }

    /// What `x-envoy-expected-rq-timeout-ms` tells the upstream when `elapsed` has passed: the limit of this try.
    #[must_use]
    pub fn expected(&self, elapsed: Duration) -> Option<Duration> {
        // Zero would mean unlimited; a millisecond says that time is up.
        let left = |limit: Duration| limit.saturating_sub(elapsed).max(Duration::from_millis(1));
        match (self.per_try, self.route) {
            (Some(per_try), Some(route)) => Some(per_try.min(left(route))),
            (Some(per_try), None) => Some(per_try),
            (None, route) => route.map(left),
        }
    }
}

fn limited(duration: Duration) -> Option<Duration> {
    (!duration.is_zero()).then_some(duration)
}

fn max_stream_duration(
    action: &RouteAction,
    headers: &HeaderMap,
    stream_default: Option<Duration>,
) -> Option<Duration> {
    let Some(config) = &action.max_stream_duration else { return stream_default.and_then(limited) };
    if let Some(max) = config.grpc_timeout_header_max
        && let Some(asked) = headers.get(grpc::GRPC_TIMEOUT).and_then(grpc::parse_timeout)
    {
        let capped = limited(max).map_or(asked, |max| asked.min(max));
        // A caller whose time is up gets no time, not unlimited time.
        return Some(capped.saturating_sub(config.grpc_timeout_header_offset));
    }
    config.max_stream_duration.or(stream_default).and_then(limited)
}
