//! Applies accepted resources to the data plane, in an order that breaks no request.
//!
//! [`Applier`] holds the wanted resources and those in force, and returns the [`Change`]s from one to the other. No
//! request sees a route to a cluster that has not been received yet:
//!
//! - a new or changed EDS cluster waits for its endpoints;
//! - routes to a new cluster with host names wait until these have been resolved, 5 s at most;
//! - a route configuration waits for the clusters it names;
//! - a listener waits for its route configurations, and for the clusters it names itself;
//! - secrets go into force at once, because handshakes wait for them;
//! - removals come last: a cluster goes when no route in force names it any more, a route configuration when no
//!   listener does.
//!
//! Nothing waits longer than [`RESOURCE_TIMEOUT`](super::RESOURCE_TIMEOUT), or for resources that do not exist. The
//! cost of an update is in proportion to what it changes and to what is waiting: an update of endpoints touches its
//! clusters only.
//!
//! It also collects the names to subscribe to: route configurations by the names in listeners,
//! endpoints by those in clusters, secrets by those in clusters and listeners, and clusters, unless all of them are requested, by those in routes. The wanted
//! resources and those in force both count, so that nothing is removed before its successor is in force.
//!
//! Like all state machines here it does no I/O: [`Applier::handle_update`] and [`Applier::handle_timeout`] are its
//! inputs, [`Applier::poll_change`] and [`Applier::poll_interest`] its outputs.

mod change;
mod cluster;
mod route;
mod store;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use hashbrown::HashSet;
use mesh_core::model::{ClusterName, RouteConfigName};

use self::cluster::Clusters;
use self::route::Routes;
use super::interest::Interest;
use super::machine::Update;
use super::notice::ApplyReport;
use super::status::Waiting;
use crate::resource::{Decoded, Ignored, Resource, ResourceType};

pub use change::Change;
pub use store::{apply, apply_static};

/// Orders accepted resources into changes. See the [module](self).
#[derive(Debug, Default)]
pub struct Applier {
    clusters: Clusters,
    routes: Routes,
    changes: VecDeque<Change>,
    /// Resources of the bootstrap, which no other resource of the same name replaces.
    fixed: HashSet<(ResourceType, Arc<str>)>,
}

/// Why a resource has no effect that has the name of one in the bootstrap.
const FIXED: &str = "the bootstrap has a resource of this name, which stays in force";

impl Applier {
    /// For clusters that are all requested at once.
    #[must_use]
    pub fn with_all_clusters() -> Self {
        Self::default()
    }

    /// For clusters that are requested by the names that routes have for them. A cluster that only a header of a
    /// request names is not requested.
    #[must_use]
    pub fn with_clusters_by_name() -> Self {
        Self { clusters: Clusters::by_name(), ..Self::default() }
    }

    /// Clusters that the control plane no longer has are removed at once, also if routes name them.
    #[must_use]
    pub fn removing_at_once(mut self) -> Self {
        self.clusters.remove_at_once();
        self
    }

