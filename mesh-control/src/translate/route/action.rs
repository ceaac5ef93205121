//! Actions of routes.

use super::headers::Changes;
use super::retry::retry_policy;
use crate::config::{
    DirectResponse, HttpAction, HttpRoute, Redirect, RedirectPort, UriRewrite, VirtualService, WeightedDestination,
};
use crate::translate::entry::Entry;
use crate::translate::filter;
use crate::translate::proto::{core, duration, matcher as envoy_matcher, route as envoy};
use crate::translate::string_match::regex;
use envoy::redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier};
use envoy::route::Action;
use envoy::route_action::{ClusterSpecifier, HostRewriteSpecifier};

/// Writes the action of a rule, its changes of headers, and its configuration of filters.
pub(super) fn write(entry: &Entry<'_>, service: &VirtualService, rule: &HttpRoute, route: &mut envoy::Route) {
    let mut changes = Changes::of(&rule.headers);
    route.action = Some(match &rule.action {
        HttpAction::Route(destinations) => {
            let mut action = forward(rule);
            match destinations.as_slice() {
                [only] => {
                    // The changes of the destination are made before those of the rule.
                    let own = Changes::of(&only.headers);
                    changes.request_add.splice(0..0, own.request_add);
                    changes.response_add.splice(0..0, own.response_add);
                    changes.request_remove.extend(own.request_remove);
                    changes.response_remove.extend(own.response_remove);
                    changes.authority = changes.authority.or(own.authority);
                    let cluster = entry.cluster(service, &only.destination);
                    action.cluster_specifier = Some(ClusterSpecifier::Cluster(cluster));
                }
                several => {
                    let clusters = weighted_clusters(entry, service, several);
                    action.cluster_specifier = Some(ClusterSpecifier::WeightedClusters(clusters));
                }
            }
            let authority = rule.rewrite.authority.clone().or_else(|| changes.authority.take());
            action.host_rewrite_specifier = authority.map(HostRewriteSpecifier::HostRewriteLiteral);
            Action::Route(action)
        }
        HttpAction::Redirect(redirect) => Action::Redirect(redirect_action(redirect, entry.port)),
        HttpAction::DirectResponse(response) => Action::DirectResponse(direct_response(response)),
    });
    route.request_headers_to_add = changes.request_add;
    route.request_headers_to_remove = changes.request_remove;
    route.response_headers_to_add = changes.response_add;
    route.response_headers_to_remove = changes.response_remove;
    route.typed_per_filter_config = filter::route_configs(rule);
}

/// The action of forwarding, without its destination.
fn forward(rule: &HttpRoute) -> envoy::RouteAction {
    let timeout = duration(rule.timeout.unwrap_or_default());
    let mut action = envoy::RouteAction {
        timeout: Some(timeout),
        // Limits the deadline that gRPC clients send; 0 is no limit.
        max_grpc_timeout: Some(timeout),
        retry_policy: retry_policy(rule.retries.as_ref()),
        ..envoy::RouteAction::default()
    };
    match &rule.rewrite.uri {
        // For a match of the whole path this replaces the whole path.
        Some(UriRewrite::Uri(uri)) => action.prefix_rewrite.clone_from(uri),
        Some(UriRewrite::Regex { pattern, substitution }) => {
            action.regex_rewrite = Some(envoy_matcher::RegexMatchAndSubstitute {
                pattern: Some(regex(pattern)),
                substitution: substitution.clone(),
            });
        }
        None => {}
    }
    action
}

/// A single cluster with Istio's defaults, for hosts without VirtualService.
pub(super) fn default_action(cluster: String) -> Action {
    Action::Route(envoy::RouteAction {
        timeout: Some(prost_types::Duration::default()),
        max_grpc_timeout: Some(prost_types::Duration::default()),
        retry_policy: retry_policy(None),
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster)),
        ..envoy::RouteAction::default()
    })
}

/// Destinations that have a weight.
fn weighted_clusters(
    entry: &Entry<'_>,
    service: &VirtualService,
    destinations: &[WeightedDestination],
) -> envoy::WeightedCluster {
    let weighted = destinations.iter().filter(|destination| destination.weight > 0);
    let clusters = weighted.map(|weighted| {
        let changes = Changes::of(&weighted.headers);
        envoy::weighted_cluster::ClusterWeight {
            name: entry.cluster(service, &weighted.destination),
            weight: Some(weighted.weight),
            request_headers_to_add: changes.request_add,
            request_headers_to_remove: changes.request_remove,
            response_headers_to_add: changes.response_add,
            response_headers_to_remove: changes.response_remove,
            host_rewrite_specifier: changes
                .authority
                .map(envoy::weighted_cluster::cluster_weight::HostRewriteSpecifier::HostRewriteLiteral),
            ..envoy::weighted_cluster::ClusterWeight::default()
        }
    });
    envoy::WeightedCluster { clusters: clusters.collect(), ..envoy::WeightedCluster::default() }
}

fn redirect_action(redirect: &Redirect, request_port: u16) -> envoy::RedirectAction {
    let code = match redirect.redirect_code {
        302 => RedirectResponseCode::Found,
        303 => RedirectResponseCode::SeeOther,
        307 => RedirectResponseCode::TemporaryRedirect,
        308 => RedirectResponseCode::PermanentRedirect,
        _ => RedirectResponseCode::MovedPermanently,
    };
    let port = match redirect.port {
        Some(RedirectPort::Port(port)) => port.into(),
        // A route belongs to one listener, so the port of the request is known.
        Some(RedirectPort::FromRequest) => request_port.into(),
        Some(RedirectPort::ProtocolDefault) | None => 0,
    };
    envoy::RedirectAction {
        host_redirect: redirect.authority.clone().unwrap_or_default(),
        port_redirect: port,
        response_code: code.into(),
        scheme_rewrite_specifier: redirect.scheme.clone().map(SchemeRewriteSpecifier::SchemeRedirect),
        path_rewrite_specifier: redirect.uri.clone().map(PathRewriteSpecifier::PathRedirect),
        ..envoy::RedirectAction::default()
    }
}

pub(super) fn inline_string(text: &str) -> core::DataSource {
    core::DataSource {
        specifier: Some(core::data_source::Specifier::InlineString(text.to_owned())),
        ..core::DataSource::default()
    }
}

fn direct_response(response: &DirectResponse) -> envoy::DirectResponseAction {
    let body = (!response.body.is_empty()).then(|| inline_string(&response.body));
    envoy::DirectResponseAction { status: response.status.into(), body, ..envoy::DirectResponseAction::default() }
}
