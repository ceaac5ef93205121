//! Endpoints that may be picked.

use std::sync::Arc;

use crate::endpoint::{EndpointRuntime, EndpointState};

/// An endpoint that may be picked. The runtime is referenced directly, because a pick reads the load of several candidates
/// and the configuration of only one.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) endpoint: Arc<EndpointState>,
    runtime: Arc<EndpointRuntime>,
}

impl Candidate {
    /// Number of active requests.
    pub(super) fn active_requests(&self) -> u64 {
        self.runtime.active_requests()
    }

    /// The configured weight.
    pub(super) fn weight(&self) -> u32 {
        self.endpoint.weight().get()
    }
}

impl From<&Arc<EndpointState>> for Candidate {
    fn from(endpoint: &Arc<EndpointState>) -> Self {
        Self { endpoint: Arc::clone(endpoint), runtime: Arc::clone(endpoint.runtime()) }
    }
}
