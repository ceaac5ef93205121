//! Places for what comes and goes under a name.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use crate::{cluster::ClusterState, model::ClusterName};

/// The place of a cluster.
#[derive(Debug)]
pub struct ClusterSlot {
    name: ClusterName,
    state: ArcSwapOption<ClusterState>,
}

impl ClusterSlot {
    /// An empty place that belongs to no store, for routes that are used on their own.
    #[must_use]
    pub fn new(name: ClusterName) -> Self {
        Self { name, state: ArcSwapOption::empty() }
    }

    /// The cluster's name.
    #[must_use]
    pub fn name(&self) -> &ClusterName {
        &self.name
    }

    /// The cluster as it is now; `None` = it does not exist.
    #[must_use]
    pub fn load(&self) -> Option<Arc<ClusterState>> {
        self.state.load_full()
    }

    /// Puts a cluster here, or takes it away.
    pub fn store(&self, state: Option<Arc<ClusterState>>) {
        self.state.store(state);
    }
}
