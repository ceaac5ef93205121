//! The pools of one endpoint: one for each worker, runtime and kind of connection.

use std::{num::NonZeroUsize, sync::Arc};

use arc_swap::ArcSwap;
use mesh_core::{cluster::EndpointState, model::UpstreamTransportSocket};
use tokio::runtime;

use super::endpoint_pool::EndpointPool;
use crate::Protocol;

/// Maximum number of pools of one worker for an endpoint. Further connections are used for one request.
const MAX_POOLS: usize = 256;

/// The pools of one endpoint, by worker. Attached to its `EndpointState`.
#[derive(Debug)]
pub(super) struct EndpointPools(Box<[Arc<Pools>]>);

impl EndpointPools {
    /// The pools of worker `index` of `workers`. `None` if `index` is not less than the number of workers that the first
    /// use of the endpoint specified, or if a value of another type is attached to the endpoint.
    pub(super) fn of_worker(endpoint: &EndpointState, index: usize, workers: NonZeroUsize) -> Option<&Arc<Pools>> {
        let attached = endpoint.attachment().get_or_init(|| Arc::new(Self::new(workers)));
        (**attached).downcast_ref::<Self>()?.0.get(index)
    }

    fn new(workers: NonZeroUsize) -> Self {
        Self((0..workers.get()).map(|_| Arc::default()).collect())
    }
}

/// The key of a pool: the properties that all connections in the pool share.
///
/// Settings of the whole cluster, such as keepalive, are not part of the key: when they change, the endpoints get new pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ConnectionKey<'a> {
    /// A socket is driven by the runtime that created it, so other runtimes must not use it.
    pub(super) runtime: runtime::Id,
    pub(super) protocol: Protocol,
    pub(super) transport_socket: &'a UpstreamTransportSocket,
    pub(super) server_name: Option<&'a Arc<str>>,
}

/// The pools of one endpoint and worker. Reads take no lock. A pool is added when its key is first used, and removed when its
/// runtime shuts down.
#[derive(Debug, Default)]
pub(super) struct Pools(ArcSwap<Vec<Entry>>);

#[derive(Clone, Debug)]
struct Entry {
    runtime: runtime::Id,
    transport_socket: UpstreamTransportSocket,
    server_name: Option<Arc<str>>,
    pool: Arc<EndpointPool>,
}

impl Pools {
    pub(super) fn get(&self, key: ConnectionKey<'_>) -> Option<Arc<EndpointPool>> {
        find(&self.0.load(), key).cloned()
    }

    /// Whether another pool may be added. Clients choose server names, so their number is limited.
    pub(super) fn has_room(&self) -> bool {
        self.0.load().len() < MAX_POOLS
    }

    /// Adds `pool`, unless another task has added a pool with this key in the meantime; then returns that pool.
    pub(super) fn add(&self, key: ConnectionKey<'_>, pool: &Arc<EndpointPool>) -> Option<Arc<EndpointPool>> {
        let (runtime, transport_socket) = (key.runtime, key.transport_socket.clone());
        let entry = Entry { runtime, transport_socket, server_name: key.server_name.cloned(), pool: Arc::clone(pool) };
        let before = self.0.rcu(|entries| match find(entries, key) {
            Some(_) => Arc::clone(entries),
            None => Arc::new(entries.iter().chain([&entry]).cloned().collect()),
        });
        find(&before, key).cloned()
    }

    /// Removes the pools of a runtime, and closes their idle connections.
    pub(super) fn remove_runtime(&self, runtime: runtime::Id) {
        self.0.rcu(|entries| entries.iter().filter(|entry| entry.runtime != runtime).cloned().collect::<Vec<_>>());
    }
}

fn find<'a>(entries: &'a [Entry], key: ConnectionKey<'_>) -> Option<&'a Arc<EndpointPool>> {
    let matches = |entry: &&Entry| {
        entry.runtime == key.runtime
            && entry.pool.protocol() == key.protocol
            && entry.transport_socket == *key.transport_socket
            && entry.server_name.as_ref() == key.server_name
    };
    entries.iter().find(matches).map(|entry| &entry.pool)
}