    /// Whether everything that was accepted is in force.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.changes.is_empty() && self.clusters.is_idle() && self.routes.is_idle()
    }

    /// Adds a resource of the bootstrap, which no other resource of the same name replaces.
    pub fn handle_fixed(&mut self, resource: Resource, now: Instant) {
        self.fixed.insert((resource.resource_type(), resource.name().into()));
        self.want(resource, now);
        self.settle(now);
    }

    /// Whether the resource of this name is one of the bootstrap.
    #[must_use]
    pub fn is_fixed(&self, resource_type: ResourceType, name: &Arc<str>) -> bool {
        !self.fixed.is_empty() && self.fixed.contains(&(resource_type, Arc::clone(name)))
    }

    /// Handles the changes of a response.
    pub fn handle_update(&mut self, update: Update, now: Instant) -> ApplyReport {
        let Update { resource_type, version, is_answer, accepted, removed, rejected } = update;
        let (mut names, mut all_ignored) = (Vec::new(), Vec::new());
        for Decoded { resource, ignored } in accepted {
            let name: Arc<str> = resource.name().into();
            if self.is_fixed(resource_type, &name) {
                all_ignored.push((name, Ignored { path: "name".to_owned(), reason: FIXED.to_owned() }));
                continue;
            }
            all_ignored.extend(ignored.into_iter().map(|ignored| (Arc::clone(&name), ignored)));
            names.push(name);
            self.want(resource, now);
        }
        for name in &removed {
            if self.is_fixed(resource_type, name) {
                continue;
            }
            if resource_type == ResourceType::Cluster && self.clusters.are_by_name() {
                self.clusters.set_missing(ClusterName::from(&**name));
            }
            self.unwant(resource_type, name, now);
        }
        self.settle(now);
        ApplyReport { resource_type, version, is_answer, accepted: names, removed, rejected, ignored: all_ignored }
    }

    /// Handles a requested resource that does not exist: resources no longer wait for it.
    pub fn handle_missing(&mut self, resource_type: ResourceType, name: Arc<str>, now: Instant) {
        match resource_type {
            ResourceType::Cluster => self.clusters.set_missing(ClusterName::from(&*name)),
            ResourceType::ClusterLoadAssignment => self.clusters.set_endpoints_missing(name, &mut self.changes),
            ResourceType::RouteConfiguration => self.routes.set_missing(RouteConfigName::from(&*name)),
            // A handshake waits for its secrets, and fails without them.
            ResourceType::Listener | ResourceType::Secret => {}
        }
        self.settle(now);
    }

    /// Handles resources that are no longer requested: they are removed.
    pub fn handle_unsubscribed(&mut self, resource_type: ResourceType, names: &[Arc<str>], now: Instant) {
        for name in names {
            self.unwant(resource_type, name, now);
        }
        self.settle(now);
    }

    /// Changes which API listeners are used; at first all are. The others go into force without their routes and
    /// clusters.
    pub fn set_used_listeners(&mut self, names: BTreeSet<Arc<str>>, now: Instant) {
        self.routes.set_used(names);
        self.settle(now);
    }

    /// New clusters whose host names have not been resolved, as far as [`Applier::handle_resolved`] has said.
    pub fn unresolved_clusters(&self) -> impl Iterator<Item = &ClusterName> {
        self.clusters.unresolved()
    }

    /// Host names of clusters have been resolved, with or without addresses.
    pub fn handle_resolved(&mut self, clusters: &[ClusterName], now: Instant) {
        clusters.iter().for_each(|name| self.clusters.set_resolved(name));
        self.settle(now);
    }

    /// The accepted resources that are not in force yet.
    #[must_use]
    pub fn waiting(&self) -> Waiting {
        Waiting { clusters: self.clusters.waiting(), listeners: self.routes.waiting_listeners() }
    }

    /// Handles the time that [`Applier::poll_timeout`] has returned.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.clusters.handle_timeout(now, &mut self.changes);
        self.settle(now);
    }

    /// The next change to make.
    pub fn poll_change(&mut self) -> Option<Change> {
        self.changes.pop_front()
    }

    /// The interest in a type of resource, if it may have changed since it was last returned.
    pub fn poll_interest(&mut self) -> Option<(ResourceType, Interest)> {
        if let Some(names) = self.routes.route_interest() {
            return Some((ResourceType::RouteConfiguration, names.into_iter().collect()));
        }
        if self.clusters.take_aggregates_stale() {
            self.routes.note_aggregates();
        }
        if self.clusters.are_by_name()
            && let Some(names) = self.routes.cluster_interest()
        {
            let names = self.clusters.with_aggregated(names);
            self.clusters.retain_missing(&names);
            return Some((ResourceType::Cluster, names.iter().map(|name| name.as_str().into()).collect()));
        }
        if let Some(names) = self.clusters.endpoint_interest() {
            return Some((ResourceType::ClusterLoadAssignment, names.into_iter().collect()));
        }
        // Not short-circuited: both are up to date then.
        if self.clusters.take_secrets_stale() | self.routes.take_secrets_stale() {
            let names = self.clusters.secret_names().chain(self.routes.secret_names());
            return Some((ResourceType::Secret, names.cloned().collect()));
        }
        None
    }

    /// When [`Applier::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.clusters.poll_timeout().into_iter().chain(self.routes.poll_timeout()).min()
    }

    fn want(&mut self, resource: Resource, now: Instant) {
        match resource {
            Resource::Secret(secret) => self.changes.push_back(Change::SetSecret(secret)),
            Resource::Cluster(cluster) => self.clusters.want(&cluster, now, &mut self.changes),
            Resource::ClusterLoadAssignment { cluster_name, assignment } => {
                self.clusters.set_endpoints(&cluster_name, assignment, &mut self.changes);
            }
            Resource::Listener(listener) => self.routes.want_listener(listener, now),
            Resource::RouteConfiguration(config) => self.routes.want_config(config, now),
        }
    }

    fn unwant(&mut self, resource_type: ResourceType, name: &Arc<str>, now: Instant) {
        match resource_type {
            ResourceType::Secret => self.changes.push_back(Change::RemoveSecret(Arc::clone(name))),
            ResourceType::Cluster => self.clusters.unwant(name, now),
            ResourceType::Listener => self.routes.unwant_listener(name),
            // These go when nothing names them any more.
            ResourceType::ClusterLoadAssignment | ResourceType::RouteConfiguration => {}
        }
    }

    fn settle(&mut self, now: Instant) {
        if !self.routes.is_idle() {
            self.routes.settle(&mut self.clusters, now, &mut self.changes);
        }
        self.routes.remove_unused(&mut self.clusters, &mut self.changes);
        self.clusters.remove_unused(now, &mut self.changes);
    }
}

#[cfg(test)]
mod tests;
