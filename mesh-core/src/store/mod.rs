//! The configuration that the data plane reads: all clusters, route configurations, secrets and listeners by name.
//!
//! Names are resolved when configuration changes, not by requests. A reference to a cluster or a route configuration is a
//! [`Slot`], which exists from the first reference to the name, is filled by updates, and is empty while there is no such
//! resource. An update of a cluster therefore changes only its slot, and resources may arrive in any order.
//!
//! A listener may be used after the configuration has removed it: while it drains, or because its successor cannot listen.
//! Routes and clusters that only such listeners use are *retired*: they are kept unchanged until the last reference to
//! their slots is dropped.
//!
//! Updates serialize on one lock; reading a slot takes no lock. Changes of listeners, clusters and slots are observed by a
//! [`Watch`].

mod services;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use self::services::Services;
use crate::slot::Slots;
pub use crate::slot::{SecretSlot, Slot, Version, Watch};
use crate::{
    cluster::{Attachment, ClusterState},
    model::{Cluster, ClusterName, Discovery, Listener, LoadAssignment, RouteConfigName, RouteConfiguration, Secret},
    rng::Rng,
    route::{RequestStatsRegistry, RouteTable, RouteTableError},
};

/// The slot of a cluster.
pub type ClusterSlot = Slot<ClusterName, ClusterState>;

/// A route table that refers to clusters by slots.
pub type Routes = RouteTable<Arc<ClusterSlot>>;

/// The slot of a route configuration.
pub type RouteSlot = Slot<RouteConfigName, Routes>;

/// All listeners by name.
pub type ListenerMap = BTreeMap<Arc<str>, Arc<Listener>>;

/// The configuration of the data plane.
#[derive(Debug, Default)]
pub struct Store {
    clusters: Slots<ClusterName, ClusterState>,
    clusters_version: Version,
    resolved_version: Version,
    routes: Slots<RouteConfigName, Routes>,
    secrets: Slots<Arc<str>, Secret>,
    /// Also serializes updates.
    services: Mutex<Services>,
    /// Shared with readers, and copied by an update only while one of them holds it.
    listeners: Mutex<Arc<ListenerMap>>,
    listeners_version: Version,
    request_stats: RequestStatsRegistry,
    attachment: Attachment,
}

impl Store {
    /// Creates an empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The slot of a cluster, whether or not the cluster exists.
    #[must_use]
    pub fn cluster_slot(&self, name: &ClusterName) -> Arc<ClusterSlot> {
        self.clusters.intern(name)
    }

    /// The cluster of this name, retired ones included. For requests that name their cluster in a header.
    #[must_use]
    pub fn cluster(&self, name: &str) -> Option<Arc<ClusterState>> {
        self.clusters.find(name)?.load()
    }

    /// All clusters, retired ones included, in no particular order.
    #[must_use]
    pub fn clusters(&self) -> Vec<Arc<ClusterState>> {
        self.clusters.values()
    }

    /// Observes the clusters. The watch changes when a cluster is added, reconfigured or removed, but not when endpoints
    /// change. To observe one cluster, use [`Slot::watch`].
    #[must_use]
    pub fn watch_clusters(&self) -> Watch {
        self.clusters_version.watch()
    }

    /// Adds a cluster or replaces its configuration; its runtime state is kept. Endpoints that were set for its service
    /// before are used at once.
    pub fn set_cluster(&self, config: Arc<Cluster>, now: Instant, rng: &mut impl Rng) {
        let mut services = self.services();
        let (slot, existed) = self.clusters.keep(&config.name);
        let old = slot.load();
        // A retired cluster no longer belongs to its service.
        let old_service = old.as_ref().filter(|_| existed).and_then(|old| eds_service(old.config())).cloned();
        let service = eds_service(&config).cloned();
        let state = match old {
            Some(old) => old.reconfigured(config, now, rng),
            None => ClusterState::new(config, now, rng),
        };
        let secrets = state.config().secret_names().map(|name| self.secret_slot(name)).collect();
        let aggregated = state.config().aggregated().iter().map(|name| self.cluster_slot(name)).collect();
        let state = state.with_secrets(secrets).with_aggregated(aggregated);
        if service != old_service {
            if let Some(old_service) = old_service {
                services.leave(&old_service, &slot);
            }
            if let Some(service) = service
                && let Some(assignment) = services.join(&service, &slot)
            {
                state.set_endpoints(&assignment, rng);
            }
        }
        slot.store(Some(Arc::new(state)));
        self.clusters_version.advance();
    }

    /// Removes a cluster, even if there are references to it. Active requests are not affected.
    pub fn remove_cluster(&self, name: &ClusterName) {
        let mut services = self.services();
        let slot = self.clusters.find(name.as_str());
        self.forget_cluster(name, &mut services);
        if let Some(slot) = slot {
            slot.store(None);
        }
        self.clusters_version.advance();
    }

    /// Removes a cluster that no routes in force refer to. Removed routes that are still in use keep it, with its current
    /// endpoints.
    pub fn retire_cluster(&self, name: &ClusterName) {
        self.forget_cluster(name, &mut self.services());
        self.clusters_version.advance();
    }

    fn forget_cluster(&self, name: &ClusterName, services: &mut Services) {
        if let Some(slot) = self.clusters.retire(name.as_str())
            && let Some(old) = slot.load()
            && let Some(service) = eds_service(old.config())
        {
            services.leave(service, &slot);
        }
    }

