//! The admin endpoint of a program.

use std::{
    convert::Infallible,
    future::Ready,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use http::{Request, Response};
use mesh_admin::{ConfigDump, Phase, Process};
use mesh_core::store::Store;
use mesh_tower::{Body, server::ListenerStatus, telemetry::Telemetry};
use serde_json::{Value, json};
use tower_service::Service;

use crate::Mesh;

impl Mesh {
    /// The admin endpoint, as a tower service for a server of the program's choice: `/ready`, `/stats/prometheus`,
    /// `/clusters?format=json`, `/config_dump`, `/server_info` and the other paths that `/help` lists, with Envoy's
    /// responses. `/config_dump` has the resources that this program has received from a directory or a control plane: all
    /// listeners, and the routes, clusters and endpoints of those in use. Resources from code are not in it. A change that is
    /// refused is shown by `/ready` and, as `error_state`, by `/config_dump`. There is no authentication: serve it on loopback.
    ///
    /// ```no_run
    /// # async fn example(mesh: mesh::Mesh) -> std::io::Result<()> {
    /// let socket = tokio::net::TcpListener::bind("127.0.0.1:15000").await?;
    /// axum::serve(socket, axum::Router::new().fallback_service(mesh.admin())).await
    /// # }
    /// ```
    #[must_use]
    pub fn admin(&self) -> Admin {
        Admin::new(self.clone())
    }
}

/// The admin endpoint of a member, made by [`Mesh::admin`]. Clones are the same endpoint.
#[derive(Clone, Debug)]
pub struct Admin(mesh_admin::Admin<Member>);

impl Admin {
    pub(crate) fn new(mesh: Mesh) -> Self {
        Self(mesh_admin::Admin::new(Arc::new(Member(mesh)), []))
    }
}

impl<B> Service<Request<B>> for Admin {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<B>>::poll_ready(&mut self.0, cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.0.call(request)
    }
}

/// The start of a member, and its configuration for `/config_dump`.
#[derive(Debug)]
pub(crate) struct Facts {
    start: Instant,
    pub(crate) config_dump: ConfigDump,
}

impl Facts {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), config_dump: ConfigDump::default() }
    }
}

/// The process of the admin endpoint. A [`Mesh`] exists only once its configuration is in force, so it is always live.
#[derive(Debug)]
struct Member(Mesh);

impl Process for Member {
    fn store(&self) -> &Arc<Store> {
        &self.0.store
    }

    fn telemetry(&self) -> &Telemetry {
        &self.0.telemetry
    }

    fn phase(&self) -> Phase {
        Phase::Live
    }

    fn uptime(&self) -> Duration {
        self.0.identity.facts.start.elapsed()
    }

    fn concurrency(&self) -> usize {
        tokio::runtime::Handle::try_current().map_or(1, |runtime| runtime.metrics().num_workers())
    }

    fn listeners(&self) -> Vec<ListenerStatus> {
        // The program owns its sockets.
        Vec::new()
    }

    fn config_dump(&self) -> ConfigDump {
        self.0.identity.facts.config_dump.clone()
    }

    fn command_line_options(&self) -> Value {
        let node = &self.0.identity.node;
        json!({ "service_node": node.id(), "service_cluster": node.cluster(), "mode": "Serve" })
    }

    fn node(&self) -> Value {
        let node = &self.0.identity.node;
        json!({ "id": node.id(), "cluster": node.cluster(), "user_agent_name": "mesh" })
    }
}
