//! Clusters and their endpoints on the way to the data plane.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::{HashMap, HashSet};
use mesh_core::model::{Cluster, ClusterName, Discovery, LoadAssignment};

use super::change::{Change, Slot};
use crate::client::machine::RESOURCE_TIMEOUT;

/// How long routes wait for the addresses of a new cluster with host names.
const RESOLUTION_TIMEOUT: Duration = Duration::from_secs(5);

/// The state of clusters and endpoints.
#[expect(clippy::struct_excessive_bools, reason = "one for each thing that may have changed")]
#[derive(Debug, Default)]
pub(super) struct Clusters {
    /// Whether clusters are requested by the names in routes, instead of all at once.
    by_name: bool,
    /// Whether clusters that are not wanted any more are removed even if routes name them.
    removes_at_once: bool,
    slots: HashMap<ClusterName, Slot<Cluster>>,
    /// Endpoint resources in force.
    endpoints: HashSet<Arc<str>>,
    /// Wanted clusters that wait for endpoints, by the name of these.
    cold: HashMap<Arc<str>, HashSet<ClusterName>>,
    /// New clusters in force whose host names have not been resolved, and until when routes wait for that.
    unresolved: HashMap<ClusterName, Instant>,
    /// Clusters in force that are not wanted any more, and until when they may stay for routes that name them.
    unwanted: HashMap<ClusterName, Instant>,
    /// Endpoints and clusters that the control plane does not have.
    missing_endpoints: HashSet<Arc<str>>,
    missing: HashSet<ClusterName>,
    /// How many route configurations in force name a cluster.
    users: HashMap<ClusterName, usize>,
    /// Whether a cluster went or changed since [`Clusters::remove_unused`] looked for unused endpoints.
    may_be_unused: bool,
    /// Whether other endpoints may be named than when [`Clusters::endpoint_interest`] looked.
    is_endpoint_interest_stale: bool,
    /// Whether aggregates may name other clusters than when [`Clusters::take_aggregates_stale`] was called.
    are_aggregates_stale: bool,
    /// Whether other secrets may be named than when [`Clusters::take_secrets_stale`] was called.
    are_secrets_stale: bool,
}

impl Clusters {
    /// For clusters that are requested one by one.
    pub(super) fn by_name() -> Self {
        Self { by_name: true, ..Self::default() }
    }

    /// Does not keep clusters that are not wanted any more for the routes that name them.
    pub(super) fn remove_at_once(&mut self) {
        self.removes_at_once = true;
    }

    /// Whether clusters are requested one by one.
    pub(super) fn are_by_name(&self) -> bool {
        self.by_name
    }

    /// Handles a new or changed cluster.
    pub(super) fn want(&mut self, cluster: &Arc<Cluster>, now: Instant, changes: &mut VecDeque<Change>) {
        let name = cluster.name.clone();
        self.missing.remove(&name);
        self.unwanted.remove(&name);
        self.forget_cold(&name);
        self.is_endpoint_interest_stale = true;
        self.are_secrets_stale = true;
        self.are_aggregates_stale |= !cluster.aggregated().is_empty();
        let slot = self.slots.entry(name.clone()).or_insert_with(|| Slot::empty(now));
        slot.want(Arc::clone(cluster), now + RESOURCE_TIMEOUT);
        let is_new = slot.in_force.is_none();
        match &cluster.discovery {
            Discovery::Eds { service_name } if !self.has_endpoints(service_name) => {
                self.cold.entry(Arc::clone(service_name)).or_default().insert(name);
            }
            discovery => {
                if is_new && discovery.is_dns() {
                    self.unresolved.insert(name.clone(), now + RESOLUTION_TIMEOUT);
                }
                self.put_in_force(&name, changes);
            }
        }
    }

    /// Handles a cluster that the control plane no longer has, or that is no longer requested.
    pub(super) fn unwant(&mut self, name: &str, now: Instant) {
        self.is_endpoint_interest_stale = true;
        let Some((name, slot)) = self.slots.get_key_value(name) else { return };
        let (name, is_in_force) = (name.clone(), slot.in_force.is_some());
        self.forget_cold(&name);
        self.unresolved.remove(&name);
        if is_in_force {
            if let Some(slot) = self.slots.get_mut(&name) {
                slot.wanted = None;
            }
            let until = if self.removes_at_once { now } else { now + RESOURCE_TIMEOUT };
            self.unwanted.insert(name, until);
        } else {
            self.slots.remove(&name);
        }
    }

