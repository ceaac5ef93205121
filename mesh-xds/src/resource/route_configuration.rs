//! `envoy.config.route.v3.RouteConfiguration`: virtual hosts and their routes. The match and the action of a route are
//! decoded in `route_match` and `route_action`.

use std::sync::Arc;

use hashbrown::HashMap;
use mesh_core::model::{Action, DirectResponse, Route, RouteConfiguration, VirtualCluster, VirtualHost};

use super::field::{At, Result, fields};
use super::value::{enumeration, in_range, list, optional, required};
use super::{data_source, header, metadata, retry, route_action, route_match, value};
use crate::filter::{decode_overrides, refuse_deprecated_cors};
use crate::proto::envoy::config::route::v3::{
    Decorator, DirectResponseAction, Route as ProtoRoute, RouteConfiguration as ProtoRouteConfiguration,
    VirtualCluster as ProtoVirtualCluster, VirtualHost as ProtoVirtualHost, route, virtual_host::TlsRequirementType,
};

/// Default of `max_direct_response_body_size_bytes`.
const DEFAULT_MAX_BODY: u32 = 4096;
/// Maximum of `max_direct_response_body_size_bytes`.
const MAX_BODY_LIMIT: u32 = 1024 * 1024;

/// Decodes a route configuration.
pub(super) fn decode(at: &At<'_>, config: &ProtoRouteConfiguration) -> Result<RouteConfiguration> {
    fields! {
        ProtoRouteConfiguration = config, at;
        use {
            name, virtual_hosts, request_headers_to_add, request_headers_to_remove, response_headers_to_add,
            response_headers_to_remove, most_specific_header_mutations_wins, max_direct_response_body_size_bytes,
            ignore_port_in_host_matching, typed_per_filter_config,
        }
        ignore {
            validate_clusters: "a route to an unknown cluster is answered with its cluster_not_found_response_code",
            metadata: "metadata of a route configuration is not used",
        }
        refuse {
            vhds, internal_only_headers, cluster_specifier_plugins, request_mirror_policies, vhost_header,
            ignore_path_parameters_in_path_matching, route_specifiers,
        }
    }
    let max_body = max_direct_response_body_size_bytes.unwrap_or(DEFAULT_MAX_BODY);
    let max_body = in_range(&at.field("max_direct_response_body_size_bytes"), max_body, 0, MAX_BODY_LIMIT)?;
    let virtual_hosts = list(at, "virtual_hosts", virtual_hosts, |at, host| virtual_host(at, host, max_body))?;
    refuse_shared_domain(at, &virtual_hosts)?;
    let mut model = RouteConfiguration::new(name.as_str(), virtual_hosts);
    model.request_headers = header::request_mutations(at, request_headers_to_add, request_headers_to_remove)?;
    model.response_headers = header::response_mutations(at, response_headers_to_add, response_headers_to_remove)?;
    model.ignore_port_in_host_matching = *ignore_port_in_host_matching;
    model.most_specific_header_mutations_wins = *most_specific_header_mutations_wins;
    model.typed_per_filter_config = decode_overrides(at, typed_per_filter_config)?;
    Ok(model)
}

/// Refuses a domain that occurs twice.
fn refuse_shared_domain(at: &At<'_>, hosts: &[VirtualHost]) -> Result<()> {
    let mut owners = HashMap::new();
    for (index, host) in hosts.iter().enumerate() {
        for domain in &host.domains {
            if let Some(owner) = owners.insert(domain.to_ascii_lowercase(), &host.name) {
                let reason = format!("domain {domain:?} is also in virtual host {owner:?}");
                return Err(at.item("virtual_hosts", index).field("domains").refuse(reason));
            }
        }
    }
    Ok(())
}

fn virtual_host(at: &At<'_>, host: &ProtoVirtualHost, max_body: u32) -> Result<VirtualHost> {
    fields! {
        ProtoVirtualHost = host, at;
        use {
            name, domains, routes, require_tls, request_headers_to_add, request_headers_to_remove,
            response_headers_to_add, response_headers_to_remove, typed_per_filter_config,
            include_request_attempt_count, include_attempt_count_in_response, retry_policy, virtual_clusters, cors,
        }
        ignore {
            per_request_buffer_limit_bytes: RETRY_BUFFER,
            request_body_buffer_limit: RETRY_BUFFER,
            metadata: "metadata of a virtual host is not used",
        }
        refuse {
            matcher, rate_limits, retry_policy_typed_config, hedge_policy, include_is_timeout_retry_header,
            request_mirror_policies, route_specifiers,
        }
    }
    if domains.is_empty() {
        return Err(at.field("domains").refuse("is empty: no request can reach this virtual host"));
    }
    refuse_deprecated_cors(at, cors.as_ref())?;
    let retry_at = at.field("retry_policy");
    let domains = list(at, "domains", domains, |at, name| domain(at, name))?;
    let routes = list(at, "routes", routes, |at, route| decode_route(at, route, max_body))?;
    let mut model = VirtualHost::new(name.as_str(), routes);
    model.domains = domains;
    model.request_headers = header::request_mutations(at, request_headers_to_add, request_headers_to_remove)?;
    model.response_headers = header::response_mutations(at, response_headers_to_add, response_headers_to_remove)?;
    model.retry_policy =
        retry_policy.as_ref().map(|policy| retry::decode(&retry_at, policy)).transpose()?.map(Arc::new);
    model.include_request_attempt_count = *include_request_attempt_count;
    model.include_attempt_count_in_response = *include_attempt_count_in_response;
    model.require_tls =
        enumeration::<TlsRequirementType>(&at.field("require_tls"), *require_tls)? != TlsRequirementType::None;
    model.typed_per_filter_config = decode_overrides(at, typed_per_filter_config)?;
    model.virtual_clusters = list(at, "virtual_clusters", virtual_clusters, virtual_cluster)?;
    Ok(model)
}

