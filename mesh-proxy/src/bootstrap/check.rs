//! Checks of a bootstrap as a whole.

use std::collections::HashSet;

use mesh_core::{
    model::{Action, ClusterName, ClusterSpecifier, RouteConfiguration, RouteSource},
    store::Store,
};
use mesh_xds::{
    bootstrap::{Bootstrap, BootstrapError, BootstrapFault},
    proto::envoy::config::{bootstrap::v3::Bootstrap as ProtoBootstrap, listener::v3::Listener as ProtoListener},
    resource::{FieldError, Resource, ResourceError},
};

/// Checks that routes compile and refer to clusters of the bootstrap, because there is no other source of clusters.
/// `bootstrap` is decoded from `proto`.
pub(super) fn routes(proto: &ProtoBootstrap, bootstrap: &Bootstrap) -> Result<(), BootstrapError> {
    let clusters: HashSet<&str> = bootstrap
        .resources
        .iter()
        .filter_map(|resource| match resource {
            Resource::Cluster(cluster) => Some(cluster.name.as_str()),
            _ => None,
        })
        .collect();
    let listeners = bootstrap.resources.iter().filter_map(|resource| match resource {
        Resource::Listener(listener) => Some(listener),
        _ => None,
    });
    let protos = proto.static_resources.iter().flat_map(|resources| &resources.listeners);
    let mut faults = Vec::new();
    for (index, (listener, proto)) in listeners.zip(protos).enumerate() {
        let Some(RouteSource::Inline(config)) = listener.http_connection_manager().map(|http| &http.routes) else {
            continue;
        };
        let place = format!("static_resources.listeners[{index}]");
        let routes = path_of_routes(proto);
        let mut refuse = |path: String, reason: String| {
            let error = FieldError { path, reason };
            let error = ResourceError { kind: "listener".to_owned(), name: listener.name.to_string(), error };
            faults.push(BootstrapFault::in_resource(&place, error));
        };
        for (path, name) in references(config).filter(|(_, name)| !clusters.contains(name.as_str())) {
            refuse(format!("{routes}.{path}"), format!("there is no cluster {:?}", name.as_str()));
        }
        if let Err(error) = Store::new().set_routes(config) {
            refuse(routes, error.to_string());
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(BootstrapError { faults }) }
}

/// The path of a listener's inline routes, in the last filter of its only filter chain.
fn path_of_routes(listener: &ProtoListener) -> String {
    let (chain, filters) = match (listener.filter_chains.first(), &listener.default_filter_chain) {
        (Some(chain), _) => ("filter_chains[0]", chain.filters.len()),
        (None, Some(chain)) => ("default_filter_chain", chain.filters.len()),
        (None, None) => return "api_listener.api_listener.route_config".to_owned(),
    };
    format!("{chain}.filters[{}].typed_config.route_config", filters.saturating_sub(1))
}

/// The clusters that routes refer to, with the paths of the references.
fn references(config: &RouteConfiguration) -> impl Iterator<Item = (String, &ClusterName)> {
    let hosts = config.virtual_hosts.iter().enumerate();
    let routes = hosts.flat_map(|(host, config)| {
        config
            .routes
            .iter()
            .enumerate()
            .map(move |(route, config)| (format!("virtual_hosts[{host}].routes[{route}]"), config))
    });
    routes.flat_map(|(path, route)| match &route.action {
        Action::Route(action) => match &action.cluster {
            ClusterSpecifier::Cluster(name) => vec![(format!("{path}.route.cluster"), name)],
            ClusterSpecifier::Weighted(split) => (0..)
                .zip(&split.clusters)
                .map(|(index, cluster)| {
                    (format!("{path}.route.weighted_clusters.clusters[{index}].name"), &cluster.name)
                })
                .collect(),
            ClusterSpecifier::ClusterHeader(_) => Vec::new(),
        },
        Action::Redirect(_) | Action::DirectResponse(_) | Action::NonForwarding => Vec::new(),
    })
}
