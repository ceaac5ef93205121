//! Cross-origin resource sharing: responds to preflight requests, and adds the headers with which browsers let allowed
//! origins read responses.
//!
//! The filter has no configuration of its own in a chain. Its policies come from the route configuration, and each field is
//! taken from the most specific policy that has it. Redirects and direct responses have no policy.
//!
//! Envoy `filters.http.cors.v3` and "CORS"; the CORS protocol of the Fetch standard. A request has one random draw for
//! `filter_enabled` and one for `shadow_enabled`; Envoy draws again each time it checks them.

use std::sync::Arc;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{
        ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
        ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
        ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN,
    },
};

use crate::{
    request::RequestHead,
    value::{FractionalPercent, StringMatcher},
};

/// `access-control-request-private-network`: requests access to a network that is more private than the origin's.
pub const ACCESS_CONTROL_REQUEST_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-request-private-network");
/// `access-control-allow-private-network`: allows it.
pub const ACCESS_CONTROL_ALLOW_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-allow-private-network");

/// The filter in a chain. Without a [`CorsPolicy`] in the route configuration it does nothing. Envoy
/// `filters.http.cors.v3.Cors`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cors;

/// Which origins may read what. Envoy `filters.http.cors.v3.CorsPolicy`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CorsPolicy {
    /// The origins that are allowed: one of these must match. A matcher of `*` allows all. Empty = not given.
    pub allow_origin_string_match: Vec<StringMatcher>,
    /// Value of `access-control-allow-methods`; `*` repeats the requested method.
    pub allow_methods: Option<HeaderValue>,
    /// Value of `access-control-allow-headers`; `*` repeats the requested headers.
    pub allow_headers: Option<HeaderValue>,
    /// Value of `access-control-expose-headers`.
    pub expose_headers: Option<HeaderValue>,
    /// Value of `access-control-max-age`, in seconds.
    pub max_age: Option<HeaderValue>,
    /// Send `access-control-allow-credentials: true`. Default false.
    pub allow_credentials: Option<bool>,
    /// Allow requests to a more private network. Default false.
    pub allow_private_network_access: Option<bool>,
    /// Pass on preflight requests of origins that are not allowed, instead of responding without
    /// `access-control-allow-origin`. Default true.
    pub forward_not_matching_preflights: Option<bool>,
    /// Share of requests to which the policy applies. Default always. Only that of the most specific policy counts.
    pub filter_enabled: FractionalPercent,
    /// Share of requests whose origin is counted if the policy does not apply. Default never. Only that of the most specific
    /// policy counts.
    pub shadow_enabled: FractionalPercent,
}

impl Default for CorsPolicy {
    fn default() -> Self {
        Self {
            allow_origin_string_match: Vec::new(),
            allow_methods: None,
            allow_headers: None,
            expose_headers: None,
            max_age: None,
            allow_credentials: None,
            allow_private_network_access: None,
            forward_not_matching_preflights: None,
            filter_enabled: FractionalPercent::ALWAYS,
            shadow_enabled: FractionalPercent::ZERO,
        }
    }
}

/// The decision about a request with an origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorsDecision {
    /// Whether the origin is allowed. Envoy counts it in `cors.origin_valid` or `cors.origin_invalid`.
    pub origin_allowed: bool,
    /// Headers of the response to a preflight request; `None` = the request is passed on.
    pub preflight: Option<HeaderMap>,
    /// Changes of the response, also of that to a preflight request; `None` = no changes.
    pub response: Option<CorsResponse>,
}

/// Headers that let the origin read a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorsResponse {
    allow_origin: HeaderValue,
    allow_credentials: bool,
    expose_headers: Option<HeaderValue>,
}

impl CorsResponse {
    /// Sets the headers in a response.
    pub fn apply(self, headers: &mut HeaderMap) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, self.allow_origin);
        if self.allow_credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
        }
        if let Some(expose) = self.expose_headers {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, expose);
        }
    }
}

const TRUE: HeaderValue = HeaderValue::from_static("true");

