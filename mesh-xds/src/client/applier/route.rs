//! Route configurations and listeners on the way to the data plane.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use hashbrown::{HashMap, HashSet};
use mesh_core::model::{
    Action, ClusterName, ClusterSpecifier, Listener, ListenerAddress, NetworkFilter, RouteConfigName,
    RouteConfiguration, RouteSource,
};

use super::change::{Change, Slot};
use super::cluster::Clusters;
use crate::client::machine::RESOURCE_TIMEOUT;

/// The state of route configurations and listeners.
#[expect(clippy::struct_excessive_bools, reason = "one for each thing that may have changed")]
#[derive(Debug, Default)]
pub(super) struct Routes {
    configs: HashMap<RouteConfigName, Slot<RouteConfiguration>>,
    listeners: HashMap<Arc<str>, Slot<Listener>>,
    /// Wanted, and not yet in force.
    waiting_configs: BTreeSet<RouteConfigName>,
    waiting_listeners: BTreeSet<Arc<str>>,
    /// In force, and no longer wanted.
    gone_listeners: BTreeSet<Arc<str>>,
    /// Route configurations that the control plane does not have.
    missing: HashSet<RouteConfigName>,
    /// Names of the API listeners in use; `None` = all are used.
    used: Option<BTreeSet<Arc<str>>>,
    /// Whether a listener changed since [`Routes::remove_unused`] looked.
    may_be_unused: bool,
    /// Whether other route configurations may be named than when [`Routes::route_interest`] looked.
    is_route_interest_stale: bool,
    /// Whether other clusters may be named than when [`Routes::cluster_interest`] looked.
    is_cluster_interest_stale: bool,
    /// Whether other secrets may be named than when [`Routes::take_secrets_stale`] was called.
    are_secrets_stale: bool,
}

impl Routes {
    /// Handles a new or changed route configuration.
    pub(super) fn want_config(&mut self, config: Arc<RouteConfiguration>, now: Instant) {
        let name = config.name.clone();
        self.missing.remove(&name);
        self.waiting_configs.insert(name.clone());
        self.may_be_unused = true;
        self.is_cluster_interest_stale = true;
        self.configs.entry(name).or_insert_with(|| Slot::empty(now)).want(config, now + RESOURCE_TIMEOUT);
    }

    /// Handles a new or changed listener.
    pub(super) fn want_listener(&mut self, listener: Arc<Listener>, now: Instant) {
        let name = Arc::clone(&listener.name);
        self.gone_listeners.remove(&name);
        self.waiting_listeners.insert(Arc::clone(&name));
        self.note_listener_change();
        self.listeners.entry(name).or_insert_with(|| Slot::empty(now)).want(listener, now + RESOURCE_TIMEOUT);
    }

    /// Handles a listener that the control plane no longer has, or that is no longer requested.
    pub(super) fn unwant_listener(&mut self, name: &Arc<str>) {
        self.waiting_listeners.remove(name);
        self.note_listener_change();
        let Some(slot) = self.listeners.get_mut(name) else { return };
        slot.wanted = None;
        if slot.in_force.is_some() {
            self.gone_listeners.insert(Arc::clone(name));
        } else {
            self.listeners.remove(name);
        }
    }

    /// Changes which API listeners are used. Of the others neither routes nor clusters are wanted.
    pub(super) fn set_used(&mut self, names: BTreeSet<Arc<str>>) {
        self.used = Some(names);
        self.note_listener_change();
    }

    /// Handles a route configuration that does not exist: nothing waits for it.
    pub(super) fn set_missing(&mut self, name: RouteConfigName) {
        self.missing.insert(name);
    }

    /// Puts into force the resources that are complete or have waited long enough.
    pub(super) fn settle(&mut self, clusters: &mut Clusters, now: Instant, changes: &mut VecDeque<Change>) {
        self.settle_configs(clusters, now, changes);
        self.settle_listeners(clusters, now, changes);
    }