    /// Handles endpoints; clusters that waited for them go into force.
    pub(super) fn set_endpoints(
        &mut self,
        service_name: &Arc<str>,
        assignment: Arc<LoadAssignment>,
        changes: &mut VecDeque<Change>,
    ) {
        self.missing_endpoints.remove(service_name);
        self.endpoints.insert(Arc::clone(service_name));
        // Endpoints first, so that no request sees the cluster without them.
        changes.push_back(Change::SetEndpoints { service_name: Arc::clone(service_name), assignment });
        for name in self.cold.remove(service_name).into_iter().flatten() {
            self.put_in_force(&name, changes);
        }
    }

    /// Handles endpoints that do not exist: their clusters go into force without.
    pub(super) fn set_endpoints_missing(&mut self, service_name: Arc<str>, changes: &mut VecDeque<Change>) {
        for name in self.cold.remove(&service_name).into_iter().flatten() {
            self.put_in_force(&name, changes);
        }
        self.missing_endpoints.insert(service_name);
    }

    /// Handles a cluster that does not exist: nothing waits for it.
    pub(super) fn set_missing(&mut self, name: ClusterName) {
        self.missing.insert(name);
    }

    /// New clusters whose host names have not been resolved.
    pub(super) fn unresolved(&self) -> impl Iterator<Item = &ClusterName> {
        self.unresolved.keys()
    }

    /// Handles that the host names of a cluster have been resolved: routes to it go into force.
    pub(super) fn set_resolved(&mut self, name: &ClusterName) {
        self.unresolved.remove(name);
    }

    /// Clusters that have waited long enough go into force without endpoints.
    pub(super) fn handle_timeout(&mut self, now: Instant, changes: &mut VecDeque<Change>) {
        self.unresolved.retain(|_, until| *until > now);
        let slots = &self.slots;
        let is_due = |name: &ClusterName| slots.get(name).is_none_or(|slot| slot.until <= now);
        let mut due = Vec::new();
        self.cold.retain(|_, names| {
            due.extend(names.extract_if(is_due));
            !names.is_empty()
        });
        for name in &due {
            self.put_in_force(name, changes);
        }
    }

    /// Removes clusters that are not wanted, once no route in force names them or their time is over, and then the
    /// endpoints that no cluster uses.
    pub(super) fn remove_unused(&mut self, now: Instant, changes: &mut VecDeque<Change>) {
        let users = &self.users;
        let gone = self.unwanted.extract_if(|name, until| *until <= now || !users.contains_key(name));
        for (name, _) in gone {
            self.slots.remove(&name);
            self.are_secrets_stale = true;
            self.may_be_unused = true;
            self.is_endpoint_interest_stale = true;
            let is_named = self.users.contains_key(&name);
            changes.push_back(if is_named { Change::RemoveCluster(name) } else { Change::RetireCluster(name) });
        }
        if std::mem::take(&mut self.may_be_unused) {
            let clusters = self.slots.values().flat_map(Slot::both);
            let used: HashSet<&Arc<str>> = clusters.filter_map(|cluster| service_name(cluster)).collect();
            let unused = self.endpoints.extract_if(|name| !used.contains(name));
            changes.extend(unused.map(Change::RemoveEndpoints));
        }
    }

    /// Whether routes that name these clusters may go into force: each exists, or is not expected. Unknown clusters are
    /// expected only if they are requested by name. So do the clusters of aggregates.
    pub(super) fn are_settled(&self, names: &BTreeSet<ClusterName>) -> bool {
        self.with_aggregated(names.clone()).iter().all(|name| match self.slots.get(name) {
            Some(slot) => slot.in_force.is_some() && !self.unresolved.contains_key(name),
            None => !self.by_name || self.missing.contains(name),
        })
    }

    /// Adds the clusters of aggregates among `names`, as they are wanted and in force, and of those among these.
    pub(super) fn with_aggregated(&self, mut names: BTreeSet<ClusterName>) -> BTreeSet<ClusterName> {
        let mut added: Vec<ClusterName> = names.iter().cloned().collect();
        while let Some(name) = added.pop() {
            for cluster in self.slots.get(&name).into_iter().flat_map(Slot::both) {
                let new = cluster.aggregated().iter().filter(|name| names.insert((*name).clone()));
                added.extend(new.cloned());
            }
        }
        names
    }