/// Decides about `request`. `policies` begin with the most specific one. `draws` are two random numbers, for
/// `filter_enabled` and `shadow_enabled`. `None` if there is no policy, if it does not apply, or if the request has no
/// origin.
#[must_use]
pub fn decide<'p>(
    policies: &(impl Iterator<Item = &'p Arc<CorsPolicy>> + Clone),
    request: &RequestHead<'_>,
    draws: [u64; 2],
) -> Option<CorsDecision> {
    let most_specific = policies.clone().next()?;
    let enabled = most_specific.filter_enabled.hits(draws[0]);
    if !enabled && !most_specific.shadow_enabled.hits(draws[1]) {
        return None;
    }
    let origin = value(request.headers, &ORIGIN)?;
    let allowed = policies.clone().find(|policy| !policy.allow_origin_string_match.is_empty());
    let origin_allowed = allowed.is_some_and(|policy| allows(policy, origin));
    if !enabled {
        return Some(CorsDecision { origin_allowed, preflight: None, response: None });
    }
    let response = origin_allowed.then(|| CorsResponse {
        allow_origin: origin.clone(),
        allow_credentials: policies.clone().find_map(|policy| policy.allow_credentials).unwrap_or(false),
        expose_headers: policies.clone().find_map(|policy| policy.expose_headers.clone()),
    });
    let preflight = requested_method(request).filter(|_| {
        let mut forwards = policies.clone().filter_map(|policy| policy.forward_not_matching_preflights);
        origin_allowed || !forwards.next().unwrap_or(true)
    });
    let preflight = preflight.map(|method| preflight_headers(policies, request.headers, method));
    Some(CorsDecision { origin_allowed, preflight, response })
}

fn allows(policy: &CorsPolicy, origin: &HeaderValue) -> bool {
    let origin = origin.to_str().ok();
    let matches =
        |matcher: &StringMatcher| matcher.matches("*") || origin.is_some_and(|origin| matcher.matches(origin));
    policy.allow_origin_string_match.iter().any(matches)
}

/// The requested method of a preflight request; `None` for other requests.
fn requested_method<'r>(request: &RequestHead<'r>) -> Option<&'r HeaderValue> {
    let method = value(request.headers, &ACCESS_CONTROL_REQUEST_METHOD)?;
    (request.method == Method::OPTIONS).then_some(method)
}

/// The headers that depend on the preflight request. [`CorsResponse`] adds the others.
fn preflight_headers<'p>(
    policies: &(impl Iterator<Item = &'p Arc<CorsPolicy>> + Clone),
    request: &HeaderMap,
    method: &HeaderValue,
) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let repeat = |configured: &HeaderValue, requested: Option<&HeaderValue>| match configured.as_bytes() {
        b"*" => requested.cloned(),
        _ => Some(configured.clone()),
    };
    let allow_methods = policies.clone().find_map(|policy| policy.allow_methods.as_ref());
    if let Some(methods) = allow_methods.and_then(|methods| repeat(methods, Some(method))) {
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
    }
    let allow_headers = policies.clone().find_map(|policy| policy.allow_headers.as_ref());
    let requested_headers = request.get(ACCESS_CONTROL_REQUEST_HEADERS);
    if let Some(allowed) = allow_headers.and_then(|allowed| repeat(allowed, requested_headers)) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    }
    if let Some(max_age) = policies.clone().find_map(|policy| policy.max_age.as_ref()) {
        headers.insert(ACCESS_CONTROL_MAX_AGE, max_age.clone());
    }
    if policies.clone().find_map(|policy| policy.allow_credentials).unwrap_or(false) {
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
    }
    let allows_private = policies.clone().find_map(|policy| policy.allow_private_network_access).unwrap_or(false);
    if allows_private && request.get(ACCESS_CONTROL_REQUEST_PRIVATE_NETWORK).is_some_and(|value| value == "true") {
        headers.insert(ACCESS_CONTROL_ALLOW_PRIVATE_NETWORK, TRUE);
    }
    headers
}

