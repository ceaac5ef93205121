//! The endpoints of a cluster at one moment, ready to pick from.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    num::NonZeroU32,
    sync::Arc,
};

use super::{EndpointState, Health, endpoint::Placement};
use crate::{
    balance::{Cursors, Picker},
    model::{Cluster, EndpointAddress, LoadAssignment},
    rng::Rng,
};

/// The endpoints of a cluster at one moment. Immutable: updates and ejections replace the whole value.
#[derive(Debug)]
pub struct EndpointSet {
    members: Arc<Members>,
    picker: Picker,
    healthy: usize,
    degraded: usize,
}

/// Who belongs to the cluster, whether healthy or not.
#[derive(Debug)]
pub(crate) struct Members {
    /// Grouped by locality, in configured order.
    endpoints: Box<[Arc<EndpointState>]>,
    localities: Box<[LocalityGroup]>,
    overprovisioning_factor: u32,
}

/// A run of [`Members::endpoints`] of one priority and locality.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LocalityGroup {
    pub(crate) priority: u32,
    pub(crate) weight: Option<NonZeroU32>,
    start: usize,
    end: usize,
}

impl EndpointSet {
    pub(super) fn new(members: Arc<Members>, config: &Cluster, cursors: &mut Cursors, rng: &mut impl Rng) -> Self {
        let count = |health| members.endpoints.iter().filter(|endpoint| endpoint.health() == health).count();
        Self {
            healthy: count(Health::Healthy),
            degraded: count(Health::Degraded),
            picker: Picker::new(&members, config, cursors, rng),
            members,
        }
    }

    /// All endpoints, healthy or not, in configured order.
    #[must_use]
    pub fn endpoints(&self) -> &[Arc<EndpointState>] {
        &self.members.endpoints
    }

    /// How many are [`Health::Healthy`]: `membership_healthy`.
    #[must_use]
    pub fn healthy(&self) -> usize {
        self.healthy
    }

    /// How many are [`Health::Degraded`]: `membership_degraded`.
    #[must_use]
    pub fn degraded(&self) -> usize {
        self.degraded
    }

    /// How many are about to leave: `membership_excluded`.
    #[must_use]
    pub fn excluded(&self) -> usize {
        self.members.endpoints.iter().filter(|endpoint| endpoint.is_excluded()).count()
    }

    pub(super) fn members(&self) -> &Arc<Members> {
        &self.members
    }

    pub(super) fn picker(&self) -> &Picker {
        &self.picker
    }
}

impl Members {
    pub(super) fn empty() -> Self {
        let overprovisioning_factor = LoadAssignment::default().overprovisioning_factor;
        Self { endpoints: Box::default(), localities: Box::default(), overprovisioning_factor }
    }

    /// The members `assignment` asks for, keeping every state of `self` whose address stays. Of endpoints with the same
    /// address the first counts; names are not endpoints until they are resolved, and are left out.
    pub(super) fn reconciled(&self, assignment: &LoadAssignment) -> Self {
        let known: HashMap<SocketAddr, &Arc<EndpointState>> =
            self.endpoints.iter().map(|endpoint| (endpoint.address(), endpoint)).collect();
        let mut seen = HashSet::new();
        let mut endpoints = Vec::new();
        let mut localities = Vec::with_capacity(assignment.localities.len());
        for group in &assignment.localities {
            let start = endpoints.len();
            let placement = Arc::new(Placement { priority: group.priority, locality: group.locality.clone() });
            for endpoint in &group.endpoints {
                let EndpointAddress::Socket(address) = endpoint.address else { continue };
                if !seen.insert(address) {
                    continue;
                }
                endpoints.push(match known.get(&address) {
                    Some(state) if state.is_configured_as(endpoint, &placement) => Arc::clone(state),
                    Some(state) => Arc::new(state.reconfigured(endpoint, &placement)),
                    None => Arc::new(EndpointState::new(address, endpoint, &placement)),
                });
            }
            let (priority, weight) = (group.priority, group.load_balancing_weight);
            localities.push(LocalityGroup { priority, weight, start, end: endpoints.len() });
        }
        Self {
            endpoints: endpoints.into(),
            localities: localities.into(),
            overprovisioning_factor: assignment.overprovisioning_factor,
        }
    }

    /// The same members without what the data plane attached to them.
    pub(super) fn detached(&self) -> Self {
        Self {
            endpoints: self.endpoints.iter().map(|endpoint| Arc::new(endpoint.detached())).collect(),
            localities: self.localities.clone(),
            overprovisioning_factor: self.overprovisioning_factor,
        }
    }

    /// Whether both have the very same endpoint states in the same places.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.overprovisioning_factor == other.overprovisioning_factor
            && self.localities == other.localities
            && self.endpoints.len() == other.endpoints.len()
            && self.endpoints.iter().zip(&other.endpoints).all(|(one, other)| Arc::ptr_eq(one, other))
    }

    pub(crate) fn endpoints(&self) -> &[Arc<EndpointState>] {
        &self.endpoints
    }

    pub(crate) fn localities(&self) -> &[LocalityGroup] {
        &self.localities
    }

    pub(crate) fn in_locality(&self, group: &LocalityGroup) -> &[Arc<EndpointState>] {
        &self.endpoints[group.start..group.end]
    }

    pub(crate) fn overprovisioning_factor(&self) -> u32 {
        self.overprovisioning_factor
    }
}
