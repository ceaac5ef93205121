//! The endpoints of a cluster, with a picker.

use std::sync::Arc;

use super::original_dst::Destinations;
use crate::{
    balance::{Availability, Cursors, Picker},
    endpoint::{EndpointState, Health, Members},
    model::Cluster,
    rng::Rng,
};

/// The endpoints of a cluster. Immutable: updates and ejections replace the whole set.
#[derive(Debug)]
pub struct EndpointSet {
    members: Arc<Members>,
    picker: Picker,
    destinations: Destinations,
    healthy: usize,
    degraded: usize,
    availability: Availability,
}

impl EndpointSet {
    pub(super) fn new(members: Arc<Members>, config: &Cluster, cursors: &mut Cursors, rng: &mut impl Rng) -> Self {
        let count = |health| members.endpoints().iter().filter(|endpoint| endpoint.health() == health).count();
        Self {
            healthy: count(Health::Healthy),
            degraded: count(Health::Degraded),
            availability: Availability::new(&members, config),
            destinations: Destinations::new(&members, config),
            picker: Picker::new(&members, config, cursors, rng),
            members,
        }
    }

    /// All endpoints, healthy or not, in configured order.
    #[must_use]
    pub fn endpoints(&self) -> &[Arc<EndpointState>] {
        self.members.endpoints()
    }

    /// Number of [`Health::Healthy`] endpoints: `membership_healthy`.
    #[must_use]
    pub fn healthy(&self) -> usize {
        self.healthy
    }

    /// Number of [`Health::Degraded`] endpoints: `membership_degraded`.
    #[must_use]
    pub fn degraded(&self) -> usize {
        self.degraded
    }

    /// Number of draining endpoints: `membership_excluded`.
    #[must_use]
    pub fn excluded(&self) -> usize {
        self.members.endpoints().iter().filter(|endpoint| endpoint.is_excluded()).count()
    }

    pub(super) fn availability(&self) -> Availability {
        self.availability
    }

    pub(super) fn members(&self) -> &Arc<Members> {
        &self.members
    }

    pub(super) fn destinations(&self) -> &Destinations {
        &self.destinations
    }

    pub(super) fn picker(&self) -> &Picker {
        &self.picker
    }
}
