//! External authorization: `envoy.extensions.filters.http.ext_authz.v3`, and the messages of the service,
//! `envoy.service.auth.v3`.

mod codec;
mod network;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use mesh_core::filter::ext_authz::{
    BufferSettings, ExtAuthz, ExtAuthzPerRoute, GrpcService, HttpService, MutationRules, Service,
};
use mesh_core::model::StringMatcher;

use self::codec::CheckMessages;
pub(crate) use self::network::decode as decode_network;
use super::Decode;
use crate::decode::field::{At, Result, fields, is_set};
use crate::decode::metadata_matcher::metadata_matcher;
use crate::decode::value::{
    NO_RUNTIME, duration, format, header_name, header_value, in_range, list, optional, regex, required,
    runtime_fraction, status, string_matcher,
};
use crate::proto::envoy::config::common::mutation_rules::v3::HeaderMutationRules;
use crate::proto::envoy::config::core::v3 as core;
use crate::proto::envoy::extensions::filters::http::ext_authz::v3 as proto;
use crate::proto::envoy::r#type::matcher::v3::ListStringMatcher;

const NO_TRACING: &str = "there is no tracing";

impl Decode for ExtAuthz {
    type Message = proto::ExtAuthz;
    type PerRouteMessage = proto::ExtAuthzPerRoute;

    fn decode(at: &At<'_>, message: &proto::ExtAuthz) -> Result<Self> {
        fields! {
            proto::ExtAuthz = message, at;
            use {
                transport_api_version, failure_mode_allow, failure_mode_allow_header_add, with_request_body,
                clear_route_cache, status_on_error, metadata_context_namespaces, route_metadata_context_namespaces,
                filter_enabled, filter_enabled_metadata, deny_at_disable, include_peer_certificate, stat_prefix, allowed_headers,
                disallowed_headers, include_tls_session, charge_cluster_response_stats, encode_raw_headers,
                enable_dynamic_metadata_ingestion, decoder_header_mutation_rules, services,
            }
            ignore {
                validate_mutations: "what is not valid is refused in any case",
                emit_filter_state_stats: "no filter state is written to logs",
                filter_metadata: "no filter state is written to logs",
                emit_client_span: NO_TRACING,
            }
            refuse {
                typed_metadata_context_namespaces, route_typed_metadata_context_namespaces,
                bootstrap_metadata_labels_key, max_denied_response_body_bytes,
                enforce_response_header_limits, shadow_mode,
            }
        }
        let (service, of_http) = decode_service(at, services.as_ref(), *transport_api_version)?;
        let mut model = Self::new(service);
        model.failure_mode_allow = *failure_mode_allow;
        model.failure_mode_allow_header_add = *failure_mode_allow_header_add;
        model.with_request_body = optional(&at.field("with_request_body"), with_request_body.as_ref(), decode_buffer)?;
        model.clear_route_cache = *clear_route_cache;
        if let Some(code) = status_on_error {
            model.status_on_error = decode_status(&at.field("status_on_error"), code.code)?;
        }
        model.metadata_context_namespaces = names(metadata_context_namespaces);
        model.route_metadata_context_namespaces = names(route_metadata_context_namespaces);
        if let Some(fraction) = optional(&at.field("filter_enabled"), filter_enabled.as_ref(), runtime_fraction)? {
            model.filter_enabled = fraction;
        }
        let metadata_at = at.field("filter_enabled_metadata");
        model.filter_enabled_metadata = optional(&metadata_at, filter_enabled_metadata.as_ref(), metadata_matcher)?;
        model.deny_at_disable =
            deny_at_disable.as_ref().is_some_and(|flag| feature(&at.field("deny_at_disable"), flag));
        (model.include_peer_certificate, model.include_tls_session) = (*include_peer_certificate, *include_tls_session);
        model.stat_prefix = stat_prefix.as_str().into();
        model.allowed_headers = decode_allowed(at, allowed_headers.as_ref(), of_http)?;
        model.disallowed_headers = matchers(&at.field("disallowed_headers"), disallowed_headers.as_ref())?;
        model.encode_raw_headers = *encode_raw_headers;
        model.charge_cluster_response_stats = charge_cluster_response_stats.unwrap_or(true);
        model.enable_dynamic_metadata_ingestion = enable_dynamic_metadata_ingestion.unwrap_or(true);
        let rules_at = at.field("decoder_header_mutation_rules");
        model.decoder_header_mutation_rules =
            optional(&rules_at, decoder_header_mutation_rules.as_ref(), decode_rules)?;
        Ok(model)
    }

    fn decode_per_route(at: &At<'_>, message: &proto::ExtAuthzPerRoute) -> Result<ExtAuthzPerRoute> {
        use proto::ext_authz_per_route::Override;
        let proto::ExtAuthzPerRoute { r#override } = message;
        let mut model = ExtAuthzPerRoute::default();
        match r#override {
            Some(Override::Disabled(disabled)) => model.disabled = *disabled,
            Some(Override::CheckSettings(settings)) => {
                decode_settings(&at.field("check_settings"), settings, &mut model)?;
            }
            None => return Err(at.refuse("neither disabled nor check_settings is given")),
        }
        Ok(model)
    }
}

