//! Joining a mesh.

use std::{
    hash::{BuildHasher as _, RandomState},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use mesh_control::{
    config::{DEFAULT_NAMESPACE, Labels},
    server,
    source::Directory,
    translate::{Node, Role},
};
use mesh_core::{
    model::{
        Cluster, HttpConnectionManager, Listener, ListenerAddress, RouteConfiguration, RouteSource, TrafficDirection,
    },
    rng::SplitMix64,
    store::{ListenerMap, Store},
    target::Target,
};
use mesh_tower::dns::{DnsDiscovery, SystemResolver};
use mesh_xds::{
    ads::{self, ClusterInterest, Interest, Notice, Options, in_process},
    apply::StoreSink,
};
use tokio::{
    sync::{broadcast, watch},
    time::timeout,
};

use crate::{
    Mesh,
    error::{Error, Kind},
    event::{self, Applied, ConfigEvent},
    identity,
};

/// How long the first configuration may take to come into force.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Says who joins a mesh and where its configuration comes from.
#[derive(Debug, Default)]
#[must_use]
pub struct MeshBuilder {
    config_dir: Option<PathBuf>,
    service: Option<String>,
    namespace: Option<String>,
    labels: Labels,
    clusters: Vec<Cluster>,
    routes: Vec<(String, RouteConfiguration)>,
}

impl MeshBuilder {
    /// Takes the configuration from a directory of Istio resources (`*.yaml`, `*.yml`, `*.json`) and follows it as it
    /// changes. Without one, all configuration is from code.
    pub fn config_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.config_dir = Some(dir.into());
        self
    }

    /// The service that this program belongs to: `NAME`, `NAME.NAMESPACE` or a fully qualified name. Default none: the
    /// program only calls others.
    pub fn service(mut self, service: impl Into<String>) -> Self {
        self.service = Some(service.into());
        self
    }

    /// The namespace of this program, in which short names are looked up. Default that of the service, else `default`.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// Adds a label of this program's workload, such as `version`; Istio resources select workloads by their labels.
    /// Default those that all endpoints of the service share.
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }

    /// Adds a cluster from code, beside those of the directory.
    pub fn cluster(mut self, cluster: Cluster) -> Self {
        self.clusters.push(cluster);
        self
    }

    /// Adds from code how calls of `target`, a `HOST:PORT`, are routed.
    pub fn routes(mut self, target: impl Into<String>, routes: RouteConfiguration) -> Self {
        self.routes.push((target.into(), routes));
        self
    }

    /// Joins the mesh; returns when the whole configuration is in force.
    ///
    /// # Errors
    /// If the configuration or a name in it cannot be used.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn build(self) -> Result<Mesh, Error> {
        let node = self.node()?;
        let store = Arc::new(Store::new());
        self.configure(&store)?;
        let (listeners, follow) = watch::channel(store.listeners());
        let (events, _) = broadcast::channel(event::CAPACITY);
        let mesh = Mesh::new(store, follow, events.clone(), identity::telemetry(&node), node.namespace.as_str().into());
        let dns = DnsDiscovery::new(mesh.store(), SystemResolver::new());
        dns.reconcile();
        match &self.config_dir {
            Some(dir) => follow_directory(dir, &node, &mesh, (listeners, dns), events).await?,
            None => drop(tokio::spawn(async move {
                let _dns = dns;
                listeners.closed().await;
            })),
        }
        Ok(mesh)
    }

    fn node(&self) -> Result<Node, Error> {
        let mut node = match &self.service {
            Some(service) => identity::node(service, self.namespace.as_deref(), self.labels.clone())?,
            None => Node { labels: self.labels.clone(), ..Node::client(Role::Library, DEFAULT_NAMESPACE) },
        };
        if let Some(namespace) = &self.namespace {
            node.namespace.clone_from(namespace);
        }
        Ok(node)
    }

    /// Puts what comes from code in force.
    fn configure(&self, store: &Store) -> Result<(), Error> {
        let (now, mut rng) = (Instant::now(), rng());
        for cluster in &self.clusters {
            store.set_cluster(Arc::new(cluster.clone()), now, &mut rng);
        }
        for (target, routes) in &self.routes {
            let name: Arc<str> = target.parse::<Target>().map_err(Kind::from)?.to_string().into();
            let failed = |source| Kind::Routes { target: target.clone(), source };
            store.set_routes(&Arc::new(routes.clone())).map_err(failed)?;
            store.set_listener(Arc::new(Listener {
                address: ListenerAddress::Api,
                traffic_direction: TrafficDirection::Outbound,
                stat_prefix: Arc::clone(&name),
                http: Arc::new(HttpConnectionManager::new(&name, RouteSource::Rds(routes.name.clone()))),
                name,
            }));
        }
        Ok(())
    }
}

/// Reads the directory, puts it in force, and goes on doing so for as long as anything uses the mesh.
async fn follow_directory(
    dir: &Path,
    node: &Node,
    mesh: &Mesh,
    (listeners, dns): (watch::Sender<Arc<ListenerMap>>, DnsDiscovery),
    events: broadcast::Sender<ConfigEvent>,
) -> Result<(), Error> {
    let (directory, sources) = Directory::open(dir).map_err(|source| Kind::Config { path: dir.to_owned(), source })?;
    let of_files = events.clone();
    tokio::spawn(directory.run(move |reload| drop(of_files.send(reload.into()))));
    let (transport, acceptor) = in_process::pair();
    tokio::spawn(server::serve(acceptor, sources));

    let (settled, mut first) = watch::channel(false);
    let (store, mut applied) = (mesh.store(), Applied::default());
    let listeners = Arc::new(listeners);
    let on_notice = {
        let (store, listeners) = (Arc::clone(&store), Arc::clone(&listeners));
        move |notice: Notice| match notice {
            Notice::Settled => {
                dns.reconcile();
                listeners.send_if_modified(|known| {
                    let current = store.listeners();
                    let is_new = !Arc::ptr_eq(known, &current);
                    *known = current;
                    is_new
                });
                settled.send_replace(true);
                let applied = std::mem::take(&mut applied);
                if !applied.is_empty() {
                    // Without anybody who listens there is nobody to tell.
                    drop(events.send(ConfigEvent::Applied(applied)));
                }
            }
            notice => applied.note(notice),
        }
    };
    let options =
        Options { node: node.to_xds(), listeners: Interest::Everything, clusters: ClusterInterest::Everything };
    let client = ads::run(transport, options, StoreSink::new(store, rng(), on_notice));
    tokio::spawn(async move {
        tokio::select! {
            () = client => {}
            () = listeners.closed() => {}
        }
    });
    let in_force = timeout(START_LIMIT, first.wait_for(|settled| *settled)).await;
    in_force
        .map_err(|_| Kind::NotInForce { limit: START_LIMIT })?
        .map_err(|_| Kind::NotInForce { limit: START_LIMIT })?;
    Ok(())
}

/// Chance for load balancing and jitter; nothing secret.
fn rng() -> SplitMix64 {
    SplitMix64::new(RandomState::new().hash_one(()))
}
