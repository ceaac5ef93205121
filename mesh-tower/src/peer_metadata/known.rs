//! What values of `x-envoy-peer-metadata` mean, remembered: few workloads send them, each always the same.
//!
//! Found by the value itself and not, as in Envoy, by the id beside it: nobody can speak for another.

use std::{cell::RefCell, sync::Arc};

use hashbrown::HashMap;
use http::HeaderValue;
use mesh_core::{
    model::Workload,
    telemetry::peer_metadata::{MAX_LENGTH, decode, of_client, of_server},
};

/// Values a thread remembers; past that it forgets all. Envoy's bound.
pub(super) const MAX_REMEMBERED: usize = 500;

thread_local! {
    static REMEMBERED: RefCell<HashMap<Box<[u8]>, Known>> = RefCell::default();
}

/// Who introduced itself; `None` if the value says nothing.
#[derive(Debug, Default)]
struct Known {
    as_client: Option<Arc<Workload>>,
    as_server: Option<Arc<Workload>>,
}

/// The client that introduced itself so.
pub(super) fn client(value: &HeaderValue) -> Option<Arc<Workload>> {
    read(value, |known| known.as_client.clone())
}

/// The server that introduced itself so.
pub(super) fn server(value: &HeaderValue) -> Option<Arc<Workload>> {
    read(value, |known| known.as_server.clone())
}

#[inline(never)]
fn read(value: &HeaderValue, who: fn(&Known) -> Option<Arc<Workload>>) -> Option<Arc<Workload>> {
    let value = value.as_bytes();
    if value.is_empty() || value.len() > MAX_LENGTH {
        return None;
    }
    if let Some(peer) = REMEMBERED.with_borrow(|map| map.get(value).map(who)) {
        return peer;
    }
    let known = Known::read(value);
    let peer = who(&known);
    REMEMBERED.with_borrow_mut(|map| {
        if map.len() >= MAX_REMEMBERED {
            map.clear();
        }
        map.insert(value.into(), known);
    });
    peer
}

impl Known {
    fn read(value: &[u8]) -> Self {
        match decode(value) {
            Ok(workload) => Self {
                as_client: Some(Arc::new(of_client(workload.clone()))),
                as_server: Some(Arc::new(of_server(workload))),
            },
            Err(error) => {
                tracing::debug!(%error, "a peer's introduction is not understood");
                Self::default()
            }
        }
    }
}

#[cfg(test)]
pub(super) fn remembered() -> usize {
    REMEMBERED.with_borrow(HashMap::len)
}
