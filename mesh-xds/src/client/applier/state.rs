//! [`Applier`].

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use mesh_core::model::{ClusterName, RouteConfigName};

use super::change::Change;
use super::cluster::Clusters;
use super::route::Routes;
use crate::client::machine::{Interest, Update};
use crate::resource::{Decoded, Ignored, Resource, ResourceError, ResourceType};

/// What became of an update.
#[derive(Clone, Debug, PartialEq)]
pub struct ApplyReport {
    /// The kind of resource.
    pub resource_type: ResourceType,
    /// The control plane's version.
    pub version: Arc<str>,
    /// Names of new and changed resources.
    pub accepted: Vec<Arc<str>>,
    /// Names of resources that exist no longer.
    pub removed: Vec<Arc<str>>,
    /// Resources that are not taken; their predecessors stay in force.
    pub rejected: Vec<ResourceError>,
    /// Fields of accepted resources that have no effect, with the name of the resource.
    pub ignored: Vec<(Arc<str>, Ignored)>,
}

impl fmt::Display for ApplyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { resource_type, version, accepted, removed, rejected, ignored: _ } = self;
        write!(f, "{resource_type} version {version:?}: ")?;
        write!(f, "{} accepted, {} removed, {} rejected", accepted.len(), removed.len(), rejected.len())
    }
}

/// Orders accepted resources into changes. See the [module](super).
#[derive(Debug)]
pub struct Applier {
    /// Whether clusters come because routes name them, instead of all at once.
    clusters_by_name: bool,
    clusters: Clusters,
    routes: Routes,
    changes: VecDeque<Change>,
    /// Kinds whose interest may have changed.
    stale_interest: Vec<ResourceType>,
}

impl Applier {
    /// For a control plane that sends all clusters of a node at once.
    #[must_use]
    pub fn with_all_clusters() -> Self {
        Self {
            clusters_by_name: false,
            clusters: Clusters::default(),
            routes: Routes::default(),
            changes: VecDeque::new(),
            stale_interest: Vec::new(),
        }
    }

    /// For a client that asks for the clusters that its routes name.
    #[must_use]
    pub fn with_clusters_by_name() -> Self {
        Self { clusters_by_name: true, ..Self::with_all_clusters() }
    }

    /// Whether everything that was accepted is in force.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.changes.is_empty() && self.clusters.is_idle() && self.routes.is_idle()
    }

    /// Takes what a response brought.
    pub fn handle_update(&mut self, update: Update, now: Instant) -> ApplyReport {
        let Update { resource_type, version, accepted, removed, rejected } = update;
        let mut report =
            ApplyReport { resource_type, version, accepted: Vec::new(), removed, rejected, ignored: Vec::new() };
        for Decoded { resource, ignored } in accepted {
            let name: Arc<str> = resource.name().into();
            report.ignored.extend(ignored.into_iter().map(|ignored| (Arc::clone(&name), ignored)));
            report.accepted.push(name);
            self.want(resource, now);
        }
        for name in &report.removed {
            match resource_type {
                ResourceType::Cluster => self.clusters.unwant(name, now),
                ResourceType::Listener => self.routes.unwant_listener(name),
                // These are never removed by a response, only by not being named any more.
                ResourceType::ClusterLoadAssignment | ResourceType::RouteConfiguration => {}
            }
        }
        if !report.accepted.is_empty() || !report.removed.is_empty() {
            self.note_interest(resource_type);
        }
        self.settle(now);
        report
    }

    /// A resource that was asked for does not exist: what waits for it goes on without.
    pub fn handle_missing(&mut self, resource_type: ResourceType, name: Arc<str>, now: Instant) {
        match resource_type {
            ResourceType::Cluster => self.clusters.set_missing(ClusterName::from(&*name)),
            ResourceType::ClusterLoadAssignment => self.clusters.set_endpoints_missing(name, &mut self.changes),
            ResourceType::RouteConfiguration => self.routes.set_missing(RouteConfigName::from(&*name)),
            ResourceType::Listener => {}
        }
        self.settle(now);
    }

    /// Acts on what [`Applier::poll_timeout`] announced.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.clusters.handle_timeout(now, &mut self.changes);
        self.settle(now);
    }

    /// The next change to make.
    pub fn poll_change(&mut self) -> Option<Change> {
        self.changes.pop_front()
    }

    /// A kind of resource of which something else is wanted now than before.
    pub fn poll_interest(&mut self) -> Option<(ResourceType, Interest)> {
        let kind = self.stale_interest.pop()?;
        let names = match kind {
            ResourceType::Cluster => self.routes.cluster_interest(),
            ResourceType::ClusterLoadAssignment => self.clusters.endpoint_interest(),
            ResourceType::RouteConfiguration => self.routes.route_interest(),
            ResourceType::Listener => return self.poll_interest(),
        };
        Some((kind, if names.is_empty() { Interest::Nothing } else { Interest::Names(Arc::new(names)) }))
    }

    /// When [`Applier::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.clusters.poll_timeout().into_iter().chain(self.routes.poll_timeout()).min()
    }

    fn want(&mut self, resource: Resource, now: Instant) {
        match resource {
            Resource::Cluster(cluster) => self.clusters.want(&cluster, now, &mut self.changes),
            Resource::ClusterLoadAssignment { cluster_name, assignment } => {
                self.clusters.set_endpoints(&cluster_name, assignment, &mut self.changes);
            }
            Resource::Listener(listener) => self.routes.want_listener(listener, now),
            Resource::RouteConfiguration(config) => self.routes.want_config(config, now),
        }
    }

    fn note_interest(&mut self, changed: ResourceType) {
        let mut note = |kind| {
            if !self.stale_interest.contains(&kind) {
                self.stale_interest.push(kind);
            }
        };
        match changed {
            ResourceType::Cluster => note(ResourceType::ClusterLoadAssignment),
            ResourceType::ClusterLoadAssignment => {}
            ResourceType::Listener => note(ResourceType::RouteConfiguration),
            ResourceType::RouteConfiguration => {}
        }
        let names_clusters = matches!(changed, ResourceType::Listener | ResourceType::RouteConfiguration);
        if self.clusters_by_name && names_clusters {
            note(ResourceType::Cluster);
        }
    }

    fn settle(&mut self, now: Instant) {
        if !self.routes.is_idle() {
            self.routes.settle(&mut self.clusters, self.clusters_by_name, now, &mut self.changes);
        }
        self.routes.remove_unused(&mut self.clusters, &mut self.changes);
        self.clusters.remove_unused(now, &mut self.changes);
    }
}
