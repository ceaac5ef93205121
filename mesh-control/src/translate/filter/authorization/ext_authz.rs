//! The filter that asks a service about requests.

use super::custom::POLICY_PREFIX;
use super::generate::{metadata, string_value};
use super::{HTTP_NAME, NETWORK_NAME as RBAC_NETWORK_NAME, NETWORK_STAT_PREFIX};
use crate::config::{BodyInCheck, ExtAuthzHttp, ExtAuthzProtocol};
use crate::ext_authz_providers::Found;
use crate::translate::names::outbound_cluster;
use crate::translate::proto::matcher::{ListStringMatcher, RegexMatcher, StringMatcher, string_matcher::MatchPattern};
use crate::translate::proto::{core, duration, ext_authz, network_ext_authz, percent};
use core::grpc_service::{EnvoyGrpc, TargetSpecifier};
use ext_authz::ext_authz::Services;

/// Name of the filter.
pub(in crate::translate::filter) const NAME: &str = "envoy.filters.http.ext_authz";

/// Name of the filter of connections.
pub(super) const NETWORK_NAME: &str = "envoy.filters.network.ext_authz";

/// The filter for connections whose metadata has the name of a policy at `key`; `None` if the provider cannot be asked
/// about connections.
pub(super) fn network_config(found: &Found<'_>, key: &str) -> Option<network_ext_authz::ExtAuthz> {
    matches!(found.provider.protocol, ExtAuthzProtocol::Grpc).then(|| network_ext_authz::ExtAuthz {
        stat_prefix: NETWORK_STAT_PREFIX.to_owned(),
        grpc_service: Some(grpc(found)),
        failure_mode_allow: found.provider.fail_open,
        transport_api_version: core::ApiVersion::V3.into(),
        filter_enabled_metadata: Some(metadata(RBAC_NETWORK_NAME, [key], string_value(is_custom()))),
        ..network_ext_authz::ExtAuthz::default()
    })
}

/// Matches the names of the policies whose action is `CUSTOM`.
fn is_custom() -> StringMatcher {
    let prefix = MatchPattern::Prefix(POLICY_PREFIX.trim_end_matches('-').to_owned());
    StringMatcher { match_pattern: Some(prefix), ignore_case: false }
}

/// The filter for requests whose metadata has the name of a policy at `key`.
pub(super) fn config(found: &Found<'_>, key: &str) -> ext_authz::ExtAuthz {
    let provider = found.provider;
    let mut config = ext_authz::ExtAuthz {
        failure_mode_allow: provider.fail_open,
        clear_route_cache: provider.clear_route_cache,
        status_on_error: provider.status_on_error.map(|status| percent::HttpStatus { code: status.as_u16().into() }),
        with_request_body: provider.include_request_body.map(body),
        transport_api_version: core::ApiVersion::V3.into(),
        filter_enabled_metadata: Some(metadata(HTTP_NAME, [key], string_value(is_custom()))),
        ..ext_authz::ExtAuthz::default()
    };
    config.services = Some(match &provider.protocol {
        ExtAuthzProtocol::Grpc => Services::GrpcService(grpc(found)),
        ExtAuthzProtocol::Http(http) => {
            config.allowed_headers = headers(&http.include_request_headers);
            Services::HttpService(http_service(found, http))
        }
    });
    config
}

fn body(body: BodyInCheck) -> ext_authz::BufferSettings {
    let BodyInCheck { max_request_bytes, allow_partial_message, pack_as_bytes } = body;
    ext_authz::BufferSettings { max_request_bytes, allow_partial_message, pack_as_bytes }
}

fn cluster(found: &Found<'_>) -> String {
    outbound_cluster(found.port.number, "", &found.service.host)
}

fn grpc(found: &Found<'_>) -> core::GrpcService {
    let target = EnvoyGrpc {
        cluster_name: cluster(found),
        // The name of the cluster would not be a valid one.
        authority: found.service.host.to_string(),
        ..EnvoyGrpc::default()
    };
    core::GrpcService {
        timeout: Some(duration(found.provider.timeout)),
        target_specifier: Some(TargetSpecifier::EnvoyGrpc(target)),
        ..core::GrpcService::default()
    }
}

fn http_service(found: &Found<'_>, http: &ExtAuthzHttp) -> ext_authz::HttpService {
    let uri = core::HttpUri {
        uri: format!("http://{}", found.service.host),
        timeout: Some(duration(found.provider.timeout)),
        http_upstream_type: Some(core::http_uri::HttpUpstreamType::Cluster(cluster(found))),
    };
    let header = |(key, value): (&String, &String)| core::HeaderValue {
        key: key.clone(),
        value: value.clone(),
        ..core::HeaderValue::default()
    };
    let request = ext_authz::AuthorizationRequest {
        headers_to_add: http.include_additional_headers.iter().map(header).collect(),
        ..ext_authz::AuthorizationRequest::default()
    };
    let response = ext_authz::AuthorizationResponse {
        allowed_upstream_headers: headers(&http.headers_to_upstream_on_allow),
        allowed_client_headers: headers(&http.headers_to_downstream_on_deny),
        allowed_client_headers_on_success: headers(&http.headers_to_downstream_on_allow),
        ..ext_authz::AuthorizationResponse::default()
    };
    ext_authz::HttpService {
        server_uri: Some(uri),
        path_prefix: http.path_prefix.clone(),
        authorization_request: (!request.headers_to_add.is_empty()).then_some(request),
        authorization_response: (response != ext_authz::AuthorizationResponse::default()).then_some(response),
        ..ext_authz::HttpService::default()
    }
}

/// Names, prefixes and suffixes of headers, in any case; `None` if there are none.
fn headers(names: &[String]) -> Option<ListStringMatcher> {
    let matcher = |name: &String| {
        let pattern = match (name.strip_prefix('*'), name.strip_suffix('*')) {
            (Some(""), _) => {
                MatchPattern::SafeRegex(RegexMatcher { regex: ".+".to_owned(), ..RegexMatcher::default() })
            }
            (Some(suffix), _) => MatchPattern::Suffix(suffix.to_owned()),
            (None, Some(prefix)) => MatchPattern::Prefix(prefix.to_owned()),
            (None, None) => MatchPattern::Exact(name.clone()),
        };
        // Regular expressions have no such option.
        let ignore_case = !matches!(pattern, MatchPattern::SafeRegex(_));
        StringMatcher { match_pattern: Some(pattern), ignore_case }
    };
    (!names.is_empty()).then(|| ListStringMatcher { patterns: names.iter().map(matcher).collect() })
}
