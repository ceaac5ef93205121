//! `-c envoy.yaml`: an Envoy bootstrap, read, checked and put into the store.

use std::{fs, io, path::PathBuf, time::Instant};

use mesh_core::{
    model::{Action, ClusterSpecifier, HttpConnectionManager, RouteSource},
    rng::SplitMix64,
    route::RouteTableError,
    store::Store,
};
use mesh_xds::{
    bootstrap::{self, Bootstrap, BootstrapError},
    json::{self, TextError},
    proto::envoy::config::bootstrap::v3::Bootstrap as ProtoBootstrap,
    resource::Resource,
};
use prost::Message as _;
use thiserror::Error;

use crate::args::Args;

/// A bootstrap that cannot be used.
#[derive(Debug, Error)]
pub(crate) enum LoadError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// It is not what a bootstrap is.
    #[error(transparent)]
    Text(#[from] TextError),
    /// It asks for what is not supported, or is out of range.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// Its parts do not fit together.
    #[error("{source_name}: listener {listener}: {reason}")]
    Listener { source_name: String, listener: String, reason: String },
}

/// A bootstrap, as it was given and as it is meant.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) proto: ProtoBootstrap,
    pub(crate) bootstrap: Bootstrap,
}

/// Reads the bootstrap that the flags name.
pub(crate) fn load(args: &Args) -> Result<Loaded, LoadError> {
    let mut proto = ProtoBootstrap::default();
    let mut source_name = String::new();
    if let Some(path) = &args.config_path {
        let text = fs::read_to_string(path).map_err(|source| LoadError::Read { path: path.clone(), source })?;
        source_name = path.display().to_string();
        proto = json::from_text(&text, &source_name)?;
    }
    if let Some(yaml) = &args.config_yaml {
        let over: ProtoBootstrap = json::from_text(yaml, "--config-yaml")?;
        // Protobuf's own merge: single fields are replaced, lists are joined. Envoy merges the two the same way.
        proto.merge(&*over.encode_to_vec()).expect("a message that was just encoded");
        if source_name.is_empty() {
            source_name.push_str("--config-yaml");
        }
    }
    let bootstrap = bootstrap::from_proto(&proto, &source_name)?;
    check_routes(&bootstrap, &source_name)?;
    Ok(Loaded { proto, bootstrap })
}

impl Loaded {
    /// Puts clusters and listeners into `store`.
    pub(crate) fn apply(&self, store: &Store, rng: &mut SplitMix64) -> Result<(), RouteTableError> {
        for resource in &self.bootstrap.resources {
            match resource {
                Resource::Cluster(cluster) => store.set_cluster(cluster.clone(), Instant::now(), rng),
                Resource::ClusterLoadAssignment { cluster_name, assignment } => {
                    store.set_endpoints(cluster_name, assignment, rng);
                }
                Resource::Listener(listener) => store.set_listener(listener.clone()),
                Resource::RouteConfiguration(routes) => store.set_routes(routes)?,
            }
        }
        Ok(())
    }
}

/// Routes must compile and name clusters of the file: nothing else can ever bring a missing one.
fn check_routes(bootstrap: &Bootstrap, source_name: &str) -> Result<(), LoadError> {
    let clusters: std::collections::HashSet<_> = bootstrap
        .resources
        .iter()
        .filter_map(|resource| match resource {
            Resource::Cluster(cluster) => Some(cluster.name.as_str()),
            _ => None,
        })
        .collect();
    for resource in &bootstrap.resources {
        let Resource::Listener(listener) = resource else { continue };
        let refuse = |reason: String| LoadError::Listener {
            source_name: source_name.to_owned(),
            listener: listener.name.to_string(),
            reason,
        };
        if let Some(missing) = cluster_names(&listener.http).find(|name| !clusters.contains(name)) {
            return Err(refuse(format!("its routes name the cluster {missing:?}, which does not exist")));
        }
        if let RouteSource::Inline(routes) = &listener.http.routes {
            Store::new().set_routes(routes).map_err(|error| refuse(error.to_string()))?;
        }
    }
    Ok(())
}

/// The clusters that inline routes name.
fn cluster_names(http: &HttpConnectionManager) -> impl Iterator<Item = &str> {
    let routes = match &http.routes {
        RouteSource::Inline(routes) => &routes.virtual_hosts[..],
        RouteSource::Rds(_) => &[],
    };
    routes.iter().flat_map(|host| &host.routes).flat_map(|route| match &route.action {
        Action::Route(action) => match &action.cluster {
            ClusterSpecifier::Cluster(name) => vec![name.as_str()],
            ClusterSpecifier::Weighted(split) => split.clusters.iter().map(|cluster| cluster.name.as_str()).collect(),
            ClusterSpecifier::ClusterHeader(_) => Vec::new(),
        },
        Action::Redirect(_) | Action::DirectResponse(_) | Action::NonForwarding => Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    const LISTENER: &str = "
static_resources:
  listeners:
  - name: main
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          route_config: {virtual_hosts: [{name: v, domains: ['*'], routes: [{match: {prefix: /}, route: {cluster: up}}]}]}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {\"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
";

    fn load_yaml(yaml: &str) -> Result<Loaded, LoadError> {
        load(&Args::parse_from(["mesh-proxy", "--config-yaml", yaml]))
    }

    #[test]
    fn a_route_to_a_cluster_that_no_one_brings_is_refused() {
        let error = load_yaml(LISTENER).unwrap_err().to_string();
        assert_eq!(error, "--config-yaml: listener main: its routes name the cluster \"up\", which does not exist");
        let whole = format!("{LISTENER}  clusters: [{{name: up, type: STATIC, connect_timeout: 1s}}]\n");
        let loaded = load_yaml(&whole).unwrap();
        let store = Store::new();
        loaded.apply(&store, &mut SplitMix64::new(1)).unwrap();
        assert!(store.cluster("up").is_some() && store.listeners().contains_key("main"));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let args = Args::parse_from(["mesh-proxy", "-c", "/nonexistent/envoy.yaml"]);
        let error = load(&args).unwrap_err().to_string();
        assert!(error.starts_with("cannot read /nonexistent/envoy.yaml: No such file"), "{error}");
    }
}
