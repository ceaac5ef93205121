//! Joining a mesh.

use std::{
    net::SocketAddr,
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, Instant},
};

use mesh_core::{
    model::{
        AccessLog, Cluster, Http2Keepalive, HttpConnectionManager, Listener, LoadAssignment, RouteConfiguration,
        RouteSource, UpgradeConfig,
    },
    node::{Labels, Node, Role},
    route::RouteTable,
    store::Store,
    target::Target,
};
use mesh_tower::{Connect, Worker, dns::Resolve, telemetry::LogFiles};

use crate::{
    Mesh, Protocol,
    background::{Background, Joining, Source, rng},
    endpoints,
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
    endpoints: Vec<(String, Protocol, LoadAssignment)>,
    access_logs: Vec<AccessLog>,
    resolver: Option<Arc<dyn Resolve>>,
    http2_keepalive: Option<Http2Keepalive>,
    worker: Option<Worker>,
    #[cfg(feature = "istio")]
    pub(crate) allow_local_jwks_uri: bool,
    service_account: Option<String>,
    #[cfg(all(feature = "istio", feature = "tls"))]
    pub(crate) certificates: crate::certificates::Certificates,
}

impl MeshBuilder {
    /// The service that this program belongs to: `NAME`, `NAME.NAMESPACE` or a fully qualified name. Default none: the
    /// program only calls others.
    pub fn service(mut self, service: impl Into<String>) -> Self {
        self.service = Some(service.into());
        self
    }

    /// The namespace of this program, in which short names are looked up, and of resources of a directory that name none. Default
    /// `default`, and that of the service for the program itself.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// The service account of this program, for its certificate and the rules of others about it: its identity is
    /// `spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT`. Default that of the endpoints of its service in the configuration,
    /// and `default` if they have none or several.
    pub fn service_account(mut self, service_account: impl Into<String>) -> Self {
        self.service_account = Some(service_account.into());
        self
    }

