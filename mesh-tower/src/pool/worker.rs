//! One runtime's share of the data plane: its pools, its timers, its connector.

use std::{
    num::NonZeroUsize,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use mesh_core::{
    model::{Cluster, Http2Keepalive, HttpProtocolOptions, UpstreamTransportSocket},
    resilience::breaker::Permit,
    retry::ResetReason,
};
use parking_lot::Mutex;

use super::{Connection, endpoint_pool::EndpointPool};
use crate::{
    Connect, Protocol, Target, TcpConnector, TransportError,
    connect::{self, UpstreamStream},
    timer::{Timers, now},
};

/// One runtime's share of the data plane. Cheap to clone; clones are the same worker.
///
/// A multi-threaded runtime is one worker; of several single-threaded runtimes each is one.
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
    timers: Timers,
    sweeper: Mutex<Sweeper>,
}

/// The pools of a worker, which are swept every [`Worker::SWEEP_INTERVAL`].
#[derive(Debug, Default)]
struct Sweeper {
    pools: Vec<Weak<EndpointPool>>,
    is_running: bool,
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
        let sweeper = Mutex::default();
        let timers = Timers::default();
        let shared = Arc::new(Shared { index, count, connector: Box::new(connector), timers, sweeper });
        Self { shared, http2_keepalive: None }
    }

    /// The same worker, which sends PINGs on HTTP/2 connections to clusters that have no keepalive of their own. Default none.
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

    pub(crate) fn timers(&self) -> &Timers {
        &self.shared.timers
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

    /// This worker's pool for connections to `target`. It is created at its first use.
    fn pool(&self, target: &Target<'_>, protocol: Protocol) -> Arc<EndpointPool> {
        let transport_socket = &target.cluster.config().transport_socket;
        let attached = target.endpoint.attachment().get_or_init(|| Arc::new(EndpointPools::new(self.shared.count)));
        let pools = (**attached).downcast_ref::<EndpointPools>().and_then(|pools| pools.0.get(self.shared.index));
        match pools {
            Some(pools) => Arc::clone(pools.get_or_make(protocol, transport_socket, || {
                let pool = EndpointPool::new(protocol);
                self.watch(&pool);
                pool
            })),
            // There are more workers than announced, or something else is attached. Connections work, but are not kept.
            None => EndpointPool::new(protocol),
        }
    }

    fn watch(&self, pool: &Arc<EndpointPool>) {
        let mut sweeper = self.shared.sweeper.lock();
        sweeper.pools.push(Arc::downgrade(pool));
        if !sweeper.is_running {
            sweeper.is_running = true;
            tokio::spawn(sweep(Arc::downgrade(&self.shared)));
        }
    }
}

/// The pools of one endpoint, by worker. Attached to its `EndpointState`.
#[derive(Debug)]
struct EndpointPools(Box<[Pools]>);

impl EndpointPools {
    fn new(workers: NonZeroUsize) -> Self {
        Self((0..workers.get()).map(|_| Pools::default()).collect())
    }
}

/// What connections to one endpoint must have in common to serve each other's requests.
///
/// Settings of the whole cluster, such as keep-alive, are not part of it: when they change, the endpoints get new pools.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ConnectionKey {
    protocol: Protocol,
    transport_socket: UpstreamTransportSocket,
}

/// The pools of one endpoint and worker: a linked list that is read without a lock. It only grows, to one pool for each
/// key in the configuration.
#[derive(Debug, Default)]
struct Pools(OnceLock<Box<Entry>>);

#[derive(Debug)]
struct Entry {
    key: ConnectionKey,
    pool: Arc<EndpointPool>,
    next: Pools,
}

impl Pools {
    fn get_or_make(
        &self,
        protocol: Protocol,
        transport_socket: &UpstreamTransportSocket,
        make: impl Fn() -> Arc<EndpointPool>,
    ) -> &Arc<EndpointPool> {
        let mut rest = self;
        loop {
            let entry = rest.0.get_or_init(|| {
                let key = ConnectionKey { protocol, transport_socket: transport_socket.clone() };
                Box::new(Entry { key, pool: make(), next: Self::default() })
            });
            if entry.key.protocol == protocol && entry.key.transport_socket == *transport_socket {
                return &entry.pool;
            }
            rest = &entry.next;
        }
    }
}

/// Sweeps the pools until the worker or all of its pools are dropped.
async fn sweep(worker: Weak<Shared>) {
    loop {
        tokio::time::sleep(Worker::SWEEP_INTERVAL).await;
        let Some(worker) = worker.upgrade() else { return };
        let mut pools: Vec<Arc<EndpointPool>> = Vec::new();
        let mut sweeper = worker.sweeper.lock();
        sweeper.pools.retain(|pool| {
            let pool = pool.upgrade();
            pool.map(|pool| pools.push(pool)).is_some()
        });
        if pools.is_empty() {
            sweeper.is_running = false;
            return;
        }
        drop(sweeper);
        for pool in pools {
            pool.sweep(now());
        }
    }
}
