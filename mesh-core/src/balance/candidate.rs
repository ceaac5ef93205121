//! An endpoint as policies see it.

use std::sync::Arc;

use crate::endpoint::{EndpointRuntime, EndpointState};

/// An endpoint that may be picked. Its runtime lies beside it, because a pick asks several candidates for their load and
/// looks at the endpoint of only one.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) endpoint: Arc<EndpointState>,
    runtime: Arc<EndpointRuntime>,
}

impl Candidate {
    /// Requests under way.
    pub(super) fn active_requests(&self) -> u64 {
        self.runtime.active_requests()
    }

    /// Its configured weight.
    pub(super) fn weight(&self) -> u32 {
        self.endpoint.weight().get()
    }
}

impl From<&Arc<EndpointState>> for Candidate {
    fn from(endpoint: &Arc<EndpointState>) -> Self {
        Self { endpoint: Arc::clone(endpoint), runtime: Arc::clone(endpoint.runtime()) }
    }
}
