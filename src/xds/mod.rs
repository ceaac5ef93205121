//! Configuration from control planes over gRPC, which a bootstrap of gRPC names.

mod connection;
mod target;

use std::{fmt, net::SocketAddr, sync::Arc};

use http::uri::Authority;
use mesh_xds::{
    bootstrap::grpc::{GrpcBootstrap, ServerFeatures, keep},
    client::{
        Agent, Scope, ServerOptions,
        load::{self, Reported},
        transport::grpc::Grpc,
    },
    node::from_xds,
};
use tokio::task::JoinSet;

use self::connection::Connection;
use crate::{
    Error, MeshBuilder,
    background::{Followed, Following, Joining, Source, Subscription, rng},
    control_plane::run,
    error::Kind,
};

impl MeshBuilder {
    /// Takes the configuration from the control planes of a bootstrap of gRPC, over ADS (Envoy's "Aggregated Discovery Service"),
    /// and follows it as it changes. This program is then a gRPC client and server "without a proxy", to Istio and to any
    /// other control plane.
    ///
    /// Listeners are requested by name when they are used: [`Mesh::channel`](crate::Mesh::channel) takes any target, also
    /// gRPC's `xds:///NAME` and `xds://AUTHORITY/NAME`, and [`Server::serve`](crate::Server::serve) the address of its socket. So
    /// [`build`](Self::build) does not wait for a control plane. Requests wait for their configuration, 15 s at most.
    ///
    /// ```no_run
    /// use mesh::{GrpcBootstrap, Mesh};
    ///
    /// # async fn example() -> Result<(), mesh::Error> {
    /// let bootstrap = r#"{
    ///   "xds_servers": [{"server_uri": "127.0.0.1:15010", "channel_creds": [{"type": "insecure"}]}],
    ///   "node": {"id": "sidecar~127.0.0.1~shop.default~default.svc.cluster.local", "metadata": {"GENERATOR": "grpc"}}
    /// }"#;
    /// let mesh = Mesh::builder().xds(GrpcBootstrap::from_json(bootstrap)?).build().await?;
    /// let reviews = mesh.channel("xds:///reviews:9080")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn xds(self, bootstrap: GrpcBootstrap) -> Self {
        self.source(Xds(bootstrap))
    }

    /// As [`xds`](Self::xds), with the bootstrap in the environment: the file in `GRPC_XDS_BOOTSTRAP`, or else the text in
    /// `GRPC_XDS_BOOTSTRAP_CONFIG`, as for other languages.
    ///
    /// # Errors
    /// If there is none, or it cannot be used.
    pub fn xds_from_env(self) -> Result<Self, Error> {
        Ok(self.xds(GrpcBootstrap::from_env()?))
    }
}

#[derive(Debug)]
struct Xds(GrpcBootstrap);

impl Source for Xds {
    fn follow(self: Box<Self>, member: &mut Joining) -> Following<'_> {
        Box::pin(async move {
            let Self(bootstrap) = *self;
            bootstrap.ignored.iter().for_each(|path| tracing::info!("gRPC bootstrap: {path} has no effect"));
            if let Ok(node) = from_xds(&bootstrap.node) {
                member.identify(node);
            }
            let mut tasks = JoinSet::new();
            for (name, provider) in &bootstrap.certificate_providers {
                tasks.spawn(keep(Arc::clone(&member.store), Arc::clone(name), provider.clone()));
            }
            let servers = bootstrap.xds_servers.iter();
            let connections: Vec<_> =
                servers.map(|server| Connection::new(server, &member.resolver)).collect::<Result<_, _>>()?;
            let transport = Grpc::new(connections[0].channel.clone());
            let others = connections[1..].iter().map(|connection| Grpc::new(connection.channel.clone()));
            let (node, store) = (bootstrap.node.clone(), Arc::clone(&member.store));
            let reports =
                load::report(transport.clone(), node.clone(), Arc::clone(&store), Reported::WithLrsServer, rng());
            tasks.spawn(reports);
            let options = options(bootstrap.xds_servers[0].server_features);
            let agent = Agent::new(transport, node, Scope::UsedListeners, store, rng()).with_servers(others, options);
            let followed = run(agent, member, tasks, None).await?;
            Ok(Box::new(FollowedXds { followed, bootstrap, _connections: connections }) as Box<dyn Followed>)
        })
    }
}

fn options(features: ServerFeatures) -> ServerOptions {
    let mut options = ServerOptions::default();
    options.ignore_resource_deletion = features.ignore_resource_deletion;
    options.resource_timer_is_transient_error = features.resource_timer_is_transient_error;
    options.proxyless = true;
    options.trusted_xds_server = features.trusted_xds_server;
    options
}

/// A running agent whose listeners are named by a bootstrap.
struct FollowedXds {
    followed: Box<dyn Followed>,
    bootstrap: GrpcBootstrap,
    _connections: Vec<Connection>,
}

impl Followed for FollowedXds {
    fn subscribe(&self, listener: &Arc<str>) -> Subscription {
        self.followed.subscribe(listener)
    }

    fn metrics(&self) -> String {
        self.followed.metrics()
    }

    fn client_listener(&self, text: &str) -> Option<Result<(Arc<str>, Authority), Error>> {
        let named = || {
            let target = target::parse(text)?;
            let listener = self.bootstrap.client_listener(target.authority, target.name).map_err(Kind::from)?;
            Ok((listener, target.default_authority()))
        };
        Some(named())
    }

    fn server_listener(&self, address: SocketAddr) -> Option<Arc<str>> {
        self.bootstrap.server_listener(&address.to_string())
    }
}

impl fmt::Debug for FollowedXds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FollowedXds").field(&self.followed).finish()
    }
}