    fn settle_configs(&mut self, clusters: &mut Clusters, now: Instant, changes: &mut VecDeque<Change>) {
        let Self { configs, is_cluster_interest_stale, .. } = self;
        self.waiting_configs.retain(|name| {
            let Some(slot) = configs.get_mut(name) else { return false };
            let Some(config) = slot.wanted.clone() else { return false };
            let names = cluster_names(&config);
            if slot.until > now && !clusters.are_settled(&names) {
                return true;
            }
            clusters.add_users(&names);
            if let Some(old) = slot.in_force.replace(Arc::clone(&config)) {
                clusters.remove_users(&cluster_names(&old));
                *is_cluster_interest_stale = true;
            }
            changes.push_back(Change::SetRoutes(config));
            false
        });
    }

    fn settle_listeners(&mut self, clusters: &mut Clusters, now: Instant, changes: &mut VecDeque<Change>) {
        let (configs, used, missing) = (&self.configs, &self.used, &self.missing);
        let has_routes = |name: &RouteConfigName| {
            missing.contains(name) || configs.get(name).is_some_and(|config| config.in_force.is_some())
        };
        let mut have_changed = false;
        self.waiting_listeners.retain(|name| {
            let Some(slot) = self.listeners.get_mut(name) else { return false };
            let Some(listener) = slot.wanted.clone() else { return false };
            let names = own_cluster_names(&listener);
            let is_ready = slot.until <= now
                || !is_used(&listener, used.as_ref())
                || (clusters.are_settled(&names) && route_names(&listener).all(has_routes));
            if is_ready {
                clusters.add_users(&names);
                if let Some(old) = slot.in_force.replace(Arc::clone(&listener)) {
                    clusters.remove_users(&own_cluster_names(&old));
                }
                changes.push_back(Change::SetListener(listener));
                have_changed = true;
            }
            !is_ready
        });
        if have_changed {
            self.note_listener_change();
        }
    }

    /// Removes listeners that are not wanted, then route configurations that no used listener names.
    pub(super) fn remove_unused(&mut self, clusters: &mut Clusters, changes: &mut VecDeque<Change>) {
        if !std::mem::take(&mut self.may_be_unused) {
            return;
        }
        for name in std::mem::take(&mut self.gone_listeners) {
            if let Some(old) = self.listeners.remove(&name).and_then(|slot| slot.in_force) {
                clusters.remove_users(&own_cluster_names(&old));
                changes.push_back(Change::RemoveListener(name));
            }
        }
        let used = used_listeners(&self.listeners, self.used.as_ref());
        let named: HashSet<&RouteConfigName> = used.flat_map(route_names).collect();
        for (name, slot) in self.configs.extract_if(|name, _| !named.contains(name)) {
            self.waiting_configs.remove(&name);
            self.is_cluster_interest_stale = true;
            if let Some(old) = slot.in_force {
                clusters.remove_users(&cluster_names(&old));
                changes.push_back(Change::RemoveRoutes(name));
            }
        }
    }

    /// Names of the route configurations of all used listeners, wanted and in force, if they may have changed.
    pub(super) fn route_interest(&mut self) -> Option<BTreeSet<Arc<str>>> {
        if !std::mem::take(&mut self.is_route_interest_stale) {
            return None;
        }
        let used = used_listeners(&self.listeners, self.used.as_ref());
        let names: BTreeSet<Arc<str>> = used.flat_map(route_names).map(|name| name.as_str().into()).collect();
        self.missing.retain(|name| names.contains(name.as_str()));
        Some(names)
    }

    /// Names of the clusters of route configurations and used listeners, wanted and in force, if they may have changed.
    pub(super) fn cluster_interest(&mut self) -> Option<BTreeSet<ClusterName>> {
        if !std::mem::take(&mut self.is_cluster_interest_stale) {
            return None;
        }
        let configs = self.configs.values().flat_map(Slot::both).flat_map(|config| cluster_names(config));
        let own = used_listeners(&self.listeners, self.used.as_ref()).flat_map(own_cluster_names);
        Some(configs.chain(own).collect())
    }

    /// Handles that aggregates may name other clusters.
    pub(super) fn note_aggregates(&mut self) {
        self.is_cluster_interest_stale = true;
    }