    /// Whether aggregates may name other clusters than when this was last called.
    pub(super) fn take_aggregates_stale(&mut self) -> bool {
        std::mem::take(&mut self.are_aggregates_stale)
    }

    /// Handles that only these clusters are requested: whether others exist is unknown.
    pub(super) fn retain_missing(&mut self, names: &BTreeSet<ClusterName>) {
        self.missing.retain(|name| names.contains(name));
    }

    /// Counts a route configuration that names these clusters.
    pub(super) fn add_users(&mut self, names: &BTreeSet<ClusterName>) {
        for name in names {
            *self.users.entry(name.clone()).or_default() += 1;
        }
    }

    /// Reverts [`Clusters::add_users`].
    pub(super) fn remove_users(&mut self, names: &BTreeSet<ClusterName>) {
        for name in names {
            if let Some(count) = self.users.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.users.remove(name);
                }
            }
        }
    }

    /// Names of the endpoint resources of all clusters, wanted and in force, if they may have changed.
    pub(super) fn endpoint_interest(&mut self) -> Option<BTreeSet<Arc<str>>> {
        if !std::mem::take(&mut self.is_endpoint_interest_stale) {
            return None;
        }
        let clusters = self.slots.values().flat_map(Slot::both);
        let names: BTreeSet<Arc<str>> = clusters.filter_map(|cluster| service_name(cluster).map(Arc::clone)).collect();
        self.missing_endpoints.retain(|name| names.contains(name));
        Some(names)
    }

    /// Whether clusters may name other secrets than when this was last called.
    pub(super) fn take_secrets_stale(&mut self) -> bool {
        std::mem::take(&mut self.are_secrets_stale)
    }

    /// The secrets that clusters name, as they are wanted and as they are in force.
    pub(super) fn secret_names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.slots.values().flat_map(Slot::both).flat_map(|cluster| cluster.secret_names())
    }

    /// How many clusters wait for endpoints.
    pub(super) fn waiting(&self) -> usize {
        self.cold.values().map(HashSet::len).sum()
    }

    /// Whether nothing waits.
    pub(super) fn is_idle(&self) -> bool {
        self.cold.is_empty() && self.unresolved.is_empty()
    }

    /// When [`Clusters::handle_timeout`] or [`Clusters::remove_unused`] has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let waiting = self.cold.values().flatten().filter_map(|name| self.slots.get(name)).map(|slot| slot.until);
        waiting.chain(self.unwanted.values().copied()).chain(self.unresolved.values().copied()).min()
    }

    fn has_endpoints(&self, service_name: &str) -> bool {
        self.endpoints.contains(service_name) || self.missing_endpoints.contains(service_name)
    }

    fn forget_cold(&mut self, name: &ClusterName) {
        let wanted = self.slots.get(name).and_then(|slot| slot.wanted.as_deref());
        let Some(service_name) = wanted.and_then(service_name) else { return };
        if let Some(names) = self.cold.get_mut(service_name) {
            names.remove(name);
            if names.is_empty() {
                self.cold.remove(service_name);
            }
        }
    }

    fn put_in_force(&mut self, name: &ClusterName, changes: &mut VecDeque<Change>) {
        let Some(slot) = self.slots.get_mut(name) else { return };
        let Some(cluster) = slot.wanted.clone() else { return };
        if let Some(old) = slot.in_force.replace(Arc::clone(&cluster)) {
            self.may_be_unused = true;
            self.is_endpoint_interest_stale |= service_name(&old) != service_name(&cluster);
            self.are_secrets_stale = true;
        }
        changes.push_back(Change::SetCluster(cluster));
    }
}

fn service_name(cluster: &Cluster) -> Option<&Arc<str>> {
    match &cluster.discovery {
        Discovery::Eds { service_name } => Some(service_name),
        Discovery::Static(_)
        | Discovery::StrictDns(..)
        | Discovery::LogicalDns(..)
        | Discovery::OriginalDst(_)
        | Discovery::Aggregate(_) => None,
    }
}
