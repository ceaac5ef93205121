//! Route configurations and listeners on the way to the data plane.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use hashbrown::{HashMap, HashSet};
use mesh_core::model::{
    Action, ClusterName, ClusterSpecifier, Listener, RouteConfigName, RouteConfiguration, RouteSource,
};

use super::change::{Change, Slot};
use super::cluster::Clusters;
use crate::client::machine::RESOURCE_TIMEOUT;

/// What is known of route configurations and listeners.
#[derive(Debug, Default)]
pub(super) struct Routes {
    configs: HashMap<RouteConfigName, Slot<RouteConfiguration>>,
    listeners: HashMap<Arc<str>, Slot<Listener>>,
    /// Wanted, and not in force as wanted.
    waiting_configs: BTreeSet<RouteConfigName>,
    waiting_listeners: BTreeSet<Arc<str>>,
    /// In force, and not wanted any more.
    gone_listeners: BTreeSet<Arc<str>>,
    /// Route configurations that the control plane does not have.
    missing: HashSet<RouteConfigName>,
    /// Whether a listener changed since [`Routes::remove_unused`] looked.
    may_be_unused: bool,
}

impl Routes {
    /// Takes a new or changed route configuration.
    pub(super) fn want_config(&mut self, config: Arc<RouteConfiguration>, now: Instant) {
        let name = config.name.clone();
        self.missing.remove(&name);
        self.waiting_configs.insert(name.clone());
        self.may_be_unused = true;
        self.configs.entry(name).or_insert_with(|| Slot::empty(now)).want(config, now + RESOURCE_TIMEOUT);
    }

    /// Takes a new or changed listener.
    pub(super) fn want_listener(&mut self, listener: Arc<Listener>, now: Instant) {
        let name = Arc::clone(&listener.name);
        self.gone_listeners.remove(&name);
        self.waiting_listeners.insert(Arc::clone(&name));
        self.listeners.entry(name).or_insert_with(|| Slot::empty(now)).want(listener, now + RESOURCE_TIMEOUT);
    }

    /// A listener that the control plane no longer has.
    pub(super) fn unwant_listener(&mut self, name: &Arc<str>) {
        self.may_be_unused = true;
        self.waiting_listeners.remove(name);
        let Some(slot) = self.listeners.get_mut(name) else { return };
        slot.wanted = None;
        if slot.in_force.is_some() {
            self.gone_listeners.insert(Arc::clone(name));
        } else {
            self.listeners.remove(name);
        }
    }

    /// A route configuration that does not exist: nothing waits for it.
    pub(super) fn set_missing(&mut self, name: RouteConfigName) {
        self.missing.insert(name);
    }

    /// Puts in force what has all it needs or has waited long enough.
    pub(super) fn settle(
        &mut self,
        clusters: &mut Clusters,
        by_name: bool,
        now: Instant,
        changes: &mut VecDeque<Change>,
    ) {
        let is_ready = |clusters: &Clusters, config: &RouteConfiguration, until: Instant| {
            until <= now || cluster_names(config).iter().all(|name| clusters.is_settled(name, by_name))
        };
        let configs = &mut self.configs;
        self.waiting_configs.retain(|name| {
            let Some(slot) = configs.get_mut(name) else { return false };
            let Some(config) = slot.wanted.clone() else { return false };
            if !is_ready(clusters, &config, slot.until) {
                return true;
            }
            clusters.add_users(&cluster_names(&config));
            if let Some(old) = slot.in_force.replace(Arc::clone(&config)) {
                clusters.remove_users(&cluster_names(&old));
            }
            changes.push_back(Change::SetRoutes(config));
            false
        });
        let (configs, listeners, missing) = (&self.configs, &mut self.listeners, &self.missing);
        let may_be_unused = &mut self.may_be_unused;
        self.waiting_listeners.retain(|name| {
            let Some(slot) = listeners.get_mut(name) else { return false };
            let Some(listener) = slot.wanted.clone() else { return false };
            let is_ready = listener.http_connection_managers().all(|http| match &http.routes {
                RouteSource::Inline(config) => is_ready(clusters, config, slot.until),
                RouteSource::Rds(name) => {
                    slot.until <= now
                        || missing.contains(name)
                        || configs.get(name).is_some_and(|config| config.in_force.is_some())
                }
            });
            if is_ready {
                add_inline_users(clusters, &listener);
                if let Some(old) = slot.in_force.replace(Arc::clone(&listener)) {
                    remove_inline_users(clusters, &old);
                }
                changes.push_back(Change::SetListener(listener));
                *may_be_unused = true;
            }
            !is_ready
        });
    }

    /// Removes listeners that are not wanted, then route configurations that no listener names.
    pub(super) fn remove_unused(&mut self, clusters: &mut Clusters, changes: &mut VecDeque<Change>) {
        if !std::mem::take(&mut self.may_be_unused) {
            return;
        }
        for name in std::mem::take(&mut self.gone_listeners) {
            if let Some(old) = self.listeners.remove(&name).and_then(|slot| slot.in_force) {
                remove_inline_users(clusters, &old);
                changes.push_back(Change::RemoveListener(name));
            }
        }
        let slots = self.listeners.values().flat_map(|slot| [&slot.wanted, &slot.in_force]).flatten();
        let named: HashSet<&RouteConfigName> = slots.flat_map(|listener| route_names(listener)).collect();
        for (name, slot) in self.configs.extract_if(|name, _| !named.contains(name)) {
            self.waiting_configs.remove(&name);
            if let Some(old) = slot.in_force {
                clusters.remove_users(&cluster_names(&old));
                changes.push_back(Change::RemoveRoutes(name));
            }
        }
    }

    /// Names of the route configurations of all wanted listeners.
    pub(super) fn route_interest(&mut self) -> BTreeSet<Arc<str>> {
        let wanted = self.listeners.values().filter_map(|slot| slot.wanted.as_deref());
        let names: BTreeSet<Arc<str>> = wanted.flat_map(route_names).map(|name| name.as_str().into()).collect();
        self.missing.retain(|name| names.contains(name.as_str()));
        names
    }

    /// Names of the clusters that wanted route configurations and listeners name.
    pub(super) fn cluster_interest(&self) -> BTreeSet<Arc<str>> {
        let configs = self.configs.values().filter_map(|slot| slot.wanted.as_deref());
        let inline = self.listeners.values().filter_map(|slot| slot.wanted.as_deref()).flat_map(inline_routes);
        configs.chain(inline).flat_map(cluster_names).map(|name| name.as_str().into()).collect()
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
}

fn add_inline_users(clusters: &mut Clusters, listener: &Listener) {
    for config in inline_routes(listener) {
        clusters.add_users(&cluster_names(config));
    }
}

fn remove_inline_users(clusters: &mut Clusters, listener: &Listener) {
    for config in inline_routes(listener) {
        clusters.remove_users(&cluster_names(config));
    }
}

fn inline_routes(listener: &Listener) -> impl Iterator<Item = &RouteConfiguration> {
    listener.http_connection_managers().filter_map(|http| match &http.routes {
        RouteSource::Inline(config) => Some(&**config),
        RouteSource::Rds(_) => None,
    })
}

fn route_names(listener: &Listener) -> impl Iterator<Item = &RouteConfigName> {
    listener.http_connection_managers().filter_map(|http| match &http.routes {
        RouteSource::Inline(_) => None,
        RouteSource::Rds(name) => Some(name),
    })
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
