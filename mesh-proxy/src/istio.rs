//! `--istio DIR`: configuration from a directory of Istio resources.
//!
//! The configuration takes the same path as one from a remote control plane, within this process: directory,
//! translation, ADS server, agent, store. This module connects the parts; they log their events.

use std::{
    io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use mesh_control::{
    ca::{Authority, CaError, IssueError},
    config::{Options, selects},
    diagnostic::Style,
    identities::Identities,
    mesh::Mesh,
    server,
    source::{Directory, Follower, OpenError},
    translate::with_labels,
};
use mesh_core::{
    causes::with_causes,
    node::{Interception, Labels, Node, NodeError, Role as NodeRole},
    rng::SplitMix64,
    store::{Store, Watch},
};
use mesh_tower::{peer_metadata::LocalPeer, telemetry::Telemetry};
use mesh_xds::{
    client::{Agent, Notice, Scope, transport::in_process},
    node::to_xds,
    status::ConfigStatus,
};
use thiserror::Error;
use tokio::sync::watch;

use crate::args::{Args, Role};

/// A directory that cannot configure this proxy.
#[derive(Debug, Error)]
pub(crate) enum IstioError {
    /// The directory cannot be used.
    #[error("{}: {}", path.display(), source.report(Style::of(&io::stderr())))]
    Directory { path: PathBuf, source: OpenError },
    /// The certificate authority cannot be used.
    #[error("{}: {}", path.display(), with_causes(source))]
    Authority { path: PathBuf, source: CaError },
    /// The lifetime of certificates is out of range.
    #[error(transparent)]
    Lifetime(#[from] IssueError),
    /// A sidecar serves a service.
    #[error("--role sidecar needs --service NAME[.NAMESPACE]")]
    NoService,
    /// The service, the namespace or a label is invalid.
    #[error("{}", with_causes(.0))]
    Node(#[from] NodeError),
}

/// A directory after its first read, and the node of this proxy.
#[derive(Debug)]
pub(crate) struct Istio {
    directory: Follower,
    meshes: watch::Receiver<Arc<Mesh>>,
    node: Node,
    identities: Option<Arc<dyn Identities>>,
}

/// Reads the directory that the flags name.
pub(crate) fn open(args: &Args, path: PathBuf) -> Result<Istio, IstioError> {
    let node = node(args)?;
    let identities = identities(args)?;
    let options = Options::default()
        .with_namespace(args.namespace.as_deref())
        .with_certificates(identities.is_some())
        .with_allow_local_jwks_uri(args.allow_local_jwks_uri);
    let (directory, meshes) =
        Directory::open(&path, options).map_err(|source| IstioError::Directory { path, source })?;
    Ok(Istio { directory, meshes, node, identities })
}

/// Where the certificate of the workload comes from.
fn identities(args: &Args) -> Result<Option<Arc<dyn Identities>>, IstioError> {
    let Some(path) = &args.ca else { return Ok(None) };
    match Authority::open(path, SystemTime::now()) {
        Ok(authority) => Ok(Some(Arc::new(authority.with_ttl(Duration::from_secs(args.certificate_ttl_s))?))),
        Err(source) => Err(IstioError::Authority { path: path.clone(), source }),
    }
}

fn node(args: &Args) -> Result<Node, IstioError> {
    let labels: Labels = args.labels.iter().cloned().collect();
    let role = match args.role {
        Role::Sidecar => NodeRole::Sidecar(Interception::None),
        Role::Gateway => NodeRole::Gateway,
    };
    if args.service.is_none() && args.role == Role::Sidecar {
        return Err(IstioError::NoService);
    }
    let node = Node::new(role, args.service.as_deref(), args.namespace.as_deref(), labels)?;
    Ok(node.with_service_account(args.service_account.as_deref())?)
}

impl Istio {
    /// Telemetry with the workload of the proxy.
    pub(crate) fn telemetry(&self) -> Telemetry {
        // The labels of the first configuration: metrics of one process keep one name.
        let node = with_labels(self.node.clone(), &self.meshes.borrow().registry);
        let workload = node.workload();
        Telemetry {
            peer: LocalPeer::new(&node.id(), &workload).map(Arc::new),
            workload: Some(Arc::new(workload)),
            service: node.destination_service().map(Arc::new),
            host_header_fallback: matches!(node.role, NodeRole::Sidecar(_)),
            ..Telemetry::default()
        }
    }

    /// Node id and cluster, as a control plane sees them.
    pub(crate) fn identity(&self) -> crate::state::Node {
        crate::state::Node { id: self.node.id(), cluster: self.node.cluster() }
    }

    /// Starts keeping `store` up to date with the directory. The watch changes whenever a configuration is in force; the status
    /// has what becomes of each change.
    pub(crate) fn follow(self, store: Arc<Store>) -> (Watch, ConfigStatus) {
        let (transport, acceptor) = in_process::pair();
        let rng = SplitMix64::new(fastrand::u64(..));
        let agent = Agent::new(transport, to_xds(&self.node), Scope::Everything, Arc::clone(&store), rng);
        let source = self.directory.status();
        let (settled, status) =
            (agent.settled(), ConfigStatus { client: agent.status(), source: Some(source.clone()) });
        let (meshes, node) = (self.meshes.clone(), self.node);
        let options = server::Options::default().with_identities(self.identities);
        tokio::spawn(server::serve(acceptor, self.meshes, source, options));
        tokio::spawn(agent.run(move |notice| {
            if notice == Notice::Settled && store.listeners().is_empty() {
                tracing::warn!("{}", no_listeners(&node, &meshes.borrow()));
            }
        }));
        tokio::spawn(self.directory.run(|_| {}));
        (settled, status)
    }
}

/// The warning about a configuration without listeners for `node`. A missing label is the usual cause.
fn no_listeners(node: &Node, mesh: &Mesh) -> String {
    let Node { role, labels, namespace, .. } = with_labels(node.clone(), &mesh.registry);
    let is_selected = mesh.config.gateways.iter().any(|gateway| selects(&gateway.selector, &labels));
    let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let labels = if labels.is_empty() { "it has none".to_owned() } else { labels.join(", ") };
    match role {
        NodeRole::Gateway if is_selected => {
            format!("no listeners: no VirtualService has rules for the Gateways that select its labels ({labels})")
        }
        NodeRole::Gateway => format!("no listeners: no Gateway selects its labels ({labels})"),
        NodeRole::Sidecar(_) | NodeRole::Library => {
            format!("no listeners: no Sidecar of namespace {namespace} that selects its labels ({labels}) has ports")
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn node_of(line: &str) -> Result<Node, String> {
        node(&Args::parse_from(line.split(' '))).map_err(|error| error.to_string())
    }

    #[test]
    fn the_flags_determine_the_node() {
        let sidecar = node_of("mesh-proxy --istio d --service ratings --namespace books --label version=v1").unwrap();
        assert_eq!(sidecar.service.unwrap().as_str(), "ratings.books.svc.cluster.local");
        assert_eq!((sidecar.namespace.as_str(), sidecar.labels["version"].as_str()), ("books", "v1"));
        let gateway = node_of("mesh-proxy --istio d --role gateway --namespace edge").unwrap();
        assert_eq!((gateway.role, gateway.namespace.as_str()), (NodeRole::Gateway, "edge"));
        let other = node_of("mesh-proxy --istio d --service ratings.books").unwrap();
        assert_eq!(other.namespace, "books");
        let bad = node_of("mesh-proxy --istio d --service ra/tings").unwrap_err();
        assert!(bad.starts_with("invalid service name \"ra/tings\": \"ra/tings\" is not a DNS label"), "{bad}");
        assert_eq!(node_of("mesh-proxy --istio d").unwrap_err(), "--role sidecar needs --service NAME[.NAMESPACE]");
    }

    #[test]
    fn a_directory_with_errors_is_refused_with_file_and_line() {
        let path = std::env::temp_dir().join(format!("mesh-proxy-istio-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        let yaml =
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec: {hosst: [a]}\n";
        std::fs::write(path.join("bad.yaml"), yaml).unwrap();
        let args = Args::parse_from(["mesh-proxy", "--istio", "d", "--service", "a"]);
        let error = open(&args, path.clone()).unwrap_err().to_string();
        std::fs::remove_dir_all(&path).unwrap();
        assert!(error.contains("bad.yaml:4:") && error.contains("hosst"), "{error}");
    }
}