fn virtual_cluster(at: &At<'_>, cluster: &ProtoVirtualCluster) -> Result<VirtualCluster> {
    let ProtoVirtualCluster { headers, name } = cluster;
    if name.is_empty() {
        return Err(at.field("name").refuse("is empty"));
    }
    if headers.is_empty() {
        return Err(at.field("headers").refuse("is empty: a virtual cluster needs conditions on headers"));
    }
    Ok(VirtualCluster::new(name.as_str(), list(at, "headers", headers, header::matcher)?))
}

/// Why a buffer limit of a route has no effect.
const RETRY_BUFFER: &str = "the buffer for retries is limited by the cluster";

/// Checks a domain: exact, `*.suffix`, `prefix.*` or `*`.
fn domain(at: &At<'_>, domain: &str) -> Result<Box<str>> {
    let stars = domain.matches('*').count();
    let is_wildcard = domain.starts_with('*') || domain.ends_with('*');
    if domain.is_empty() || stars > 1 || (stars == 1 && !is_wildcard) {
        let reason = format!("{domain:?} is not a domain: exact, *suffix, prefix* or *");
        return Err(at.refuse(reason));
    }
    Ok(domain.into())
}

fn decode_route(at: &At<'_>, route: &ProtoRoute, max_body: u32) -> Result<Route> {
    fields! {
        ProtoRoute = route, at;
        use {
            name, r#match, metadata, decorator, typed_per_filter_config, request_headers_to_add,
            request_headers_to_remove, response_headers_to_add, response_headers_to_remove, action, stat_prefix,
        }
        ignore {
            tracing: "no spans are exported",
            per_request_buffer_limit_bytes: RETRY_BUFFER,
            request_body_buffer_limit: RETRY_BUFFER,
        }
        refuse { route_specifiers }
    }
    let match_at = at.field("match");
    let mut model = Route::new(
        route_match::decode(&match_at, required(&match_at, r#match.as_ref())?)?,
        decode_action(at, action.as_ref(), max_body)?,
    );
    model.name = name.as_str().into();
    model.request_headers = header::request_mutations(at, request_headers_to_add, request_headers_to_remove)?;
    model.response_headers = header::response_mutations(at, response_headers_to_add, response_headers_to_remove)?;
    model.typed_per_filter_config = decode_overrides(at, typed_per_filter_config)?;
    model.operation = decorator.as_ref().map_or("", |Decorator { operation, propagate: _ }| operation).into();
    model.stat_prefix = stat_prefix.as_str().into();
    model.origin = metadata.as_ref().and_then(metadata::origin).unwrap_or_default().into();
    model.metadata = metadata.as_ref().map(|metadata| Arc::new(metadata::decode(metadata)));
    Ok(model)
}

fn decode_action(at: &At<'_>, action: Option<&route::Action>, max_body: u32) -> Result<Action> {
    match action {
        Some(route::Action::Route(route)) => {
            Ok(Action::Route(Box::new(route_action::decode(&at.field("route"), route)?)))
        }
        Some(route::Action::Redirect(redirect)) => {
            Ok(Action::Redirect(Box::new(route_action::redirect(&at.field("redirect"), redirect)?)))
        }
        Some(route::Action::DirectResponse(response)) => {
            direct_response(&at.field("direct_response"), response, max_body).map(Action::DirectResponse)
        }
        Some(route::Action::NonForwardingAction(_)) => Ok(Action::NonForwarding),
        Some(route::Action::FilterAction(_)) => Err(at.field("filter_action").refuse("not supported")),
        None => Err(at.refuse("none of route, redirect, direct_response and non_forwarding_action is given")),
    }
}

fn direct_response(at: &At<'_>, response: &DirectResponseAction, max_body: u32) -> Result<DirectResponse> {
    fields! {
        DirectResponseAction = response, at;
        use { status, body }
        ignore {}
        refuse { body_format }
    }
    let body = optional(&at.field("body"), body.as_ref(), |at, source| data_source::read(at, source, max_body))?;
    let body = body.unwrap_or_default();
    Ok(DirectResponse::new(value::status(&at.field("status"), status)?, body))
}
