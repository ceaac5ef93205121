//! [`Worker`]: the connection pools and the connector of one part of the data plane, such as a thread of a proxy.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{Arc, Weak},
    time::Duration,
};

use mesh_core::{
    model::{Cluster, Http2Keepalive, HttpProtocolOptions},
    resilience::breaker::Permit,
    retry::ResetReason,
};
use parking_lot::Mutex;
use tokio::runtime::{self, Handle};

use super::{
    Connection,
    endpoint_pool::EndpointPool,
    endpoint_pools::{ConnectionKey, EndpointPools, Pools},
};
use crate::{
    Connect, Protocol, Target, TcpConnector, TransportError,
    connect::{self, UpstreamStream},
    timer::now,
};

/// The connections of one part of the data plane. Cheap to clone; clones are the same worker.
///
/// If several single-threaded runtimes share a `Store`, each of them has its own worker, which avoids contention. A worker may
/// also be used by several runtimes, concurrently or one after another. Each runtime has its own connections, which are closed
/// when the runtime shuts down.
#[derive(Clone, Debug)]
pub struct Worker {
    shared: Arc<Shared>,
    http2_keepalive: Option<Http2Keepalive>,
}

#[derive(Debug)]
struct Shared {
    index: usize,
    count: NonZeroUsize,
    connector: Box<dyn Connect>,
    /// The pools by runtime. Each runtime sweeps its pools every [`Worker::SWEEP_INTERVAL`].
    swept: Mutex<HashMap<runtime::Id, Vec<Swept>>>,
}

/// A pool, and the list that contains it.
#[derive(Debug)]
struct Swept {
    pool: Weak<EndpointPool>,
    pools: Weak<Pools>,
}

impl Worker {
    /// How often idle connections are checked: the precision of `idle_timeout`.
    const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

    /// The only worker, with plain TCP connections.
    #[must_use]
    pub fn single() -> Self {
        Self::new(0, NonZeroUsize::MIN, TcpConnector)
    }

    /// Worker number `index` of `count` that share a `Store`.
    #[must_use]
    pub fn new(index: usize, count: NonZeroUsize, connector: impl Connect) -> Self {
        let shared = Arc::new(Shared { index, count, connector: Box::new(connector), swept: Mutex::default() });
        Self { shared, http2_keepalive: None }
    }

    /// Sets the HTTP/2 keepalive for clusters that do not configure one. Default none.
    #[must_use]
    pub fn with_http2_keepalive(self, http2_keepalive: Option<Http2Keepalive>) -> Self {
        Self { http2_keepalive, ..self }
    }

    /// The options of HTTP/2 connections to `cluster`.
    pub(super) fn http2_options(&self, cluster: &Cluster) -> HttpProtocolOptions {
        let mut options = cluster.http_protocol_options;
        options.connection_keepalive = options.connection_keepalive.or(self.http2_keepalive);
        options
    }

    pub(super) fn connector(&self) -> &dyn Connect {
        &*self.shared.connector
    }

    /// Waits for a connection for one request.
    pub(super) async fn connection(
        &self,
        target: &Target<'_>,
        protocol: Protocol,
    ) -> Result<Connection, TransportError> {
        self.pool(target, protocol).connection(self, target).await
    }

    /// Makes a connection to `target` for traffic other than HTTP. It counts until the stream is dropped.
    ///
    /// # Errors
    /// If `max_connections` are open, because there is no queue to wait in. If the connection cannot be made within
    /// `connect_timeout`.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the attempt.
    pub(crate) async fn stream(&self, target: &Target<'_>) -> Result<UpstreamStream<Permit>, TransportError> {
        let permit = target.cluster.try_connection(target.priority);
        let permit = permit.map_err(|_| TransportError::new(ResetReason::Overflow))?;
        Ok(connect::open(self.connector(), target, None).await?.holding(permit))
    }

    /// The pool of this worker and the current runtime for connections to `target`. It is created when first used.
    fn pool(&self, target: &Target<'_>, protocol: Protocol) -> Arc<EndpointPool> {
        let transport_socket = target.endpoint.transport_socket(target.cluster.config());
        let server_name = target.server_name;
        let key = ConnectionKey { runtime: Handle::current().id(), protocol, transport_socket, server_name };
        match EndpointPools::of_worker(target.endpoint, self.shared.index, self.shared.count) {
            Some(pools) => match pools.get(key) {
                Some(pool) => pool,
                None if pools.has_room() => self.add_pool(pools, key),
                None => EndpointPool::new(protocol),
            },
            // Connections can be used, but are not pooled.
            None => EndpointPool::new(protocol),
        }
    }

    #[cold]
    fn add_pool(&self, pools: &Arc<Pools>, key: ConnectionKey<'_>) -> Arc<EndpointPool> {
        let pool = EndpointPool::new(key.protocol);
        if let Some(other) = pools.add(key, &pool) {
            return other;
        }
        let mut swept = self.shared.swept.lock();
        let of_runtime = swept.entry(key.runtime).or_default();
        let is_first = of_runtime.is_empty();
        of_runtime.push(Swept { pool: Arc::downgrade(&pool), pools: Arc::downgrade(pools) });
        // Release the lock before the spawn: a runtime that is shutting down drops the task immediately, and the drop takes the
        // lock.
        drop(swept);
        if is_first {
            tokio::spawn(Sweeper { worker: Arc::downgrade(&self.shared), runtime: key.runtime }.run());
        }
        pool
    }
}

impl Shared {
    /// The pools of a runtime that have not been dropped. If there are none, removes the entry of the runtime.
    fn pools(&self, runtime: runtime::Id) -> Vec<Arc<EndpointPool>> {
        let mut pools = Vec::new();
        let mut swept = self.swept.lock();
        if let Some(of_runtime) = swept.get_mut(&runtime) {
            of_runtime.retain(|swept| {
                let pool = swept.pool.upgrade();
                pool.map(|pool| pools.push(pool)).is_some()
            });
            if pools.is_empty() {
                swept.remove(&runtime);
            }
        }
        pools
    }
}

/// Sweeps the pools of a worker and a runtime. If the runtime shuts down, removes these pools.
struct Sweeper {
    worker: Weak<Shared>,
    runtime: runtime::Id,
}

impl Sweeper {
    /// Sweeps until the worker or all of its pools are dropped.
    async fn run(mut self) {
        loop {
            tokio::time::sleep(Worker::SWEEP_INTERVAL).await;
            let Some(worker) = self.worker.upgrade() else { return };
            let pools = worker.pools(self.runtime);
            if pools.is_empty() {
                // Another sweeper may already have started, so `drop` must not remove its pools.
                self.worker = Weak::new();
                return;
            }
            for pool in pools {
                pool.sweep(now());
            }
        }
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        let Some(worker) = self.worker.upgrade() else { return };
        let swept = worker.swept.lock().remove(&self.runtime);
        for Swept { pools, .. } in swept.into_iter().flatten() {
            if let Some(pools) = pools.upgrade() {
                pools.remove_runtime(self.runtime);
            }
        }
    }
}
