//! A cache of decoded values of `x-envoy-peer-metadata`. Few workloads send them, and each always sends the same value.
//!
//! The key is the value and not, as in Envoy, the id: a peer cannot replace the metadata of another by sending its id.

use std::{cell::RefCell, sync::Arc};

use hashbrown::HashMap;
use http::HeaderValue;
use mesh_core::{
    model::Workload,
    telemetry::peer_metadata::{MAX_LENGTH, decode, without_identity},
};

/// Values in the cache of a thread. A full cache is cleared. Envoy's bound.
pub(super) const MAX_CACHED: usize = 500;

/// Decoded workloads by what was received.
type Decoded = HashMap<Box<[u8]>, Option<Arc<Workload>>>;

thread_local! {
    /// `None`: the value is invalid.
    static CACHE: RefCell<Decoded> = RefCell::default();
}

/// The peer that sent `value`.
#[inline(never)]
pub(super) fn peer(value: &HeaderValue) -> Option<Arc<Workload>> {
    let value = value.as_bytes();
    if value.is_empty() || value.len() > MAX_LENGTH {
        return None;
    }
    if let Some(cached) = CACHE.with_borrow(|map| map.get(value).cloned()) {
        return cached;
    }
    let peer = match decode(value) {
        Ok(workload) => Some(Arc::new(without_identity(workload))),
        Err(error) => {
            tracing::debug!(%error, "a peer sent invalid metadata");
            None
        }
    };
    CACHE.with_borrow_mut(|map| {
        if map.len() >= MAX_CACHED {
            map.clear();
        }
        map.insert(value.into(), peer.clone());
    });
    peer
}

#[cfg(test)]
pub(super) fn len() -> usize {
    CACHE.with_borrow(HashMap::len)
}
