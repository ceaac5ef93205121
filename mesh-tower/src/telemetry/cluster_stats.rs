//! Statistics of clusters, as every [`StatSource`] shows them. Envoy `cluster.<stat_name>.`.

use std::sync::Arc;

use mesh_core::{cluster::StatKind, store::Store};

use super::stat::{Scope, StatSource, StatValue, StatVisitor};

/// The statistics of all clusters of a store.
#[derive(Clone, Debug)]
pub struct ClusterStatSource(Arc<Store>);

impl ClusterStatSource {
    /// Those of `store`.
    #[must_use]
    pub fn new(store: Arc<Store>) -> Self {
        Self(store)
    }
}

impl StatSource for ClusterStatSource {
    fn visit(&self, visitor: &mut StatVisitor<'_>) {
        for cluster in self.0.clusters() {
            let stat_name = Arc::clone(&cluster.config().stat_name);
            cluster.for_each_stat(&mut |name, kind, value| {
                let value = match kind {
                    StatKind::Counter => StatValue::Counter(value),
                    StatKind::Gauge => StatValue::Gauge(value),
                };
                visitor(Scope::Cluster(&stat_name), name, value);
            });
        }
    }

    fn reset_counters(&self) {
        for cluster in self.0.clusters() {
            cluster.stats().reset_counters();
        }
    }
}
