//! The rules of one VirtualService as routes, for one port of one listener.

use super::action;
use super::matcher::{is_catch_all, route_match};
use crate::config::{Destination, GatewayName, HttpMatch, HttpRoute, Located, VirtualService, selects};
use crate::translate::names;
use crate::translate::node::Role;
use crate::translate::proto::{istio_metadata, object, route as envoy, string};
use crate::translate::view::View;

/// Where requests come in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    pub(super) view: &'a View<'a>,
    /// Port that clients call.
    pub(super) port: u16,
    /// The gateway, or the mesh.
    pub(super) gateway: &'a GatewayName,
}

impl Entry<'_> {
    /// Routes of a VirtualService in order; those after one that takes everything are left out.
    pub(super) fn routes(&self, service: &VirtualService) -> Vec<envoy::Route> {
        let mut routes = Vec::new();
        for rule in &service.http {
            let matches: Vec<_> = if rule.matches.is_empty() {
                vec![None]
            } else {
                rule.matches.iter().filter(|matcher| self.admits(matcher)).map(Some).collect()
            };
            for matcher in matches {
                let route = self.route(service, rule, matcher);
                let is_last = is_catch_all(&route);
                routes.push(route);
                if is_last {
                    return routes;
                }
            }
        }
        routes
    }

    /// Conditions that depend on the listener and the client only are decided now.
    fn admits(&self, matcher: &HttpMatch) -> bool {
        let node = self.view.node;
        let is_gateway = node.role == Role::Gateway;
        let here = |gateways: &[_]| {
            let mut names = gateways.iter().map(|gateway: &Located<GatewayName>| &gateway.value);
            gateways.is_empty() || names.any(|name| name == self.gateway)
        };
        matcher.port.is_none_or(|port| port == self.port)
            && here(&matcher.gateways)
            && (is_gateway || selects(&matcher.source_labels, &node.labels))
            && matcher.source_namespace.as_ref().is_none_or(|namespace| *namespace == node.namespace)
    }

    fn route(&self, service: &VirtualService, rule: &HttpRoute, matcher: Option<&HttpMatch>) -> envoy::Route {
        let name = match matcher.map(|matcher| matcher.name.as_str()) {
            Some(suffix) if !suffix.is_empty() => format!("{}.{suffix}", rule.name),
            _ => rule.name.clone(),
        };
        let config = string(service.metadata.config_path());
        let mut route = envoy::Route {
            name,
            r#match: Some(route_match(matcher)),
            metadata: Some(istio_metadata(object([("config", config)]))),
            ..envoy::Route::default()
        };
        action::write(self, service, rule, &mut route);
        route
    }

    /// Cluster of a destination. Without a port it is the service's only one, else the port that was called.
    pub(super) fn cluster(&self, service: &VirtualService, destination: &Destination) -> String {
        let host = &destination.host.value;
        let found = self.view.registry.find(host, &service.metadata.namespace);
        let only = found.and_then(|found| match found.ports.as_slice() {
            [port] => Some(port.number),
            _ => None,
        });
        let port = destination.port.as_ref().map(|port| port.value).or(only).unwrap_or(self.port);
        let subset = destination.subset.as_ref().map_or("", |subset| subset.as_str());
        names::outbound_cluster(port, subset, host)
    }
}