fn decode_settings(at: &At<'_>, settings: &proto::CheckSettings, model: &mut ExtAuthzPerRoute) -> Result<()> {
    fields! {
        proto::CheckSettings = settings, at;
        use { context_extensions, disable_request_body_buffering, with_request_body }
        ignore { emit_client_span: NO_TRACING }
        refuse { service_override }
    }
    let pairs = context_extensions.iter().map(|(key, value)| (key.as_str().into(), value.as_str().into()));
    model.context_extensions = pairs.collect();
    model.disable_request_body_buffering = *disable_request_body_buffering;
    let at = at.field("with_request_body");
    if with_request_body.is_some() && *disable_request_body_buffering {
        return Err(at.refuse("cannot be set together with disable_request_body_buffering"));
    }
    model.with_request_body = optional(&at, with_request_body.as_ref(), decode_buffer)?;
    Ok(())
}

/// The service, and the headers that the message of a service over HTTP allows.
fn decode_service<'m>(
    at: &At<'_>,
    services: Option<&'m proto::ext_authz::Services>,
    transport_api_version: i32,
) -> Result<(Service, Option<&'m ListStringMatcher>)> {
    use proto::ext_authz::Services;
    match services {
        Some(Services::HttpService(http)) => {
            let (service, allowed) = decode_http(&at.field("http_service"), http)?;
            Ok((Service::Http(service), allowed))
        }
        Some(Services::GrpcService(grpc)) => {
            if transport_api_version != core::ApiVersion::V3 as i32 {
                return Err(at.field("transport_api_version").refuse("expected V3"));
            }
            Ok((Service::Grpc(decode_grpc(&at.field("grpc_service"), grpc)?), None))
        }
        None => Err(at.refuse("neither grpc_service nor http_service is given")),
    }
}

fn decode_http<'m>(at: &At<'_>, http: &'m proto::HttpService) -> Result<(HttpService, Option<&'m ListStringMatcher>)> {
    fields! {
        proto::HttpService = http, at;
        use { server_uri, path_prefix, authorization_request, authorization_response }
        ignore {}
        refuse { path_override, retry_policy }
    }
    let uri_at = at.field("server_uri");
    let core::HttpUri { uri: _, timeout, http_upstream_type } = required(&uri_at, server_uri.as_ref())?;
    let Some(core::http_uri::HttpUpstreamType::Cluster(cluster)) = http_upstream_type else {
        return Err(uri_at.field("cluster").refuse("is missing"));
    };
    let timeout_at = uri_at.field("timeout");
    let timeout = duration(&timeout_at, required(&timeout_at, timeout.as_ref())?)?;
    if !path_prefix.is_empty() && !path_prefix.starts_with('/') {
        return Err(at.field("path_prefix").refuse(format_args!("{path_prefix:?} does not begin with \"/\"")));
    }
    let mut model = HttpService::new(cluster.as_str(), timeout);
    model.path_prefix = path_prefix.as_str().into();
    let mut allowed = None;
    if let Some(proto::AuthorizationRequest { allowed_headers, headers_to_add }) = authorization_request {
        allowed = allowed_headers.as_ref();
        model.headers_to_add = literals(&at.field("authorization_request"), "headers_to_add", headers_to_add)?;
    }
    if let Some(response) = authorization_response {
        let at = at.field("authorization_response");
        let proto::AuthorizationResponse {
            allowed_upstream_headers,
            allowed_upstream_headers_to_append,
            allowed_client_headers,
            allowed_client_headers_on_success,
            dynamic_metadata_from_headers,
        } = response;
        let list = |name, list: &Option<ListStringMatcher>| matchers(&at.field(name), list.as_ref());
        model.allowed_upstream_headers = list("allowed_upstream_headers", allowed_upstream_headers)?;
        model.allowed_upstream_headers_to_append =
            list("allowed_upstream_headers_to_append", allowed_upstream_headers_to_append)?;
        model.allowed_client_headers = list("allowed_client_headers", allowed_client_headers)?;
        model.allowed_client_headers_on_success =
            list("allowed_client_headers_on_success", allowed_client_headers_on_success)?;
        model.dynamic_metadata_from_headers = list("dynamic_metadata_from_headers", dynamic_metadata_from_headers)?;
    }
    Ok((model, allowed))
}

