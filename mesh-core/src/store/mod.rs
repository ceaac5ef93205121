//! What the data plane reads: every cluster and listener there is, under its name.
//!
//! Names are resolved when configuration changes, not per request. Whoever refers to a cluster holds its [`ClusterSlot`],
//! which is there from the first mention of the name, is filled and refilled by updates, and is empty while the cluster
//! does not exist. An update of one cluster therefore touches its slot alone, however many clusters and routes there are.
//!
//! Updates serialize on one lock; reading a slot takes none.

mod services;
mod slot;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Instant,
};

use arc_swap::ArcSwap;

use self::services::Services;
pub use self::slot::ClusterSlot;
use crate::{
    cluster::ClusterState,
    model::{Cluster, ClusterName, Discovery, Listener, LoadAssignment},
    rng::Rng,
};

/// All listeners by name.
pub type ListenerMap = BTreeMap<Arc<str>, Arc<Listener>>;

/// Everything the data plane acts upon.
#[derive(Debug, Default)]
pub struct Store {
    clusters: RwLock<Slots>,
    /// Also serializes updates.
    services: Mutex<Services>,
    listeners: ArcSwap<ListenerMap>,
}

/// Slots by name. A name that is neither mentioned any more nor has a cluster is forgotten in time.
#[derive(Debug, Default)]
struct Slots {
    by_name: HashMap<ClusterName, Arc<ClusterSlot>>,
    /// Size at which unused slots are looked for, so that this costs a constant share of each insertion.
    sweep_at: usize,
}

impl Slots {
    const MIN_SWEEP_AT: usize = 64;

    fn intern(&mut self, name: &ClusterName) -> Arc<ClusterSlot> {
        if let Some(slot) = self.by_name.get(name) {
            return Arc::clone(slot);
        }
        if self.by_name.len() >= self.sweep_at.max(Self::MIN_SWEEP_AT) {
            self.by_name.retain(|_, slot| Arc::strong_count(slot) > 1 || slot.load().is_some());
            self.sweep_at = self.by_name.len() * 2;
        }
        let slot = Arc::new(ClusterSlot::new(name.clone()));
        self.by_name.insert(name.clone(), Arc::clone(&slot));
        slot
    }
}

impl Store {
    /// A store without anything in it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The slot of a cluster, whether or not the cluster exists.
    #[must_use]
    pub fn cluster_slot(&self, name: &ClusterName) -> Arc<ClusterSlot> {
        if let Some(slot) = self.clusters.read().unwrap_or_else(PoisonError::into_inner).by_name.get(name) {
            return Arc::clone(slot);
        }
        self.clusters.write().unwrap_or_else(PoisonError::into_inner).intern(name)
    }

    /// The cluster of this name, for requests that name their cluster in a header.
    #[must_use]
    pub fn cluster(&self, name: &str) -> Option<Arc<ClusterState>> {
        self.clusters.read().unwrap_or_else(PoisonError::into_inner).by_name.get(name)?.load()
    }

    /// All clusters, in no particular order.
    #[must_use]
    pub fn clusters(&self) -> Vec<Arc<ClusterState>> {
        let slots = self.clusters.read().unwrap_or_else(PoisonError::into_inner);
        slots.by_name.values().filter_map(|slot| slot.load()).collect()
    }

    /// Adds a cluster or replaces its configuration; what is known from using it is kept. Endpoints that were set for its
    /// service before are used at once.
    pub fn set_cluster(&self, config: Arc<Cluster>, now: Instant, rng: &mut impl Rng) {
        let mut services = self.services();
        let slot = self.cluster_slot(&config.name);
        let old = slot.load();
        let old_service = old.as_ref().and_then(|old| eds_service(old.config())).cloned();
        let service = eds_service(&config).cloned();
        let state = match old {
            Some(old) => old.reconfigured(config, now, rng),
            None => ClusterState::new(config, now, rng),
        };
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
    }

    /// Removes a cluster. Requests under way on it end as they would have.
    pub fn remove_cluster(&self, name: &ClusterName) {
        let mut services = self.services();
        let slot = self.cluster_slot(name);
        if let Some(old) = slot.load()
            && let Some(service) = eds_service(old.config())
        {
            services.leave(service, &slot);
        }
        slot.store(None);
    }

    /// Sets the endpoints of a service: of every cluster with [`Discovery::Eds`] under this name, now or later.
    pub fn set_endpoints(&self, service_name: &str, assignment: &Arc<LoadAssignment>, rng: &mut impl Rng) {
        let mut services = self.services();
        for state in services.assign(service_name, Some(assignment)).filter_map(|slot| slot.load()) {
            state.set_endpoints(assignment, rng);
        }
    }

    /// Forgets the endpoints of a service: its clusters have none until others are set.
    pub fn remove_endpoints(&self, service_name: &str, rng: &mut impl Rng) {
        let mut services = self.services();
        for state in services.assign(service_name, None).filter_map(|slot| slot.load()) {
            state.set_endpoints(&LoadAssignment::default(), rng);
        }
    }

    /// Sets the endpoints of one cluster to what its names resolved to.
    pub fn set_resolved_endpoints(&self, cluster: &ClusterName, assignment: &LoadAssignment, rng: &mut impl Rng) {
        let _services = self.services();
        if let Some(state) = self.cluster(cluster.as_str()) {
            state.set_endpoints(assignment, rng);
        }
    }

    /// All listeners.
    #[must_use]
    pub fn listeners(&self) -> Arc<ListenerMap> {
        self.listeners.load_full()
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
        let mut listeners = ListenerMap::clone(&self.listeners.load());
        update(&mut listeners);
        self.listeners.store(Arc::new(listeners));
    }

    fn services(&self) -> MutexGuard<'_, Services> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn eds_service(config: &Cluster) -> Option<&Arc<str>> {
    match &config.discovery {
        Discovery::Eds { service_name } => Some(service_name),
        Discovery::Static(_) | Discovery::StrictDns(..) | Discovery::LogicalDns(..) => None,
    }
}
