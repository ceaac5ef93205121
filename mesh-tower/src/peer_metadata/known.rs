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
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// As a client.
    pub(super) client: Option<Arc<Workload>>,
    /// As a server.
    pub(super) server: Option<Arc<Workload>>,
}

impl Known {
    pub(super) fn of(value: &HeaderValue) -> Self {
        let value = value.as_bytes();
        if value.is_empty() || value.len() > MAX_LENGTH {
            return Self::default();
        }
        REMEMBERED.with_borrow_mut(|map| {
            if let Some(known) = map.get(value) {
                return known.clone();
            }
            if map.len() >= MAX_REMEMBERED {
                map.clear();
            }
            let known = Self::read(value);
            map.insert(value.into(), known.clone());
            known
        })
    }

    fn read(value: &[u8]) -> Self {
        match decode(value) {
            Ok(workload) => Self {
                client: Some(Arc::new(of_client(workload.clone()))),
                server: Some(Arc::new(of_server(workload))),
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
