//! One runtime's share of the data plane: its pools, its timers, its connector.

use std::{
    num::NonZeroUsize,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use mesh_core::cluster::EndpointState;
use parking_lot::Mutex;

use super::{Connection, endpoint_pool::EndpointPool};
use crate::{
    Connect, Protocol, Target, TcpConnector, TransportError,
    timer::{Timers, now},
};

/// One runtime's share of the data plane. Cheap to clone; clones are the same worker.
///
/// A multi-threaded runtime is one worker; of several single-threaded runtimes each is one.
#[derive(Clone, Debug)]
pub struct Worker(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    index: usize,
    count: NonZeroUsize,
    connector: Box<dyn Connect>,
    timers: Timers,
    sweeper: Mutex<Sweeper>,
}

/// The pools that hold connections, looked at every [`Worker::SWEEP_INTERVAL`] while there are any.
#[derive(Debug, Default)]
struct Sweeper {
    pools: Vec<Weak<EndpointPool>>,
    is_running: bool,
}

impl Worker {
    /// Time between two looks at unused connections, and so the precision of `idle_timeout`.
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
        Self(Arc::new(Shared { index, count, connector: Box::new(connector), timers: Timers::default(), sweeper }))
    }

    pub(crate) fn timers(&self) -> &Timers {
        &self.0.timers
    }

    pub(super) fn connector(&self) -> &dyn Connect {
        &*self.0.connector
    }

    /// A connection with room for one request.
    pub(super) async fn connection(
        &self,
        target: &Target<'_>,
        protocol: Protocol,
    ) -> Result<Connection, TransportError> {
        self.pool(target.endpoint, protocol).connection(self, target).await
    }

    /// This worker's pool of `endpoint` for `protocol`, made at its first use.
    fn pool(&self, endpoint: &EndpointState, protocol: Protocol) -> Arc<EndpointPool> {
        let attached = endpoint.attachment().get_or_init(|| Arc::new(EndpointPools::new(self.0.count)));
        match (**attached).downcast_ref::<EndpointPools>() {
            Some(pools) => pools.pool(self, protocol),
            // Something else hangs there: connections work, but are not kept.
            None => EndpointPool::new(protocol),
        }
    }

    fn watch(&self, pool: &Arc<EndpointPool>) {
        let mut sweeper = self.0.sweeper.lock();
        sweeper.pools.push(Arc::downgrade(pool));
        if !sweeper.is_running {
            sweeper.is_running = true;
            tokio::spawn(sweep(Arc::downgrade(&self.0)));
        }
    }
}

/// The pools of one endpoint, by worker and protocol. Hangs on its `EndpointState`.
#[derive(Debug)]
struct EndpointPools(Box<[[OnceLock<Arc<EndpointPool>>; 2]]>);

impl EndpointPools {
    fn new(workers: NonZeroUsize) -> Self {
        Self((0..workers.get()).map(|_| Default::default()).collect())
    }

    fn pool(&self, worker: &Worker, protocol: Protocol) -> Arc<EndpointPool> {
        let made = || {
            let pool = EndpointPool::new(protocol);
            worker.watch(&pool);
            pool
        };
        match self.0.get(worker.0.index) {
            Some([http1, http2]) => {
                let slot = if protocol == Protocol::Http1 { http1 } else { http2 };
                Arc::clone(slot.get_or_init(made))
            }
            // More workers than were announced: connections work, but are not kept.
            None => EndpointPool::new(protocol),
        }
    }
}

/// Closes what was unused for too long, until the worker or all of its pools are gone.
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
