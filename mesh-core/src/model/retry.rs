//! Retry configuration. Envoy `route.v3.RetryPolicy`; the conditions are documented with Envoy's header
//! `x-envoy-retry-on`.

use std::time::Duration;

use http::StatusCode;
use thiserror::Error;

use super::{FractionalPercent, HeaderMatcher};

/// A set of retry conditions. Envoy `x-envoy-retry-on` and `x-envoy-retry-grpc-on`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryOn(u32);

/// A retry condition that Envoy does not know.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("unknown retry condition {0:?}")]
pub struct UnknownRetryCondition(pub String);

macro_rules! retry_conditions {
    ($($(#[$doc:meta])* $constant:ident = $name:literal << $bit:literal;)*) => {
        impl RetryOn {
            $($(#[$doc])* pub const $constant: Self = Self(1 << $bit);)*

            /// Every condition with its configured name.
            pub const ALL: &'static [(&'static str, Self)] = &[$(($name, Self::$constant)),*];
        }
    };
}

retry_conditions! {
    /// A 5xx response, or no response: disconnect, reset, per-try timeout. Includes connect-failure and refused-stream.
    FIVE_XX = "5xx" << 0;
    /// A response with 502, 503 or 504.
    GATEWAY_ERROR = "gateway-error" << 1;
    /// No response: disconnect, reset, per-try timeout.
    RESET = "reset" << 2;
    /// No response, and the request headers were not sent.
    RESET_BEFORE_REQUEST = "reset-before-request" << 3;
    /// The connection could not be established: refused, connect timeout.
    CONNECT_FAILURE = "connect-failure" << 4;
    /// A response with `x-envoy-ratelimited`.
    ENVOY_RATELIMITED = "envoy-ratelimited" << 5;
    /// A response with 409.
    RETRIABLE_4XX = "retriable-4xx" << 6;
    /// The upstream reset the stream with REFUSED_STREAM.
    REFUSED_STREAM = "refused-stream" << 7;
    /// A response with a status in [`RetryPolicy::retriable_status_codes`].
    RETRIABLE_STATUS_CODES = "retriable-status-codes" << 8;
    /// A response with a header in [`RetryPolicy::retriable_headers`].
    RETRIABLE_HEADERS = "retriable-headers" << 9;
    /// HTTP/3 only; accepted and never true, because HTTP/3 is not supported.
    HTTP3_POST_CONNECT_FAILURE = "http3-post-connect-failure" << 10;
    /// gRPC status 1 in response headers.
    CANCELLED = "cancelled" << 11;
    /// gRPC status 4 in response headers.
    DEADLINE_EXCEEDED = "deadline-exceeded" << 12;
    /// gRPC status 13 in response headers.
    INTERNAL = "internal" << 13;
    /// gRPC status 8 in response headers.
    RESOURCE_EXHAUSTED = "resource-exhausted" << 14;
    /// gRPC status 14 in response headers.
    UNAVAILABLE = "unavailable" << 15;
}

impl RetryOn {
    /// The empty set: never retry.
    pub const NONE: Self = Self(0);

    /// Parses a comma-separated list; spaces are ignored.
    ///
    /// # Errors
    /// At the first condition that is not in [`RetryOn::ALL`].
    pub fn parse(list: &str) -> Result<Self, UnknownRetryCondition> {
        let mut set = Self::NONE;
        for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let (_, condition) = Self::ALL
                .iter()
                .find(|(known, _)| *known == name)
                .ok_or_else(|| UnknownRetryCondition(name.to_owned()))?;
            set = set.union(*condition);
        }
        Ok(set)
    }

    /// Whether any condition of `other` is in this set.
    #[must_use]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The conditions of both sets.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Delay before the n-th retry: random in `[0, (2^n - 1) * base_interval)`, capped by `max_interval`. Envoy
/// `RetryPolicy.RetryBackOff`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackOff {
    /// Default 25 ms, at least 1 ms.
    pub base_interval: Duration,
    /// Default ten times the base, never below it.
    pub max_interval: Duration,
}

impl BackOff {
    /// Creates a back-off with the default `max_interval` of ten times `base_interval`.
    #[must_use]
    pub fn from_base(base_interval: Duration) -> Self {
        Self { base_interval, max_interval: base_interval.saturating_mul(10) }
    }
}

impl Default for BackOff {
    fn default() -> Self {
        Self::from_base(Duration::from_millis(25))
    }
}

/// When and how a request is tried again. Envoy `route.v3.RetryPolicy`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// The conditions under which a request is retried.
    pub retry_on: RetryOn,
    /// Retries after the first try. Default 1.
    pub num_retries: u32,
    /// Timeout for one try; `None` = the route timeout only. Ignored unless below the route timeout.
    pub per_try_timeout: Option<Duration>,
    /// Idle timeout for one try; `None` = unlimited.
    pub per_try_idle_timeout: Option<Duration>,
    /// Avoid endpoints that were tried before. Default false. Envoy `envoy.retry_host_predicates.previous_hosts`.
    pub previous_hosts: bool,
    /// How often another endpoint is picked if a host predicate rejects one; then the last one is used. Default 1 (Istio
    /// 5).
    pub host_selection_retry_max_attempts: u32,
    /// Status codes for `retriable-status-codes`.
    pub retriable_status_codes: Vec<StatusCode>,
    /// Response headers for `retriable-headers`; one match suffices.
    pub retriable_headers: Vec<HeaderMatcher>,
    /// Only requests that match one of these are retried; empty = all.
    pub retriable_request_headers: Vec<HeaderMatcher>,
    /// Delay between tries.
    pub back_off: BackOff,
}

