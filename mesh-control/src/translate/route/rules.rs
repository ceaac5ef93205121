//! The rules of one VirtualService as routes, for one port of one listener.

use super::action;
use super::matcher::{is_catch_all, route_match};
use crate::config::{HttpMatch, HttpRoute, VirtualService};
use crate::translate::entry::Entry;
use crate::translate::proto::{istio_metadata, object, route as envoy, string};

/// Routes of a VirtualService in order; those behind one that matches every request are left out.
pub(super) fn routes(entry: &Entry<'_>, service: &VirtualService) -> Vec<envoy::Route> {
    let mut routes = Vec::new();
    for rule in &service.http {
        let matches: Vec<_> = if rule.matches.is_empty() {
            vec![None]
        } else {
            rule.matches.iter().filter(|matcher| entry.admits(&matcher.listener)).map(Some).collect()
        };
        for matcher in matches {
            let route = route(entry, service, rule, matcher);
            let is_last = is_catch_all(&route);
            routes.push(route);
            if is_last {
                return routes;
            }
        }
    }
    routes
}

fn route(entry: &Entry<'_>, service: &VirtualService, rule: &HttpRoute, matcher: Option<&HttpMatch>) -> envoy::Route {
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
    action::write(entry, service, rule, &mut route);
    route
}
