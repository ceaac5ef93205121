//! A cache of decoded values of `x-envoy-peer-metadata`. Few workloads send them, and each always sends the same value.
//!
//! The key is the value and not, as in Envoy, the id: a peer cannot replace the metadata of another by sending its id.

use std::{cell::RefCell, sync::Arc};

use hashbrown::HashMap;
use http::HeaderValue;
use mesh_core::{
    model::Workload,
    telemetry::peer_metadata::{MAX_LENGTH, decode, of_client, of_server},
};

/// Values in the cache of a thread. A full cache is cleared. Envoy's bound.
pub(super) const MAX_CACHED: usize = 500;

thread_local! {
    static CACHE: RefCell<HashMap<Box<[u8]>, Peer>> = RefCell::default();
}

/// The workload that a value describes; `None` if the value is invalid.
#[derive(Debug, Default)]
struct Peer {
    as_client: Option<Arc<Workload>>,
    as_server: Option<Arc<Workload>>,
}

/// The client that sent `value`.
pub(super) fn client(value: &HeaderValue) -> Option<Arc<Workload>> {
    read(value, |peer| peer.as_client.clone())
}

/// The server that sent `value`.
pub(super) fn server(value: &HeaderValue) -> Option<Arc<Workload>> {
    read(value, |peer| peer.as_server.clone())
}

#[inline(never)]
fn read(value: &HeaderValue, workload: fn(&Peer) -> Option<Arc<Workload>>) -> Option<Arc<Workload>> {
    let value = value.as_bytes();
    if value.is_empty() || value.len() > MAX_LENGTH {
        return None;
    }
    if let Some(cached) = CACHE.with_borrow(|map| map.get(value).map(workload)) {
        return cached;
    }
    let peer = Peer::decode(value);
    let decoded = workload(&peer);
    CACHE.with_borrow_mut(|map| {
        if map.len() >= MAX_CACHED {
            map.clear();
        }
        map.insert(value.into(), peer);
    });
    decoded
}

impl Peer {
    fn decode(value: &[u8]) -> Self {
        match decode(value) {
            Ok(workload) => Self {
                as_client: Some(Arc::new(of_client(workload.clone()))),
                as_server: Some(Arc::new(of_server(workload))),
            },
            Err(error) => {
                tracing::debug!(%error, "a peer sent invalid metadata");
                Self::default()
            }
        }
    }
}

#[cfg(test)]
pub(super) fn len() -> usize {
    CACHE.with_borrow(HashMap::len)
}