impl RetryPolicy {
    /// Retries once under these conditions, with Envoy's defaults.
    #[must_use]
    pub fn new(retry_on: RetryOn) -> Self {
        Self {
            retry_on,
            num_retries: 1,
            per_try_timeout: None,
            per_try_idle_timeout: None,
            previous_hosts: false,
            host_selection_retry_max_attempts: 1,
            retriable_status_codes: Vec::new(),
            retriable_headers: Vec::new(),
            retriable_request_headers: Vec::new(),
            back_off: BackOff::default(),
        }
    }

    /// The same with another number of retries.
    #[must_use]
    pub fn with_num_retries(mut self, num_retries: u32) -> Self {
        self.num_retries = num_retries;
        self
    }

    /// The same with a timeout for each try.
    #[must_use]
    pub fn with_per_try_timeout(mut self, per_try_timeout: Duration) -> Self {
        self.per_try_timeout = Some(per_try_timeout);
        self
    }
}

impl Default for RetryPolicy {
    /// Never retries.
    fn default() -> Self {
        Self::new(RetryOn::NONE)
    }
}

/// Limit on active retries relative to active requests; replaces `max_retries`. Envoy
/// `cluster.v3.CircuitBreakers.Thresholds.RetryBudget`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryBudget {
    /// Percentage of active and pending requests that may be retries. Default 20.
    pub budget_percent: FractionalPercent,
    /// Number of concurrent retries that are always allowed. Default 3.
    pub min_retry_concurrency: u32,
}

impl RetryBudget {
    /// Limits retries to a share of the requests, and always allows `min_retry_concurrency`.
    #[must_use]
    pub fn new(budget_percent: impl Into<FractionalPercent>, min_retry_concurrency: u32) -> Self {
        Self { budget_percent: budget_percent.into(), min_retry_concurrency }
    }
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self::new(FractionalPercent::from_parts_per_million(200_000), 3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn condition_lists_parse_and_unknown_ones_are_named() {
        let set = RetryOn::parse("gateway-error, connect-failure,,unavailable").unwrap();
        assert!(set.intersects(RetryOn::UNAVAILABLE) && set.intersects(RetryOn::GATEWAY_ERROR));
        assert!(!set.intersects(RetryOn::FIVE_XX));
        assert_eq!(RetryOn::parse("5xx,sometimes").unwrap_err().to_string(), "unknown retry condition \"sometimes\"");
    }
}
