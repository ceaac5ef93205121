//! Request headers that override retries and timeouts. Envoy "Router", HTTP headers consumed from downstream clients.
//!
//! [`policy::forwarded`](crate::policy::forwarded) removes these headers from external requests, so all that are present
//! here are trusted.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::{model::RetryOn, request::X_ENVOY_PREFIX};

/// The overrides of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `x-envoy-retry-on` and `x-envoy-retry-grpc-on`: added to the route's conditions. Unknown conditions are ignored.
    pub retry_on: RetryOn,
    /// `x-envoy-max-retries`: replaces `num_retries`.
    pub max_retries: Option<u32>,
    /// Further responses that are retried.
    pub retriable: Option<Box<Retriable>>,
    /// `x-envoy-upstream-rq-timeout-ms`: replaces the route timeout; zero = unlimited.
    pub timeout: Option<Duration>,
    /// `x-envoy-upstream-rq-per-try-timeout-ms`: replaces `per_try_timeout`; zero = unlimited.
    pub per_try_timeout: Option<Duration>,
    /// `x-envoy-internal` is `true`: the request is internal. The header is kept.
    pub internal: bool,
}

/// Responses that are retried because the request says so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retriable {
    /// `x-envoy-retriable-status-codes`: added to the route's.
    pub status_codes: Vec<StatusCode>,
    /// `x-envoy-retriable-header-names`: a response with any of these headers is retried by `retriable-headers`.
    pub header_names: Vec<HeaderName>,
}

const RETRY_ON: HeaderName = HeaderName::from_static("x-envoy-retry-on");
const RETRY_GRPC_ON: HeaderName = HeaderName::from_static("x-envoy-retry-grpc-on");
const MAX_RETRIES: HeaderName = HeaderName::from_static("x-envoy-max-retries");
const RETRIABLE_STATUS_CODES: HeaderName = HeaderName::from_static("x-envoy-retriable-status-codes");
const RETRIABLE_HEADER_NAMES: HeaderName = HeaderName::from_static("x-envoy-retriable-header-names");
const TIMEOUT_MS: HeaderName = HeaderName::from_static("x-envoy-upstream-rq-timeout-ms");
const PER_TRY_TIMEOUT_MS: HeaderName = HeaderName::from_static("x-envoy-upstream-rq-per-try-timeout-ms");
const INTERNAL: HeaderName = HeaderName::from_static("x-envoy-internal");
const HEDGE_ON_PER_TRY_TIMEOUT: HeaderName = HeaderName::from_static("x-envoy-hedge-on-per-try-timeout");

impl Overrides {
    /// Removes the headers from a request, because they are meant for this hop, and parses them. Invalid values are
    /// ignored.
    #[must_use]
    pub fn take_from(headers: &mut HeaderMap) -> Self {
        if headers.keys().any(|name| name.as_str().starts_with(X_ENVOY_PREFIX)) {
            Self::read(headers)
        } else {
            Self::default()
        }
    }

    #[inline(never)]
    fn read(headers: &mut HeaderMap) -> Self {
        let internal = headers.get(INTERNAL).is_some_and(|value| value == "true");
        let mut overrides = Self { internal, ..Self::default() };
        for name in [RETRY_ON, RETRY_GRPC_ON] {
            if let Some(value) = headers.remove(name).as_ref().and_then(text) {
                overrides.retry_on = overrides.retry_on.union(known_conditions(value));
            }
        }
        overrides.max_retries =
            take_number(headers, &MAX_RETRIES).map(|number| u32::try_from(number).unwrap_or(u32::MAX));
        let milliseconds = |number: Option<u64>| number.map(Duration::from_millis);
        overrides.timeout = milliseconds(take_number(headers, &TIMEOUT_MS));
        overrides.per_try_timeout = milliseconds(take_number(headers, &PER_TRY_TIMEOUT_MS));
        let (codes, names) = (headers.remove(RETRIABLE_STATUS_CODES), headers.remove(RETRIABLE_HEADER_NAMES));
        if codes.is_some() || names.is_some() {
            overrides.retriable = Some(Box::new(Retriable {
                status_codes: codes.iter().flat_map(list).filter_map(|code| code.parse().ok()).collect(),
                header_names: names.iter().flat_map(list).filter_map(|name| name.parse().ok()).collect(),
            }));
        }
        // Hedging is not supported; the header is meant for this hop anyway.
        headers.remove(HEDGE_ON_PER_TRY_TIMEOUT);
        overrides
    }
}

fn take_number(headers: &mut HeaderMap, name: &HeaderName) -> Option<u64> {
    headers.remove(name).as_ref().and_then(text)?.trim().parse().ok()
}

fn text(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok()
}

fn list(value: &HeaderValue) -> impl Iterator<Item = &str> {
    text(value).unwrap_or_default().split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// The known conditions of a list. Either header may contain HTTP and gRPC conditions, as their names do not overlap.
fn known_conditions(value: &str) -> RetryOn {
    value.split(',').filter_map(|condition| RetryOn::parse(condition).ok()).fold(RetryOn::NONE, RetryOn::union)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines.iter().map(|&(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn headers_are_parsed_and_removed() {
        let mut request = headers(&[
            ("x-envoy-retry-on", "5xx, sometimes,retriable-status-codes"),
            ("x-envoy-retry-grpc-on", "unavailable"),
            ("x-envoy-max-retries", "4"),
            ("x-envoy-retriable-status-codes", "404, 409,x"),
            ("x-envoy-retriable-header-names", "x-again"),
            ("x-envoy-upstream-rq-timeout-ms", "300"),
            ("x-envoy-upstream-rq-per-try-timeout-ms", "0"),
            ("x-envoy-hedge-on-per-try-timeout", "true"),
            ("x-envoy-attempt-count", "1"),
            ("x-envoy-internal", "true"),
            ("accept", "*/*"),
        ]);
        let overrides = Overrides::take_from(&mut request);
        assert_eq!(
            overrides,
            Overrides {
                retry_on: RetryOn::FIVE_XX.union(RetryOn::RETRIABLE_STATUS_CODES).union(RetryOn::UNAVAILABLE),
                max_retries: Some(4),
                retriable: Some(Box::new(Retriable {
                    status_codes: vec![StatusCode::NOT_FOUND, StatusCode::CONFLICT],
                    header_names: vec![HeaderName::from_static("x-again")],
                })),
                timeout: Some(Duration::from_millis(300)),
                per_try_timeout: Some(Duration::ZERO),
                internal: true,
            }
        );
        let left = [("x-envoy-attempt-count", "1"), ("x-envoy-internal", "true"), ("accept", "*/*")];
        assert_eq!(request, headers(&left));
    }

    #[test]
    fn invalid_values_are_ignored() {
        let mut request = headers(&[
            ("x-envoy-max-retries", "many"),
            ("x-envoy-upstream-rq-timeout-ms", "bad"),
            ("x-envoy-upstream-rq-per-try-timeout-ms", "-1"),
        ]);
        assert_eq!(Overrides::take_from(&mut request), Overrides::default());
        assert!(request.is_empty());
    }
}
