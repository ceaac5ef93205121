//! The endpoints of earlier tries.

use std::sync::Arc;

use mesh_core::{
    balance::{Avoid, NoHealthyEndpoint},
    cluster::{ClusterState, EndpointId, EndpointState},
};
use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::pick::pick;

/// The endpoints of earlier tries, in the extensions of each try of a request whose policy has `previous_hosts`. The retry
/// layer passes them to the balance layer.
#[derive(Clone, Debug)]
pub(crate) struct TriedEndpoints {
    endpoints: Arc<Mutex<SmallVec<[EndpointId; 4]>>>,
    max_attempts: u32,
}

impl TriedEndpoints {
    pub(super) fn new(max_attempts: u32) -> Self {
        Self { endpoints: Arc::default(), max_attempts }
    }

    /// Picks an endpoint that was not tried before, if one is found in a few attempts.
    pub(crate) fn pick_another(&self, cluster: &Arc<ClusterState>) -> Result<Arc<EndpointState>, NoHealthyEndpoint> {
        let mut endpoints = self.endpoints.lock();
        let avoid = Avoid { endpoints: &endpoints, max_attempts: self.max_attempts };
        let picked = pick(cluster, avoid)?;
        endpoints.push(picked.id());
        Ok(picked)
    }
}