fn decode_grpc(at: &At<'_>, grpc: &core::GrpcService) -> Result<GrpcService> {
    use core::grpc_service::TargetSpecifier;
    fields! {
        core::GrpcService = grpc, at;
        use { timeout, initial_metadata, target_specifier }
        ignore {}
        refuse { retry_policy }
    }
    let envoy_grpc = match target_specifier {
        Some(TargetSpecifier::EnvoyGrpc(envoy_grpc)) => envoy_grpc,
        Some(TargetSpecifier::GoogleGrpc(_)) => return Err(at.field("google_grpc").refuse("not supported")),
        None => return Err(at.refuse("no target is given")),
    };
    let target_at = at.field("envoy_grpc");
    fields! {
        core::grpc_service::EnvoyGrpc = envoy_grpc, target_at;
        use { cluster_name, authority }
        ignore {}
        refuse { retry_policy, max_receive_message_length, skip_envoy_headers }
    }
    let mut model = GrpcService::new(cluster_name.as_str(), Arc::new(CheckMessages));
    if is_set(authority) {
        model.authority = Some(header_value(&target_at.field("authority"), authority)?);
    }
    let timeout: Option<Duration> = optional(&at.field("timeout"), timeout.as_ref(), duration)?;
    model.timeout = timeout.unwrap_or(model.timeout);
    model.initial_metadata = literals(at, "initial_metadata", initial_metadata)?;
    Ok(model)
}

fn decode_allowed(
    at: &At<'_>,
    allowed: Option<&ListStringMatcher>,
    of_http: Option<&ListStringMatcher>,
) -> Result<Option<Vec<StringMatcher>>> {
    let own_at = at.field("allowed_headers");
    let http_at = at.field("http_service");
    let http_at = http_at.field("authorization_request");
    let http_at = http_at.field("allowed_headers");
    match (allowed, of_http) {
        (Some(_), Some(_)) => Err(http_at.refuse("cannot be set together with allowed_headers of the filter")),
        (Some(allowed), None) => matchers(&own_at, Some(allowed)).map(Some),
        (None, Some(allowed)) => matchers(&http_at, Some(allowed)).map(Some),
        (None, None) => Ok(None),
    }
}

fn decode_buffer(at: &At<'_>, buffer: &proto::BufferSettings) -> Result<BufferSettings> {
    let proto::BufferSettings { max_request_bytes, allow_partial_message, pack_as_bytes } = *buffer;
    let max = in_range(&at.field("max_request_bytes"), max_request_bytes, 1, u32::MAX)?;
    let mut model = BufferSettings::new(usize::try_from(max).unwrap_or(usize::MAX));
    (model.allow_partial_message, model.pack_as_bytes) = (allow_partial_message, pack_as_bytes);
    Ok(model)
}

fn decode_rules(at: &At<'_>, rules: &HeaderMutationRules) -> Result<MutationRules> {
    let HeaderMutationRules {
        allow_all_routing,
        allow_envoy,
        disallow_system,
        disallow_all,
        allow_expression,
        disallow_expression,
        disallow_is_error,
    } = rules;
    let mut model = MutationRules::default();
    model.allow_all_routing = allow_all_routing.unwrap_or(false);
    model.allow_envoy = allow_envoy.unwrap_or(false);
    model.disallow_system = disallow_system.unwrap_or(false);
    model.disallow_all = disallow_all.unwrap_or(false);
    model.allow_expression = optional(&at.field("allow_expression"), allow_expression.as_ref(), regex)?;
    model.disallow_expression = optional(&at.field("disallow_expression"), disallow_expression.as_ref(), regex)?;
    model.disallow_is_error = disallow_is_error.unwrap_or(false);
    Ok(model)
}

fn decode_status(at: &At<'_>, code: i32) -> Result<http::StatusCode> {
    let at = at.field("code");
    status(&at, &u32::try_from(code).unwrap_or(0))
}

fn feature(at: &At<'_>, flag: &core::RuntimeFeatureFlag) -> bool {
    fields! {
        core::RuntimeFeatureFlag = flag, at;
        use { default_value }
        ignore { runtime_key: NO_RUNTIME }
        refuse {}
    }
    default_value.unwrap_or(false)
}

fn matchers(at: &At<'_>, matchers: Option<&ListStringMatcher>) -> Result<Vec<StringMatcher>> {
    let Some(ListStringMatcher { patterns }) = matchers else { return Ok(Vec::new()) };
    list(at, "patterns", patterns, string_matcher)
}

fn names(names: &[String]) -> Vec<Box<str>> {
    names.iter().map(|name| name.as_str().into()).collect()
}

/// Headers whose values are not evaluated.
fn literals(at: &At<'_>, name: &str, headers: &[core::HeaderValue]) -> Result<Vec<(HeaderName, HeaderValue)>> {
    list(at, name, headers, |at, header| {
        fields! {
            core::HeaderValue = header, at;
            use { key, value }
            ignore {}
            refuse { raw_value }
        }
        let (name, at) = (header_name(&at.field("key"), key)?, at.field("value"));
        let value = format(&at, value)?;
        let literal = value.literal_value().cloned();
        Ok((name, literal.ok_or_else(|| at.refuse("commands such as %REQ(…)% are not supported here"))?))
    })
}

#[cfg(test)]
mod tests;
