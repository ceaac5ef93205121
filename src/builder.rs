//! Joining a mesh.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use mesh_core::{
    model::{Cluster, Http2Keepalive, HttpConnectionManager, Listener, RouteConfiguration, RouteSource},
    node::{Labels, Node, Role},
    store::Store,
    target::Target,
};
use mesh_tower::{Worker, dns::Resolve};

use crate::{
    Mesh,
    background::{Background, Joining, Source, rng},
    error::{Error, Kind},
    resolver,
};

/// Configures a member of a mesh: its identity, and the sources of its configuration, which are code and at most one
/// directory or control plane.
#[derive(Debug, Default)]
#[must_use]
pub struct MeshBuilder {
    sources: Vec<Box<dyn Source>>,
    service: Option<String>,
    namespace: Option<String>,
    labels: Labels,
    clusters: Vec<Cluster>,
    routes: Vec<(String, RouteConfiguration)>,
    resolver: Option<Arc<dyn Resolve>>,
    http2_keepalive: Option<Http2Keepalive>,
}

impl MeshBuilder {
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

    /// Adds a cluster from code, beside those of other sources.
    pub fn cluster(mut self, cluster: Cluster) -> Self {
        self.clusters.push(cluster);
        self
    }

    /// Adds the routes of calls to `target`, a `HOST:PORT`, from code.
    pub fn routes(mut self, target: impl Into<String>, routes: RouteConfiguration) -> Self {
        self.routes.push((target.into(), routes));
        self
    }

    /// Resolves the host names of DNS clusters. Default with the feature `dns`: the hosts file and the name servers of
    /// the system. Without the feature, names are not resolved by default.
    pub fn resolver(mut self, resolver: impl Resolve) -> Self {
        self.resolver = Some(Arc::new(resolver));
        self
    }

    /// Sends a PING on each HTTP/2 connection to an endpoint every `interval`, and closes a connection whose PING is not
    /// answered within `timeout`: its requests fail, and later ones get a new connection. Default as the cluster is configured
    /// (Envoy `http2_protocol_options.connection_keepalive`), which has precedence; else there are none.
    ///
    /// It is a setting of all channels, because they share their connections.
    pub fn http2_keepalive(mut self, interval: Duration, timeout: Duration) -> Self {
        self.http2_keepalive = Some(Http2Keepalive::new(interval, timeout));
        self
    }

    /// Joins the mesh; returns when all listeners are in force: the targets that can be called, and the sockets of this
    /// program. The routes, clusters and endpoints of a target are loaded when the first channel to it is created.
    ///
    /// # Errors
    /// If the configuration or a name in it cannot be used, or comes from more than one directory or control plane.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn build(self) -> Result<Mesh, Error> {
        let mut member = Joining::new(self.node()?);
        self.configure(&member.store)?;
        let mut sources = self.sources;
        let source = sources.pop();
        if !sources.is_empty() {
            return Err(Kind::Sources.into());
        }
        let resolver = self.resolver.unwrap_or_else(resolver::default);
        let background = Background::start(source, resolver, &mut member).await?;
        let worker = Worker::single().with_http2_keepalive(self.http2_keepalive);
        Ok(Mesh::new(member, background, worker))
    }

    /// Adds a source of configuration.
    #[cfg(feature = "xds")]
    pub(crate) fn source(mut self, source: impl Source + 'static) -> Self {
        self.sources.push(Box::new(source));
        self
    }

    fn node(&self) -> Result<Node, Error> {
        let (service, namespace) = (self.service.as_deref(), self.namespace.as_deref());
        Ok(Node::new(Role::Library, service, namespace, self.labels.clone())?)
    }

    /// Applies the configuration from code.
    fn configure(&self, store: &Store) -> Result<(), Error> {
        let (now, mut rng) = (Instant::now(), rng());
        for cluster in &self.clusters {
            store.set_cluster(Arc::new(cluster.clone()), now, &mut rng);
        }
        for (target, routes) in &self.routes {
            let name: Arc<str> = target.parse::<Target>().map_err(Kind::from)?.to_string().into();
            let failed = |source| Kind::Routes { target: target.clone(), source };
            store.set_routes(&Arc::new(routes.clone())).map_err(failed)?;
            let mut http = HttpConnectionManager::new(&name, RouteSource::Rds(routes.name.clone()));
            http.stream_idle_timeout = None;
            store.set_listener(Arc::new(Listener::api(&name, http)));
        }
        Ok(())
    }
}