    /// Adds a label of this program's workload, such as `version`; Istio resources select workloads by their labels.
    /// Default those that all endpoints of the service share.
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }

    /// Adds a service from code. `target` is its `HOST:PORT`, and `protocol` is the protocol of its endpoints at `addresses`.
    /// Istio's defaults apply: least-request load balancing, two retries of requests that the service cannot have processed,
    /// no timeout and no limits. [`Mesh::endpoints`] changes the addresses later. The name of its cluster, for
    /// [`routes`](Self::routes) to the same target, is `outbound|PORT||HOST`.
    ///
    /// ```
    /// use mesh::{Mesh, Protocol};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), mesh::Error> {
    /// let addresses = [([10, 0, 0, 1], 50051).into(), ([10, 0, 0, 2], 50051).into()];
    /// let mesh = Mesh::builder().endpoints("echo:80", Protocol::Grpc, addresses).build().await?;
    /// let echo = mesh.channel("echo")?; // a transport: EchoClient::new(echo)
    ///
    /// mesh.endpoints("echo")?.set([([10, 0, 0, 3], 50051).into()]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn endpoints(
        mut self,
        target: impl Into<String>,
        protocol: Protocol,
        addresses: impl IntoIterator<Item = SocketAddr>,
    ) -> Self {
        self.endpoints.push((target.into(), protocol, addresses.into_iter().collect()));
        self
    }

    /// Adds a cluster from code, beside those of other sources.
    pub fn cluster(mut self, cluster: Cluster) -> Self {
        self.clusters.push(cluster);
        self
    }

    /// Adds the routes of calls to `target`, a `HOST:PORT`, from code. Their clusters must come from code, too.
    pub fn routes(mut self, target: impl Into<String>, routes: RouteConfiguration) -> Self {
        self.routes.push((target.into(), routes));
        self
    }

    /// Resolves the host names of DNS clusters. Default: the system's resolver, `getaddrinfo`, with a TTL of 60 s.
    /// Default with the feature `dns`: the system's hosts file and name servers, with the TTL of their responses.
    pub fn resolver(mut self, resolver: impl Resolve) -> Self {
        self.resolver = Some(Arc::new(resolver));
        self
    }

    /// Writes an access log of all requests that this program sends through channels and receives through servers, in addition
    /// to the access logs in the configuration. Default none.
    ///
    /// ```
    /// use mesh::model::{AccessLog, AccessLogSink};
    ///
    /// // As Istio with `accessLogFile: /dev/stdout` in MeshConfig.
    /// let builder = mesh::Mesh::builder().access_log(AccessLog::istio(AccessLogSink::Stdout));
    /// ```
    pub fn access_log(mut self, log: AccessLog) -> Self {
        self.access_logs.push(log);
        self
    }

    /// Establishes the connections of channels. Default plain TCP; tests use a [`MemoryNetwork`](crate::MemoryNetwork).
    pub fn connector(mut self, connector: impl Connect) -> Self {
        self.worker = Some(Worker::new(0, NonZeroUsize::MIN, connector));
        self
    }

    /// Sends a PING on each HTTP/2 connection to an endpoint every `interval`. If no PONG arrives within `timeout`, the
    /// connection is closed, and its requests fail. Applies to clusters without a keepalive of their own (Envoy
    /// `http2_protocol_options.connection_keepalive`). Default none.
    ///
    /// The setting applies to all channels, because they share connections.
    pub fn http2_keepalive(mut self, interval: Duration, timeout: Duration) -> Self {
        self.http2_keepalive = Some(Http2Keepalive::new(interval, timeout));
        self
    }

    /// Joins the mesh; returns when all listeners are in force: the targets that can be called, and the sockets of this
    /// program. The routes, clusters and endpoints of a target are loaded when the first channel to it is created.
    ///
    /// The mesh follows its configuration and resolves host names on its own thread. It can therefore be built in one tokio
    /// runtime and used in others, such as a `static` in several `#[tokio::test]`s. Each runtime has its own connections.
    ///
    /// # Errors
    /// If the configuration or a name in it cannot be used, or comes from more than one directory or control plane.
    pub async fn build(self) -> Result<Mesh, Error> {
        let resolver = self.resolver.clone().unwrap_or_else(resolver::default);
        let mut member = Joining::new(self.node()?, resolver);
        member.namespace = self.namespace.clone();
        #[cfg(feature = "istio")]
        (member.allow_local_jwks_uri = self.allow_local_jwks_uri);
        #[cfg(all(feature = "istio", feature = "tls"))]
        (member.certificates = self.certificates.clone());
        self.configure(&mut member)?;
        member.from_code = member.store.listeners();
        member.logs = Arc::new(LogFiles::default().with_common(self.access_logs)?);
        member.worker = self.worker.unwrap_or_else(Worker::single).with_http2_keepalive(self.http2_keepalive);
        let mut sources = self.sources;
        let source = sources.pop();
        if !sources.is_empty() {
            return Err(Kind::Sources.into());
        }
        let (member, background) = Background::start(source, member).await?;
        #[cfg(all(feature = "istio", feature = "tls"))]
        if member.certificates.has_authority() {
            return Err(Kind::UnusedCertificates.into());
        }
        Ok(Mesh::new(member, background))
    }

    /// Adds a source of configuration.
    #[cfg(feature = "xds")]
    pub(crate) fn source(mut self, source: impl Source + 'static) -> Self {
        self.sources.push(Box::new(source));
        self
    }

    fn node(&self) -> Result<Node, Error> {
        let (service, namespace) = (self.service.as_deref(), self.namespace.as_deref());
        let node = Node::new(Role::Library, service, namespace, self.labels.clone())?;
        Ok(node.with_service_account(self.service_account.as_deref())?)
    }

    /// Applies the configuration from code.
    fn configure(&self, member: &mut Joining) -> Result<(), Error> {
        let (store, now, mut rng) = (&*member.store, Instant::now(), rng());
        for cluster in &self.clusters {
            store.set_cluster(Arc::new(cluster.clone()), now, &mut rng);
        }
        for (text, protocol, assignment) in &self.endpoints {
            let target = with_port(text)?;
            let cluster = endpoints::cluster(&target, *protocol, &member.identity.node.namespace);
            store.set_endpoints(cluster.name.as_str(), &Arc::new(assignment.clone()), &mut rng);
            store.set_cluster(Arc::new(cluster), now, &mut rng);
            route(store, &target, endpoints::routes(&target))?;
            member.endpoints.push(target);
        }
        for (text, routes) in &self.routes {
            route(store, &with_port(text)?, routes.clone())?;
        }
        Ok(())
    }
}

/// Parses a target, which must have a port because it is the name of a listener.
fn with_port(text: &str) -> Result<Target, Error> {
    let target: Target = text.parse().map_err(Kind::from)?;
    if target.port().is_none() { Err(Kind::NoPort(target).into()) } else { Ok(target) }
}

/// Puts the routes of a target in force.
fn route(store: &Store, target: &Target, routes: RouteConfiguration) -> Result<(), Error> {
    let failed = |source| Kind::Routes { target: target.clone(), source };
    let routes = Arc::new(routes);
    let mut missing = None;
    RouteTable::compile(Arc::clone(&routes), &mut |cluster| {
        if store.cluster(cluster.as_str()).is_none() {
            missing.get_or_insert_with(|| cluster.clone());
        }
    })
    .map_err(failed)?;
    if let Some(cluster) = missing {
        let mut known: Vec<String> = store.clusters().iter().map(|known| known.config().name.to_string()).collect();
        known.sort_unstable();
        return Err(Kind::NoCluster { target: target.clone(), cluster, known: known.join(", ") }.into());
    }
    store.set_routes(&routes).map_err(failed)?;
    let name = target.to_string();
    let mut http = HttpConnectionManager::new(&name, RouteSource::Rds(routes.name.clone()));
    http.stream_idle_timeout = None;
    http.upgrade_configs.push(UpgradeConfig::new("websocket"));
    store.set_listener(Arc::new(Listener::api(&name, http)));
    Ok(())
}
