//! Checks of a bootstrap as a whole.

use std::{collections::HashSet, sync::Arc};

use mesh_core::{
    filter::NamedCluster,
    model::{Action, ClusterName, ClusterSpecifier, FilterChain, NetworkFilter, RouteConfiguration, RouteSource},
    store::Store,
};
use mesh_xds::{
    bootstrap::{Bootstrap, BootstrapError, BootstrapFault},
    proto::envoy::config::{
        bootstrap::v3::Bootstrap as ProtoBootstrap,
        listener::v3::{FilterChain as ProtoFilterChain, Listener as ProtoListener},
    },
    resource::{FieldError, Resource, ResourceError},
    secrets,
};

/// Checks that the secrets in files can be read.
pub(super) fn secrets(bootstrap: &Bootstrap) -> Result<(), String> {
    for resource in &bootstrap.resources {
        match resource {
            Resource::Listener(listener) => secrets::check(listener.secret_names())?,
            Resource::Cluster(cluster) => secrets::check(cluster.secret_names())?,
            _ => {}
        }
    }
    Ok(())
}

/// Checks that routes compile, and that routes and filters refer to clusters of the bootstrap, if there is no other source of clusters.
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
    let has_others = bootstrap.dynamic_resources.cds_config.is_some();
    let listeners = bootstrap.resources.iter().filter_map(|resource| match resource {
        Resource::Listener(listener) => Some(listener),
        _ => None,
    });
    let protos = proto.static_resources.iter().flat_map(|resources| &resources.listeners);
    let mut faults = Vec::new();
    for (index, (listener, proto)) in listeners.zip(protos).enumerate() {
        let place = format!("static_resources.listeners[{index}]");
        let mut refuse = |path: String, reason: String| {
            let error = FieldError { path, reason };
            let error = ResourceError::new("listener", &listener.name, error);
            faults.extend(BootstrapFault::in_resource(&place, error));
        };
        for (chain, filter) in listener.all_filter_chains().zip(paths_of_last_filters(proto)) {
            // Others may come from a control plane. Those of static routes must exist from the start, as in Envoy.
            let is_known = |path: &str, name: &ClusterName| {
                clusters.contains(name.as_str()) || (has_others && !path.starts_with("route_config."))
            };
            for (path, name) in references_of(chain).filter(|(path, name)| !is_known(path, name)) {
                refuse(format!("{filter}.{path}"), format!("there is no cluster {:?}", name.as_str()));
            }
            if let Some(config) = inline_routes(chain)
                && let Err(error) = Store::new().set_routes(config)
            {
                refuse(format!("{filter}.route_config"), error.to_string());
            }
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(BootstrapError { faults }) }
}

/// The path of the last filter of each chain, which serves the connections.
fn paths_of_last_filters(listener: &ProtoListener) -> Vec<String> {
    if listener.api_listener.is_some() {
        return vec!["api_listener.api_listener".to_owned()];
    }
    let last = |place: String, chain: &ProtoFilterChain| {
        format!("{place}.filters[{}].typed_config", chain.filters.len().saturating_sub(1))
    };
    let chains = listener.filter_chains.iter().enumerate();
    let chains = chains.map(|(index, chain)| last(format!("filter_chains[{index}]"), chain));
    let default = listener.default_filter_chain.iter().map(|chain| last("default_filter_chain".to_owned(), chain));
    chains.chain(default).collect()
}

fn inline_routes(chain: &FilterChain) -> Option<&Arc<RouteConfiguration>> {
    match &chain.http_connection_manager()?.routes {
        RouteSource::Inline(config) => Some(config),
        RouteSource::Rds(_) => None,
    }
}

/// The clusters that the last filter of a chain refers to, with the paths of the references in it. An HTTP filter is
/// found in its list by its name.
fn references_of(chain: &FilterChain) -> impl Iterator<Item = (String, &ClusterName)> {
    let routes = inline_routes(chain).into_iter().flat_map(|config| references(config));
    let routes = routes.map(|(path, name)| (format!("route_config.{path}"), name));
    let http_filters = chain.http_connection_manager().into_iter().flat_map(|http| &http.http_filters);
    let of_filters = http_filters.flat_map(|filter| {
        let clusters = filter.config.clusters().into_iter();
        clusters
            .map(|NamedCluster { path, name, .. }| (format!("http_filters[{}].typed_config.{path}", filter.name), name))
    });
    let proxies = chain.filters.iter().filter_map(|filter| match filter {
        NetworkFilter::TcpProxy(proxy) => Some(proxy),
        NetworkFilter::HttpConnectionManager(_)
        | NetworkFilter::Rbac(_)
        | NetworkFilter::ExtAuthz(_)
        | NetworkFilter::DirectResponse(_)
        | NetworkFilter::Echo => None,
    });
    let of_network = chain.filters.iter().enumerate().flat_map(|(index, filter)| {
        let clusters = match filter {
            NetworkFilter::ExtAuthz(filter) => filter.clusters(),
            _ => Vec::new(),
        };
        let path = move |path| format!("filters[{index}].typed_config.{path}");
        clusters.into_iter().map(move |NamedCluster { path: own, name, .. }| (path(own), name))
    });
    let names = proxies.flat_map(|proxy| match &proxy.clusters[..] {
        [cluster] => vec![("cluster".to_owned(), &cluster.name)],
        clusters => (0..)
            .zip(clusters)
            .map(|(index, cluster)| (format!("weighted_clusters.clusters[{index}].name"), &cluster.name))
            .collect(),
    });
    routes.chain(of_filters).chain(of_network).chain(names)
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
