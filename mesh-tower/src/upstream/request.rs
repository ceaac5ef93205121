//! Changes of a request before it is sent upstream.
//!
//! [`prepare`] makes the changes that are the same for every try, [`begin_try`] the others. The transport writes the
//! request in the form of the protocol, such as the position of the authority.

use std::{str::FromStr as _, sync::Arc, time::Duration};

use http::{
    HeaderMap, HeaderName, HeaderValue, Uri,
    header::HOST,
    request::Parts,
    uri::{Authority, PathAndQuery},
};
use mesh_core::{
    policy::header_mutation::{self, Changes},
    request::RequestHead,
    route::AuthorityRewrite,
    telemetry::Attributes,
};

use super::exchange::Exchange;
use crate::headers::apply_to_request;

const X_ENVOY_ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");
const X_ENVOY_ORIGINAL_HOST: HeaderName = HeaderName::from_static("x-envoy-original-host");
const X_ENVOY_EXPECTED_RQ_TIMEOUT_MS: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
pub(super) const X_ENVOY_ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");
const FIRST_ATTEMPT: u32 = 1;
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Makes the changes that are the same for every try. As in Envoy, configured headers are evaluated before the host and the
/// path are rewritten.
pub(super) fn prepare(parts: &mut Parts, exchange: &Exchange<'_>) {
    if exchange.route.changes_requests() {
        change(parts, exchange);
    }
}

#[inline(never)]
fn change(parts: &mut Parts, exchange: &Exchange<'_>) {
    mutate_headers(parts, exchange);
    let authority = match exchange.route.rewrite_authority(exchange.weighted, parts.uri.path(), &parts.headers) {
        AuthorityRewrite::Keep | AuthorityRewrite::EndpointHostname => None,
        AuthorityRewrite::Set(value) => Some((value.into_owned(), Original::Kept)),
        AuthorityRewrite::SetSilently(value) => Some((value.clone(), Original::OnlyForwarded)),
    };
    if let Some((value, original)) = authority {
        rewrite_authority(parts, exchange, value, original);
    }
    rewrite_path(parts, exchange);
}

/// Makes the changes that differ from try to try.
pub(super) fn begin_try(parts: &mut Parts, exchange: &Exchange<'_>, attempt: u32, expected: Option<Duration>) {
    if exchange.options.envoy_headers
        && let Some(expected) = expected
    {
        // Envoy subtracts whole milliseconds only.
        let begun = u64::from(expected.subsec_micros().div_ceil(1_000));
        let milliseconds = expected.as_secs().saturating_mul(1_000).saturating_add(begun);
        parts.headers.insert(X_ENVOY_EXPECTED_RQ_TIMEOUT_MS, HeaderValue::from(milliseconds));
    }
    number_attempt(parts, exchange, attempt);
}

fn number_attempt(parts: &mut Parts, exchange: &Exchange<'_>, attempt: u32) {
    if exchange.route.include_request_attempt_count() {
        parts.headers.insert(X_ENVOY_ATTEMPT_COUNT, HeaderValue::from(attempt));
    }
}

/// The headers that keep an authority that is rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Original {
    /// `x-envoy-original-host`, and `x-forwarded-host` if the route is configured so.
    Kept,
    /// `x-forwarded-host` if the route is configured so.
    OnlyForwarded,
    /// None, because an earlier try has kept it.
    Dropped,
}

/// Rewrites the authority to the host name of the endpoint, if the route is configured so. Returns whether it was rewritten.
pub(super) fn use_endpoint_hostname(
    parts: &mut Parts,
    exchange: &Exchange<'_>,
    hostname: Option<&str>,
    original: Original,
) -> bool {
    let Some(hostname) = hostname else { return false };
    let rewrite = exchange.route.rewrite_authority(exchange.weighted, parts.uri.path(), &parts.headers);
    match HeaderValue::from_str(hostname) {
        Ok(value) if rewrite == AuthorityRewrite::EndpointHostname => {
            rewrite_authority(parts, exchange, value, original);
            true
        }
        _ => false,
    }
}

fn mutate_headers(parts: &mut Parts, exchange: &Exchange<'_>) {
    let levels = || exchange.route.request_headers(exchange.weighted);
    match exchange.route.request_changes() {
        Changes::None => {}
        Changes::Literal => header_mutation::apply_to_request(levels(), &mut parts.headers, &Attributes::default()),
        Changes::Evaluated => {
            // Values are evaluated for the first try and used for all.
            number_attempt(parts, exchange, FIRST_ATTEMPT);
            let state = exchange.info.state();
            let known = state.attributes(exchange.info);
            let attributes = Attributes { upstream_request_attempt_count: FIRST_ATTEMPT, ..known };
            apply_to_request(levels(), parts, &attributes);
        }
    }
}

fn rewrite_authority(parts: &mut Parts, exchange: &Exchange<'_>, value: HeaderValue, kept: Original) {
    let original = authority(parts).filter(|_| kept != Original::Dropped);
    if kept == Original::Kept
        && exchange.options.envoy_headers
        && let Some(original) = &original
    {
        parts.headers.insert(X_ENVOY_ORIGINAL_HOST, original.clone());
    }
    if let Some(original) = original
        && exchange.route.action().is_some_and(|action| action.append_x_forwarded_host)
    {
        append_comma_separated(&mut parts.headers, &X_FORWARDED_HOST, &original);
    }
    if parts.uri.authority().is_none() {
        parts.headers.insert(HOST, value);
        return;
    }
    let Ok(new) = Authority::try_from(value.as_bytes()) else { return };
    let mut target = std::mem::take(&mut parts.uri).into_parts();
    target.authority = Some(new);
    parts.uri = Uri::from_parts(target).expect("a target with an authority keeps its scheme and path");
}

fn rewrite_path(parts: &mut Parts, exchange: &Exchange<'_>) {
    let Some(original) = parts.uri.path_and_query() else { return };
    let Some(rewritten) = exchange.route.rewrite_path(original.as_str()) else { return };
    // A substitution may make an invalid path. Then the original is sent.
    let Ok(rewritten) = PathAndQuery::try_from(rewritten) else { return };
    if exchange.options.envoy_headers
        && let Ok(original) = HeaderValue::from_str(original.as_str())
    {
        parts.headers.insert(X_ENVOY_ORIGINAL_PATH, original);
    }
    let mut target = std::mem::take(&mut parts.uri).into_parts();
    target.path_and_query = Some(rewritten);
    parts.uri = Uri::from_parts(target).expect("another path in the place of one");
}

/// The authority, from the request target or from `host`.
fn authority(parts: &Parts) -> Option<HeaderValue> {
    match parts.uri.authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => parts.headers.get(HOST).cloned(),
    }
}

fn append_comma_separated(headers: &mut HeaderMap, name: &HeaderName, value: &HeaderValue) {
    let joined = match headers.get(name) {
        Some(present) => [present.as_bytes(), b",", value.as_bytes()].concat(),
        None => value.as_bytes().to_vec(),
    };
    if let Ok(joined) = HeaderValue::from_maybe_shared(bytes::Bytes::from(joined)) {
        headers.insert(name, joined);
    }
}

/// The host of a request, without its port.
#[cold]
pub(super) fn server_name(head: &Parts) -> Option<Arc<str>> {
    let authority = RequestHead::from_parts(head).authority;
    let host = Authority::from_str(authority).ok()?;
    Some(host.host().trim_start_matches('[').trim_end_matches(']').into())
}
