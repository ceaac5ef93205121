//! A [`StatSource`] of the statistics of clusters, virtual clusters and routes. Envoy `cluster.<stat_name>.` and
//! `vhost.<virtual host>.`.

use std::sync::Arc;

use mesh_core::{cluster::StatKind, store::Store};

use super::stat::{Scope, StatSource, StatValue, StatVisitor};

/// The statistics of all clusters of a store, and of the virtual clusters and routes that have statistics of their own.
#[derive(Clone, Debug)]
pub struct ClusterStatSource(Arc<Store>);

impl ClusterStatSource {
    /// The statistics of `store`.
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
                visitor(Scope::Cluster(&stat_name), name, of_kind(kind, value));
            });
        }
        self.0.request_stats().for_each(&mut |scope, name, kind, value| {
            visitor(Scope::Requests(scope), name, of_kind(kind, value));
        });
    }

    fn reset_counters(&self) {
        for cluster in self.0.clusters() {
            cluster.stats().reset_counters();
        }
        self.0.request_stats().reset_counters();
    }
}

fn of_kind(kind: StatKind, value: u64) -> StatValue<'static> {
    match kind {
        StatKind::Counter => StatValue::Counter(value),
        StatKind::Gauge => StatValue::Gauge(value),
    }
}