    /// Whether listeners may name other secrets than when this was last called.
    pub(super) fn take_secrets_stale(&mut self) -> bool {
        std::mem::take(&mut self.are_secrets_stale)
    }

    /// The secrets that used listeners name, as they are wanted and as they are in force.
    pub(super) fn secret_names(&self) -> impl Iterator<Item = &Arc<str>> {
        used_listeners(&self.listeners, self.used.as_ref()).flat_map(Listener::secret_names)
    }

    /// How many listeners wait for routes or clusters.
    pub(super) fn waiting_listeners(&self) -> usize {
        self.waiting_listeners.len()
    }

    /// Whether nothing waits.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting_configs.is_empty() && self.waiting_listeners.is_empty()
    }

    /// When something has waited long enough.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let configs = self.waiting_configs.iter().filter_map(|name| self.configs.get(name)).map(|slot| slot.until);
        let listeners = self.waiting_listeners.iter().filter_map(|name| self.listeners.get(name));
        configs.chain(listeners.map(|slot| slot.until)).min()
    }

    fn note_listener_change(&mut self) {
        self.may_be_unused = true;
        self.is_route_interest_stale = true;
        self.is_cluster_interest_stale = true;
        self.are_secrets_stale = true;
    }
}

/// Listeners that are used, as they are wanted and as they are in force.
fn used_listeners<'a>(
    listeners: &'a HashMap<Arc<str>, Slot<Listener>>,
    used: Option<&'a BTreeSet<Arc<str>>>,
) -> impl Iterator<Item = &'a Listener> {
    listeners.values().flat_map(Slot::both).map(|listener| &**listener).filter(move |listener| is_used(listener, used))
}

/// Whether requests may come in by the listener: sockets are always used.
fn is_used(listener: &Listener, used: Option<&BTreeSet<Arc<str>>>) -> bool {
    listener.address != ListenerAddress::Api || used.is_none_or(|names| names.contains(&listener.name))
}

fn route_names(listener: &Listener) -> impl Iterator<Item = &RouteConfigName> {
    listener.http_connection_managers().filter_map(|http| match &http.routes {
        RouteSource::Inline(_) => None,
        RouteSource::Rds(name) => Some(name),
    })
}

/// The clusters that a listener names itself: in routes that are part of it, in its filters, and for TCP connections.
fn own_cluster_names(listener: &Listener) -> BTreeSet<ClusterName> {
    let mut names = BTreeSet::new();
    for filter in listener.all_filter_chains().flat_map(|chain| &chain.filters) {
        match filter {
            NetworkFilter::HttpConnectionManager(http) => {
                if let RouteSource::Inline(config) = &http.routes {
                    names.extend(cluster_names(config));
                }
                let of_filters = http.http_filters.iter().flat_map(|filter| filter.config.clusters());
                names.extend(of_filters.map(|cluster| cluster.name.clone()));
            }
            NetworkFilter::TcpProxy(proxy) => {
                names.extend(proxy.clusters.iter().map(|cluster| cluster.name.clone()));
            }
            NetworkFilter::ExtAuthz(filter) => {
                names.extend(filter.clusters().into_iter().map(|cluster| cluster.name.clone()));
            }
            NetworkFilter::Rbac(_) | NetworkFilter::DirectResponse(_) | NetworkFilter::Echo => {}
        }
    }
    names
}

/// Every cluster that a route may choose, except those that a request names.
fn cluster_names(config: &RouteConfiguration) -> BTreeSet<ClusterName> {
    let mut names = BTreeSet::new();
    for route in config.virtual_hosts.iter().flat_map(|host| &host.routes) {
        let Action::Route(action) = &route.action else { continue };
        match &action.cluster {
            ClusterSpecifier::Cluster(name) => {
                names.insert(name.clone());
            }
            ClusterSpecifier::Weighted(split) => {
                names.extend(split.clusters.iter().map(|cluster| cluster.name.clone()));
            }
            ClusterSpecifier::ClusterHeader(_) => {}
        }
    }
    names
}
