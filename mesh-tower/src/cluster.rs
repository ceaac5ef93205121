//! [`ClusterHandle`].

use std::sync::Arc;

use mesh_core::{
    cluster::{ClusterState, StatKind},
    model::{CircuitBreakers, Cluster, Discovery, LoadAssignment, Thresholds},
};

use crate::{rng::ThreadRng, timer::now};

/// A cluster that layers send to: its configuration, and what they count and learn about its endpoints. Clones are the same
/// cluster, so that layers share its limits, ejections and statistics.
///
/// ```
/// use mesh_core::model::{Cluster, Discovery};
/// use mesh_tower::ClusterHandle;
///
/// # fn main() -> Result<(), std::net::AddrParseError> {
/// let endpoints = ["127.0.0.1:9080".parse()?].into_iter().collect();
/// let cluster = ClusterHandle::new(Cluster::new("reviews", Discovery::Static(endpoints)));
/// assert_eq!(cluster.name(), "reviews");
/// assert_eq!(cluster.stat("upstream_rq_total"), Some(0));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ClusterHandle(Arc<ClusterState>);

impl ClusterHandle {
    /// A cluster with this configuration, of which nothing is known yet.
    #[must_use]
    pub fn new(config: impl Into<Arc<Cluster>>) -> Self {
        Self(Arc::new(ClusterState::new(config.into(), now(), &mut ThreadRng)))
    }

    /// The name of the cluster.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.config().name.as_str()
    }

    /// The value of a statistic of the cluster, by its name in Envoy's documentation, such as `upstream_rq_total`; `None` if
    /// there is none of that name.
    #[must_use]
    pub fn stat(&self, name: &str) -> Option<u64> {
        let mut found = None;
        self.for_each_stat(&mut |each, _, value| {
            if each == name {
                found = Some(value);
            }
        });
        found
    }

    /// Calls `visit` with the name, kind and value of each statistic of the cluster.
    pub fn for_each_stat(&self, visit: &mut dyn FnMut(&str, StatKind, u64)) {
        self.0.for_each_stat(visit);
    }

    /// A cluster that consists of its limits.
    pub(crate) fn with_thresholds(thresholds: Thresholds) -> Self {
        let mut config = Cluster::new("", Discovery::Static(LoadAssignment::default()));
        config.circuit_breakers = CircuitBreakers::new(thresholds, thresholds);
        Self::new(config)
    }

    pub(crate) fn state(&self) -> &Arc<ClusterState> {
        &self.0
    }

    pub(crate) fn into_state(self) -> Arc<ClusterState> {
        self.0
    }
}

impl From<Cluster> for ClusterHandle {
    fn from(config: Cluster) -> Self {
        Self::new(config)
    }
}

impl From<Arc<ClusterState>> for ClusterHandle {
    fn from(state: Arc<ClusterState>) -> Self {
        Self(state)
    }
}

impl From<&Self> for ClusterHandle {
    fn from(cluster: &Self) -> Self {
        cluster.clone()
    }
}
