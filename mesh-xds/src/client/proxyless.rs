//! What clients of gRPC do with resources otherwise than Envoy.

use std::sync::Arc;

use mesh_core::model::{Action, HostRewrite, RouteConfiguration, RouteSource};

use super::machine::ServerOptions;
use crate::resource::Resource;

/// Adapts an accepted resource. Only a trusted control plane may have the authority of requests rewritten: by it, clients check
/// whom they talk to (gRFC A81).
pub(super) fn adapt(resource: &mut Resource, options: ServerOptions) {
    match resource {
        Resource::Cluster(cluster) => Arc::make_mut(cluster).proxyless = true,
        Resource::RouteConfiguration(routes) if !options.trusted_xds_server => keep_authority(routes),
        Resource::Listener(listener) if !options.trusted_xds_server => {
            *listener = Arc::new(listener.as_ref().clone().map_http(|http| {
                let mut http = http.clone();
                if let RouteSource::Inline(routes) = &mut http.routes {
                    keep_authority(routes);
                }
                http
            }));
        }
        Resource::RouteConfiguration(_)
        | Resource::Listener(_)
        | Resource::Secret(_)
        | Resource::ClusterLoadAssignment { .. } => {}
    }
}

fn keep_authority(routes: &mut Arc<RouteConfiguration>) {
    let routes = Arc::make_mut(routes);
    for route in routes.virtual_hosts.iter_mut().flat_map(|host| &mut host.routes) {
        if let Action::Route(action) = &mut route.action
            && action.host_rewrite == HostRewrite::Auto
        {
            action.host_rewrite = HostRewrite::None;
        }
    }
}

#[cfg(test)]
mod tests {
    use mesh_core::model::{HttpConnectionManager, Listener, PathMatcher, Route, RouteAction, RouteMatch, VirtualHost};

    use super::*;

    fn rewriting() -> Arc<RouteConfiguration> {
        let mut action = RouteAction::to_cluster("c");
        action.host_rewrite = HostRewrite::Auto;
        let route = Route::new(RouteMatch::path(PathMatcher::Prefix("/".into())), action);
        Arc::new(RouteConfiguration::new("r", vec![VirtualHost::new("v", vec![route])]))
    }

    fn rewrite(routes: &RouteConfiguration) -> &HostRewrite {
        let Action::Route(action) = &routes.virtual_hosts[0].routes[0].action else { panic!("{routes:?}") };
        &action.host_rewrite
    }

    #[test]
    fn only_a_trusted_control_plane_has_the_authority_rewritten() {
        for (trusted_xds_server, expected) in [(false, HostRewrite::None), (true, HostRewrite::Auto)] {
            let options = ServerOptions { proxyless: true, trusted_xds_server, ..ServerOptions::default() };
            let mut resource = Resource::RouteConfiguration(rewriting());
            adapt(&mut resource, options);
            let Resource::RouteConfiguration(routes) = &resource else { panic!("{resource:?}") };
            assert_eq!(rewrite(routes), &expected);

            let http = HttpConnectionManager::new("l", RouteSource::Inline(rewriting()));
            let mut resource = Resource::Listener(Arc::new(Listener::api("l", http)));
            adapt(&mut resource, options);
            let Resource::Listener(listener) = &resource else { panic!("{resource:?}") };
            let RouteSource::Inline(routes) = &listener.http_connection_manager().unwrap().routes else { panic!() };
            assert_eq!(rewrite(routes), &expected);
        }
    }
}
