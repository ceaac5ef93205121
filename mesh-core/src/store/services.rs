//! Services of endpoint discovery, and the clusters that use them.

use std::{collections::HashMap, sync::Arc};

use super::ClusterSlot;
use crate::model::LoadAssignment;

/// Services of endpoint discovery. A service is kept while it has endpoints or a cluster refers to it.
#[derive(Debug, Default)]
pub(super) struct Services {
    by_name: HashMap<Arc<str>, Service>,
}

#[derive(Debug, Default)]
struct Service {
    assignment: Option<Arc<LoadAssignment>>,
    clusters: Vec<Arc<ClusterSlot>>,
}

impl Services {
    /// Adds a cluster to the service, and returns the endpoints of the service if there are any.
    pub(super) fn join(&mut self, name: &Arc<str>, cluster: &Arc<ClusterSlot>) -> Option<Arc<LoadAssignment>> {
        let service = self.by_name.entry(Arc::clone(name)).or_default();
        service.clusters.push(Arc::clone(cluster));
        service.assignment.clone()
    }

    /// Removes a cluster from the service.
    pub(super) fn leave(&mut self, name: &str, cluster: &Arc<ClusterSlot>) {
        let Some(service) = self.by_name.get_mut(name) else { return };
        service.clusters.retain(|member| !Arc::ptr_eq(member, cluster));
        if service.clusters.is_empty() && service.assignment.is_none() {
            self.by_name.remove(name);
        }
    }

    /// Replaces the endpoints of the service, and returns the clusters that use it.
    pub(super) fn assign(
        &mut self,
        name: &str,
        assignment: Option<&Arc<LoadAssignment>>,
    ) -> impl Iterator<Item = Arc<ClusterSlot>> + use<> {
        let service = match self.by_name.get_mut(name) {
            Some(service) => service,
            None => self.by_name.entry(name.into()).or_default(),
        };
        service.assignment = assignment.cloned();
        let clusters = service.clusters.clone();
        if clusters.is_empty() && assignment.is_none() {
            self.by_name.remove(name);
        }
        clusters.into_iter()
    }
}
