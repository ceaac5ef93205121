//! A program's membership in a mesh.

use std::{fmt, net::SocketAddr, sync::Arc};

use http::uri::Authority;
use mesh_core::{
    node::{Labels, Node, Role},
    store::{ListenerMap, Store},
    target::Target,
};
use mesh_tower::{
    Upstream, Worker,
    telemetry::{ClusterStatSource, Stat, StatSource, Telemetry, prometheus_text},
};

use crate::{
    Channel, ConfigEvents, Endpoints, Error, MeshBuilder, Server,
    background::{Background, Joining, Subscription},
    error::Kind,
    identity::{self, Identity},
};

/// A program's membership in a mesh: its channels, its servers and its telemetry.
///
/// Clones are the same membership. Configuration is followed for as long as the mesh, one of its channels or one of its
/// servers is in use.
#[derive(Clone)]
pub struct Mesh {
    pub(crate) store: Arc<Store>,
    background: Arc<Background>,
    pub(crate) telemetry: Telemetry,
    pub(crate) identity: Arc<Identity>,
    /// The services that [`MeshBuilder::endpoints`] has added.
    endpoints: Arc<[Target]>,
    /// The listeners of targets that are configured by code.
    from_code: Arc<ListenerMap>,
    worker: Worker,
}

impl Mesh {
    /// Configures a new member.
    pub fn builder() -> MeshBuilder {
        MeshBuilder::default()
    }

    pub(crate) fn new(member: Joining, background: Background) -> Self {
        let Joining { identity, labelled, store, endpoints, from_code, logs, worker, .. } = member;
        Self {
            store,
            background: Arc::new(background),
            telemetry: Telemetry { logs, ..identity::telemetry(&labelled) },
            identity: Arc::new(identity),
            endpoints: endpoints.into(),
            from_code,
            worker,
        }
    }

    fn namespace(&self) -> &str {
        &self.identity.node.namespace
    }

    pub(crate) fn store(&self) -> Arc<Store> {
        Arc::clone(&self.store)
    }

    /// A client of the service `target`.
    ///
    /// Names are looked up as in Kubernetes: `reviews`, `reviews.default`, the fully qualified name, an external host;
    /// with `:PORT`, or without if the service has one port. gRPC's form `xds:///reviews:9080` is accepted too.
    ///
    /// The first requests wait until the routes, clusters and endpoints of the target are loaded. A minute after the last
    /// channel to a target is dropped, its clusters are unloaded and their connections closed, so keep channels that are
    /// used often.
    ///
    /// With the control planes of `MeshBuilder::xds`, `target` is one of gRPC, and its listener is requested by the name that the
    /// bootstrap has for it. Whether it exists is not known then: requests wait for it, 15 s at most, and fail.
    ///
    /// # Errors
    /// If `target` is not a valid name, or the configuration in force has no such service.
    pub fn channel(&self, target: &str) -> Result<Channel, Error> {
        let (listener, authority) = self.listener_of(target)?;
        let (upstream, telemetry) = (Upstream::new(self.worker.clone()), self.telemetry.clone());
        let subscription = self.background.subscribe(&listener);
        let channel = mesh_tower::Channel::of_listener(listener, authority, self.store(), upstream, telemetry);
        Ok(Channel::new(&channel, subscription, self.clone()))
    }

    /// The name of the listener of a target, and the authority of its requests.
    fn listener_of(&self, text: &str) -> Result<(Arc<str>, Authority), Error> {
        let find = |listeners: &ListenerMap| {
            let target: Target = text.parse()?;
            let listener = target.find(listeners, self.namespace())?;
            let authority = listener.name.parse().expect("a listener found by host and port has them as its name");
            Ok((Arc::clone(&listener.name), authority))
        };
        match self.background.client_listener(text) {
            // Services from code come first.
            Some(named) => find(&self.from_code).or(named),
            None => find(&self.store.listeners()),
        }
    }

    /// A handle to the configuration of the socket with this address, if listeners are requested by name.
    pub(crate) fn server_listener(&self, address: SocketAddr) -> Option<(Arc<str>, Option<Subscription>)> {
        let name = self.background.server_listener(address)?;
        let subscription = self.background.subscribe(&name);
        Some((name, subscription))
    }

    /// A handle to change the endpoints of a service that [`MeshBuilder::endpoints`] has added. `target` has the same form as
    /// for [`channel`](Self::channel).
    ///
    /// # Errors
    /// If `target` is not a valid name, or [`MeshBuilder::endpoints`] has not added such a service.
    pub fn endpoints(&self, target: &str) -> Result<Endpoints, Error> {
        let target: Target = target.parse()?;
        let listeners = self.store.listeners();
        let found = target.find(&listeners, self.namespace())?.name.parse()?;
        if !self.endpoints.contains(&found) {
            return Err(Kind::NotFromCode(found).into());
        }
        Ok(Endpoints::new(&found, self.store()))
    }

    /// A server for `service`, one of this program's: wraps an axum `Router`, tonic `Routes` or any other
    /// `tower::Service<http::Request<Body>>`. [`Server::serve`] takes the socket.
    ///
    /// # Errors
    /// If `service` is not a valid name.
    pub fn server(&self, service: &str) -> Result<Server, Error> {
        let node = Node::new(Role::Library, Some(service), Some(self.namespace()), Labels::new())?;
        let service = node.destination_service().map(Arc::new);
        let telemetry = Telemetry { service, ..self.telemetry.clone() };
        let server = mesh_tower::server::Server::new(self.store(), telemetry).with_worker(self.worker.clone());
        Ok(Server::new(server, self.clone()))
    }

    /// Metrics in Prometheus' text format: Istio's standard metrics, Envoy's statistics of listeners and clusters, and whether
    /// the last change of a directory or of a control plane is in force.
    #[must_use]
    pub fn metrics(&self) -> String {
        let clusters = ClusterStatSource::new(Arc::clone(&self.store));
        let sources: [&dyn StatSource; 2] = [&*self.telemetry.stats, &clusters];
        let of_traffic = prometheus_text(&Stat::collect(sources)) + &self.telemetry.istio.prometheus_text();
        of_traffic + &self.background.metrics()
    }

    /// The outcomes of changes of the configuration, from now on.
    #[must_use]
    pub fn events(&self) -> ConfigEvents {
        ConfigEvents(self.background.events())
    }
}

impl fmt::Debug for Mesh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mesh").field("namespace", &self.namespace()).finish_non_exhaustive()
    }
}
