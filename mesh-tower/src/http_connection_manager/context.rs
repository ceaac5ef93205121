//! [`ListenerContext`]: what the listeners of a worker share.

use std::sync::Arc;

use mesh_core::store::Store;

use crate::{Upstream, Worker, cluster_client::ClusterClients, telemetry::Telemetry, upstream::UpstreamClients};

/// What all listeners of a worker share.
#[derive(Clone, Debug)]
pub struct ListenerContext {
    /// The store of routes and clusters.
    pub store: Arc<Store>,
    /// Statistics and access logs.
    pub telemetry: Telemetry,
    /// The worker whose upstream connections are used by TCP proxies and for requests of the HTTP filters' own; `None`
    /// rejects TCP proxies and HTTP filters that send requests.
    pub worker: Option<Worker>,
}

impl ListenerContext {
    /// Makes the clients of filters.
    pub(crate) fn clients(&self) -> Option<impl ClusterClients> {
        let worker = self.worker.clone()?;
        Some(UpstreamClients::new(Arc::clone(&self.store), Upstream::new(worker)))
    }
}
