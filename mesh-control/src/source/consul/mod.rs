//! The catalog of Consul.
//!
//! ```text
//! /v1/catalog/services ─► one query for each service: /v1/health/service/NAME ─► Objects (ServiceEntry) ─► Follower
//! ```
//!
//! All queries are blocking queries: the agent answers when something has changed after an index (`index`). A service becomes
//! a ServiceEntry with the host `NAME.service.consul`, of which only instances whose checks pass are endpoints, or also those
//! with warnings, with Consul's weight for these. If a query fails, it is repeated after a wait that grows; meanwhile what was
//! known stays in force.
//!
//! What Consul does not say is in the `Meta` of instances: `protocol` (default `tcp`, Consul's own default), and `mesh-port`, the
//! port that clients call (default: the port of the instances; the lowest, if they differ). All of `Meta` are labels, and so are
//! tags of the form `KEY=VALUE`. The locality is that of the instance or its machine, or else the datacenter.
//!
//! The agent is called without TLS, as on the same machine.

mod client;
mod document;
mod follow;
mod index;

use std::fmt;

use tokio::task::JoinSet;

use super::{BoxFuture, ConfigSource, Contents, Objects, Unit};
use crate::config::DEFAULT_NAMESPACE;
use crate::load::LoadError;
use client::Client;

/// Which agent, and what is read there.
#[derive(Clone)]
#[non_exhaustive]
pub struct ConsulOptions {
    /// `HOST:PORT` of the HTTP API. Default `127.0.0.1:8500`.
    pub address: String,
    /// Token of the ACL system; default none.
    pub token: Option<String>,
    /// Datacenter; default that of the agent.
    pub datacenter: Option<String>,
    /// Namespace of the services in the mesh. Default `default`.
    pub namespace: String,
}

impl Default for ConsulOptions {
    fn default() -> Self {
        Self {
            address: "127.0.0.1:8500".to_owned(),
            token: None,
            datacenter: None,
            namespace: DEFAULT_NAMESPACE.to_owned(),
        }
    }
}

impl fmt::Debug for ConsulOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, token, datacenter, namespace } = self;
        f.debug_struct("ConsulOptions")
            .field("address", address)
            .field("token", &token.as_ref().map(|_| "[redacted]"))
            .field("datacenter", datacenter)
            .field("namespace", namespace)
            .finish()
    }
}

/// The catalog of Consul, which is followed until the value is dropped.
#[derive(Debug)]
pub struct Consul {
    objects: Objects,
    /// The queries.
    _tasks: JoinSet<()>,
}

impl Consul {
    /// Begins to follow the catalog. That the agent is there is not needed yet: [`ConfigSource::read`] waits for it.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn new(options: ConsulOptions) -> Self {
        let (objects, mut tasks) = (Objects::new(), JoinSet::new());
        tasks.spawn(follow::run(Client::new(options), objects.clone()));
        Self { objects, _tasks: tasks }
    }
}

impl ConfigSource for Consul {
    fn unit(&self) -> Unit {
        Unit::Document
    }

    fn read(&mut self) -> BoxFuture<'_, Result<Contents, LoadError>> {
        self.objects.read()
    }

    fn changed(&mut self) -> BoxFuture<'_, ()> {
        self.objects.changed()
    }
}