    /// Sets the endpoints of a service, which all clusters with [`Discovery::Eds`] of this name use, now or later.
    pub fn set_endpoints(&self, service_name: &str, assignment: &Arc<LoadAssignment>, rng: &mut impl Rng) {
        let mut services = self.services();
        for state in services.assign(service_name, Some(assignment)).filter_map(|slot| slot.load()) {
            state.set_endpoints(assignment, rng);
        }
    }

    /// Removes the endpoints of a service. Its clusters have none until new ones are set.
    pub fn remove_endpoints(&self, service_name: &str, rng: &mut impl Rng) {
        let mut services = self.services();
        for state in services.assign(service_name, None).filter_map(|slot| slot.load()) {
            state.set_endpoints(&LoadAssignment::default(), rng);
        }
    }

    /// Sets the endpoints of a cluster whose names have been resolved.
    pub fn set_resolved_endpoints(&self, cluster: &ClusterName, assignment: &LoadAssignment, rng: &mut impl Rng) {
        let _services = self.services();
        if let Some(state) = self.cluster(cluster.as_str()) {
            let was_initialized = state.is_initialized();
            state.set_endpoints(assignment, rng);
            if !was_initialized {
                self.resolved_version.advance();
            }
        }
    }

    /// Observes name resolution. The watch changes when the host names of a cluster have been resolved for the first time.
    #[must_use]
    pub fn watch_resolved(&self) -> Watch {
        self.resolved_version.watch()
    }

    /// The slot of a route configuration, whether or not it exists.
    #[must_use]
    pub fn route_slot(&self, name: &RouteConfigName) -> Arc<RouteSlot> {
        self.routes.intern(name)
    }

    /// All route configurations, retired ones included, in no particular order.
    #[must_use]
    pub fn routes(&self) -> Vec<Arc<Routes>> {
        self.routes.values()
    }

    /// Adds or replaces a route configuration. Its clusters need not exist yet.
    ///
    /// # Errors
    /// If it cannot be compiled. The previous one stays in force.
    pub fn set_routes(&self, config: &Arc<RouteConfiguration>) -> Result<(), RouteTableError> {
        let routes = self.compile_routes(Arc::clone(config))?;
        self.routes.keep(&config.name).0.store(Some(Arc::new(routes)));
        Ok(())
    }

    /// Compiles the routes of a listener with the clusters and statistics of this store.
    ///
    /// # Errors
    /// If they cannot be compiled.
    pub fn compile_routes(&self, config: Arc<RouteConfiguration>) -> Result<Routes, RouteTableError> {
        Routes::compile_counted(config, &mut |cluster| self.cluster_slot(cluster), &self.request_stats)
    }

    /// The statistics of virtual clusters and routes.
    #[must_use]
    pub fn request_stats(&self) -> &RequestStatsRegistry {
        &self.request_stats
    }

    /// Removes a route configuration that no listener in force refers to. Removed listeners that are still in use keep it.
    pub fn remove_routes(&self, name: &RouteConfigName) {
        self.routes.retire(name.as_str());
    }

    /// What a data plane shares between all users of this store, such as keys of its servers.
    #[must_use]
    pub fn attachment(&self) -> &Attachment {
        &self.attachment
    }

    /// The slot of a secret, whether or not it exists.
    #[must_use]
    pub fn secret_slot(&self, name: &Arc<str>) -> Arc<SecretSlot> {
        self.secrets.intern(name)
    }

    /// Adds or replaces a secret.
    pub fn set_secret(&self, secret: impl Into<Arc<Secret>>) {
        let secret = secret.into();
        self.secrets.keep(&secret.name).0.store(Some(Arc::clone(&secret)));
    }

    /// Removes a secret. References to its slot keep it, so that listeners that use it keep working.
    pub fn remove_secret(&self, name: &str) {
        self.secrets.retire(name);
    }

    /// All listeners.
    #[must_use]
    pub fn listeners(&self) -> Arc<ListenerMap> {
        Arc::clone(&self.lock_listeners())
    }

    /// Observes the listeners. The watch changes when a listener is added, replaced or removed.
    #[must_use]
    pub fn watch_listeners(&self) -> Watch {
        self.listeners_version.watch()
    }

    /// Adds or replaces a listener.
    pub fn set_listener(&self, listener: Arc<Listener>) {
        self.update_listeners(|listeners| listeners.insert(listener.name.clone(), listener));
    }

    /// Removes a listener.
    pub fn remove_listener(&self, name: &str) {
        self.update_listeners(|listeners| listeners.remove(name));
    }

    fn update_listeners<T>(&self, update: impl FnOnce(&mut ListenerMap) -> T) {
        let _services = self.services();
        update(Arc::make_mut(&mut self.lock_listeners()));
        self.listeners_version.advance();
    }

    fn lock_listeners(&self) -> MutexGuard<'_, Arc<ListenerMap>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn services(&self) -> MutexGuard<'_, Services> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn eds_service(config: &Cluster) -> Option<&Arc<str>> {
    match &config.discovery {
        Discovery::Eds { service_name } => Some(service_name),
        Discovery::Static(_)
        | Discovery::StrictDns(..)
        | Discovery::LogicalDns(..)
        | Discovery::OriginalDst(_)
        | Discovery::Aggregate(_) => None,
    }
}
