//! What a program tells its operators.

use std::{
    convert::Infallible,
    future::Ready,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use http::{Request, Response};
use mesh_admin::{ConfigDump, Phase, Process};
use mesh_core::{node::Node, store::Store};
use mesh_tower::{Body, server::ListenerStatus, telemetry::Telemetry};
use serde_json::{Value, json};
use tower_service::Service;

use crate::Mesh;

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

/// Who is a member, since when, and by what configuration.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) node: Node,
    pub(crate) start: Instant,
    pub(crate) config_dump: ConfigDump,
}

/// A membership as operators see it. It is complete when there is a [`Mesh`], so it is live from the start.
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
        self.0.identity.start.elapsed()
    }

    fn concurrency(&self) -> usize {
        tokio::runtime::Handle::try_current().map_or(1, |runtime| runtime.metrics().num_workers())
    }

    fn listeners(&self) -> Vec<ListenerStatus> {
        // Sockets are the program's own.
        Vec::new()
    }

    fn config_dump(&self) -> ConfigDump {
        self.0.identity.config_dump.clone()
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
