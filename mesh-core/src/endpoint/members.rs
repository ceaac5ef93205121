//! The endpoints of a cluster, healthy or not.

use std::{
    collections::{HashMap, HashSet},
    num::NonZeroU32,
    sync::Arc,
};

use super::{EndpointState, Placement};
use crate::model::{DropOverload, LoadAssignment, NetworkAddress};

/// All endpoints of a cluster.
#[derive(Debug)]
pub(crate) struct Members {
    /// Grouped by locality, in configured order.
    endpoints: Box<[Arc<EndpointState>]>,
    localities: Box<[LocalityGroup]>,
    overprovisioning_factor: u32,
    drop_overloads: Arc<[DropOverload]>,
}

/// A run of [`Members::endpoints`] of one priority and locality.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LocalityGroup {
    pub(crate) priority: u32,
    pub(crate) weight: Option<NonZeroU32>,
    start: usize,
    end: usize,
}

impl Members {
    pub(crate) fn empty() -> Self {
        let overprovisioning_factor = LoadAssignment::default().overprovisioning_factor;
        let drop_overloads = Arc::default();
        Self { endpoints: Box::default(), localities: Box::default(), overprovisioning_factor, drop_overloads }
    }

    /// The members of `assignment`, with the states of `self` for endpoints with the same address. Of several endpoints with
    /// the same address the first is used. Names that are not resolved are left out.
    pub(crate) fn reconciled(&self, assignment: &LoadAssignment) -> Self {
        let known: HashMap<&NetworkAddress, &Arc<EndpointState>> =
            self.endpoints.iter().map(|endpoint| (endpoint.address(), endpoint)).collect();
        let mut seen = HashSet::new();
        let mut endpoints = Vec::new();
        let mut localities = Vec::with_capacity(assignment.localities.len());
        for group in &assignment.localities {
            let start = endpoints.len();
            let placement = Arc::new(Placement { priority: group.priority, locality: group.locality.clone() });
            for endpoint in &group.endpoints {
                let Some(address) = endpoint.address.resolved() else { continue };
                if !seen.insert(address.clone()) {
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
            drop_overloads: assignment.drop_overloads.as_slice().into(),
        }
    }

    /// The same members without attachments.
    pub(crate) fn detached(&self) -> Self {
        Self {
            endpoints: self.endpoints.iter().map(|endpoint| Arc::new(endpoint.detached())).collect(),
            localities: self.localities.clone(),
            overprovisioning_factor: self.overprovisioning_factor,
            drop_overloads: Arc::clone(&self.drop_overloads),
        }
    }

    /// Whether both have the same endpoint states in the same order.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.overprovisioning_factor == other.overprovisioning_factor
            && self.drop_overloads == other.drop_overloads
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

    pub(crate) fn drop_overloads(&self) -> &[DropOverload] {
        &self.drop_overloads
    }

    pub(crate) fn overprovisioning_factor(&self) -> u32 {
        self.overprovisioning_factor
    }
}
