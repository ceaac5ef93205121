//! Cross-origin requests. The policy is the route's; the filter itself has none.

use super::{Side, http_filter};
use crate::config::{CorsPolicy, HttpRoute, UnmatchedPreflights};
use crate::translate::proto::{any, core, cors, http, percent};
use crate::translate::string_match::string_matcher;
use crate::translate::view::View;
use prost_types::Any;

const NAME: &str = "envoy.filters.http.cors";

pub(super) fn add_http(_: &View<'_>, _: Side, filters: &mut Vec<http::HttpFilter>) {
    filters.push(http_filter(NAME, any(&cors::Cors::default())));
}

pub(super) fn configure_route(rule: &HttpRoute) -> Option<(&'static str, Any)> {
    rule.cors_policy.as_ref().map(|policy| (NAME, any(&cors_policy(policy))))
}

fn cors_policy(policy: &CorsPolicy) -> cors::CorsPolicy {
    let every_request = percent::FractionalPercent { numerator: 100, ..percent::FractionalPercent::default() };
    cors::CorsPolicy {
        allow_origin_string_match: policy.allow_origins.iter().filter_map(string_matcher).collect(),
        allow_methods: policy.allow_methods.join(","),
        allow_headers: policy.allow_headers.join(","),
        expose_headers: policy.expose_headers.join(","),
        max_age: policy.max_age.map(|age| age.as_secs().to_string()).unwrap_or_default(),
        allow_credentials: policy.allow_credentials,
        filter_enabled: Some(core::RuntimeFractionalPercent {
            default_value: Some(every_request),
            ..core::RuntimeFractionalPercent::default()
        }),
        forward_not_matching_preflights: Some(policy.unmatched_preflights == UnmatchedPreflights::Forward),
        ..cors::CorsPolicy::default()
    }
}