/// A header that is not empty.
fn value<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    headers.get(name).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::StringPattern;

    const GOOD: &str = "https://good.test";

    fn exact(origin: &str) -> StringMatcher {
        StringMatcher::exact(origin)
    }

    fn full() -> CorsPolicy {
        let text = |text| Some(HeaderValue::from_static(text));
        CorsPolicy {
            allow_origin_string_match: vec![
                exact(GOOD),
                StringMatcher::new(StringPattern::Suffix(".trusted.test".into()), false),
            ],
            allow_methods: text("GET,POST"),
            allow_headers: text("x-a,x-b"),
            expose_headers: text("x-e"),
            max_age: text("600"),
            allow_credentials: Some(true),
            ..CorsPolicy::default()
        }
    }

    fn decided(policies: &[CorsPolicy], method: &Method, headers: &[(&'static str, &str)]) -> Option<CorsDecision> {
        let policies: Vec<_> = policies.iter().cloned().map(Arc::new).collect();
        let headers: HeaderMap =
            headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect();
        let head = RequestHead { method, target_scheme: None, authority: "a", path_and_query: "/", headers: &headers };
        decide(&policies.iter(), &head, [500_000, 500_000])
    }

    /// Headers of the response to a preflight request, after its changes.
    fn preflight(policies: &[CorsPolicy], headers: &[(&'static str, &str)]) -> Option<Vec<String>> {
        let decision = decided(policies, &Method::OPTIONS, headers)?;
        let mut answer = decision.preflight?;
        if let Some(response) = decision.response {
            response.apply(&mut answer);
        }
        Some(lines(&answer))
    }

    fn response(policies: &[CorsPolicy], headers: &[(&'static str, &str)]) -> Option<Vec<String>> {
        let decision = decided(policies, &Method::GET, headers)?;
        assert_eq!(decision.preflight, None, "only OPTIONS is a preflight request");
        let mut answer = HeaderMap::new();
        decision.response?.apply(&mut answer);
        Some(lines(&answer))
    }

    fn lines(headers: &HeaderMap) -> Vec<String> {
        let line = |(name, value): (&HeaderName, &HeaderValue)| {
            let name = name.as_str().strip_prefix("access-control-").unwrap();
            format!("{name}: {}", value.to_str().unwrap())
        };
        let mut lines: Vec<_> = headers.iter().map(line).collect();
        lines.sort_unstable();
        lines
    }

    #[test]
    fn a_preflight_request_of_an_allowed_origin_is_answered() {
        let headers = [("origin", GOOD), ("access-control-request-method", "GET")];
        assert_eq!(
            preflight(&[full()], &headers).unwrap(),
            [
                "allow-credentials: true",
                "allow-headers: x-a,x-b",
                "allow-methods: GET,POST",
                "allow-origin: https://good.test",
                "expose-headers: x-e",
                "max-age: 600"
            ]
        );
        let minimal = CorsPolicy { allow_origin_string_match: vec![exact(GOOD)], ..CorsPolicy::default() };
        assert_eq!(preflight(&[minimal], &headers).unwrap(), ["allow-origin: https://good.test"]);
    }

    #[test]
    fn a_star_repeats_what_was_requested() {
        let star = Some(HeaderValue::from_static("*"));
        let policy = CorsPolicy {
            allow_origin_string_match: vec![exact("*")],
            allow_methods: star.clone(),
            allow_headers: star,
            ..CorsPolicy::default()
        };
        let headers = [
            ("origin", "null"),
            ("access-control-request-method", "PATCH"),
            ("access-control-request-headers", "x-1, x-2"),
        ];
        let expected = ["allow-headers: x-1, x-2", "allow-methods: PATCH", "allow-origin: null"];
        assert_eq!(preflight(std::slice::from_ref(&policy), &headers).unwrap(), expected);
        assert_eq!(preflight(&[policy], &headers[..2]).unwrap(), expected[1..]);
    }

    #[test]
    fn a_preflight_request_of_another_origin_is_passed_on_unless_configured_otherwise() {
        let headers = [("origin", "https://evil.test"), ("access-control-request-method", "GET")];
        let decision = decided(&[full()], &Method::OPTIONS, &headers).unwrap();
        assert_eq!(decision, CorsDecision { origin_allowed: false, preflight: None, response: None });
        let ignore = CorsPolicy { forward_not_matching_preflights: Some(false), ..full() };
        assert_eq!(
            preflight(&[ignore], &headers).unwrap(),
            ["allow-credentials: true", "allow-headers: x-a,x-b", "allow-methods: GET,POST", "max-age: 600"]
        );
    }

    #[test]
    fn a_response_is_changed_for_an_allowed_origin_only() {
        let allowed = |origin| response(&[full()], &[("origin", origin)]);
        let expected = ["allow-credentials: true", "allow-origin: https://x.trusted.test", "expose-headers: x-e"];
        assert_eq!(allowed("https://x.trusted.test").unwrap(), expected);
        assert_eq!(allowed("https://evil.test"), None);
        assert_eq!(decided(&[full()], &Method::GET, &[("origin", "")]), None);
        assert_eq!(decided(&[full()], &Method::GET, &[]), None);
        assert_eq!(decided(&[], &Method::GET, &[("origin", GOOD)]), None);
        let no_method = decided(&[full()], &Method::OPTIONS, &[("origin", GOOD)]).unwrap();
        assert!(no_method.preflight.is_none() && no_method.response.is_some(), "OPTIONS without a requested method");
    }

    #[test]
    fn each_field_comes_from_the_most_specific_policy_that_has_it() {
        let specific = CorsPolicy {
            allow_methods: Some(HeaderValue::from_static("PUT")),
            allow_credentials: Some(false),
            ..CorsPolicy::default()
        };
        let headers = [("origin", GOOD), ("access-control-request-method", "PUT")];
        assert_eq!(
            preflight(&[specific, full()], &headers).unwrap(),
            [
                "allow-headers: x-a,x-b",
                "allow-methods: PUT",
                "allow-origin: https://good.test",
                "expose-headers: x-e",
                "max-age: 600"
            ]
        );
    }

    #[test]
    fn a_more_private_network_is_allowed_on_request() {
        let policy = CorsPolicy {
            allow_origin_string_match: vec![exact(GOOD)],
            allow_private_network_access: Some(true),
            ..CorsPolicy::default()
        };
        let headers = [
            ("origin", GOOD),
            ("access-control-request-method", "GET"),
            ("access-control-request-private-network", "true"),
        ];
        let expected = ["allow-origin: https://good.test", "allow-private-network: true"];
        assert_eq!(preflight(std::slice::from_ref(&policy), &headers).unwrap(), expected);
        assert_eq!(preflight(&[policy], &headers[..2]).unwrap(), expected[..1]);
    }

    #[test]
    fn a_policy_applies_to_a_share_and_counts_another() {
        let share = |millions| FractionalPercent::from_parts_per_million(millions);
        let headers = [("origin", GOOD), ("access-control-request-method", "GET")];
        for (filter_enabled, shadow_enabled, expected) in [
            (500_001, 0, Some((true, true))),
            (500_000, 0, None),
            (500_000, 500_000, None),
            (500_000, 500_001, Some((true, false))),
            (500_001, 500_001, Some((true, true))),
        ] {
            let policy =
                CorsPolicy { filter_enabled: share(filter_enabled), shadow_enabled: share(shadow_enabled), ..full() };
            let less_specific = CorsPolicy { filter_enabled: FractionalPercent::ALWAYS, ..full() };
            let decision = decided(&[policy, less_specific], &Method::OPTIONS, &headers);
            let seen = decision.map(|decision| (decision.origin_allowed, decision.preflight.is_some()));
            assert_eq!(seen, expected, "{filter_enabled} {shadow_enabled}");
        }
    }
}
