//! What became of the resources that a client has received, for operators.
//!
//! The [`Agent`](super::Agent) records every outcome here, once. The admin endpoint and the metrics read it: which version of
//! a resource was accepted last and when, and which one was refused since, and why.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use prost_types::Any;

use super::machine::Rejected;
use super::notice::{ApplyReport, Notice};
use crate::resource::{ResourceError, ResourceType};

/// The outcomes of one client. It is written by one agent and read by any number of threads.
#[derive(Debug, Default)]
pub struct ClientStatus(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    types: [TypeStatus; ResourceType::ALL.len()],
    /// Resources that were accepted since everything was last in force, with their predecessors, which stay in force if a
    /// successor cannot be applied.
    pending: BTreeMap<(ResourceType, Arc<str>), Option<Accepted>>,
    good_at: Option<SystemTime>,
    is_connected: bool,
    waiting: Waiting,
}

/// Numbers of accepted resources that wait for others before they come into force. Envoy calls them warming.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Waiting {
    /// Clusters that wait for endpoints.
    pub clusters: usize,
    /// Listeners that wait for routes or clusters.
    pub listeners: usize,
}

/// The outcomes for one type of resource.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct TypeStatus {
    /// Counts of responses.
    pub updates: Updates,
    /// The resources by name. A refused resource whose name could not be read has an empty one.
    pub resources: BTreeMap<Arc<str>, ResourceStatus>,
}

/// The outcomes for one resource.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ResourceStatus {
    /// The version that was accepted last; `None` if there is none.
    pub accepted: Option<Accepted>,
    /// The last version, if it was refused. `None` as soon as a version is accepted.
    pub failure: Option<Failure>,
    /// Counts of the versions of this resource; for route configurations only, as in Envoy.
    pub updates: Option<Box<Updates>>,
}

/// An accepted resource.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Accepted {
    /// The version of the response that brought it.
    pub version: Arc<str>,
    /// When it was accepted.
    pub at: SystemTime,
    /// The resource as it was received.
    pub resource: Arc<Any>,
}

/// A refused resource. Envoy `admin.v3.UpdateFailureState`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Failure {
    /// The version of the response that brought it.
    pub version: Arc<str>,
    /// When it was refused.
    pub at: SystemTime,
    /// The field and the reason.
    pub details: String,
    /// The resource as it was received, if it is known.
    pub resource: Option<Arc<Any>>,
}

/// Counts of updates. Envoy's statistics of subscriptions, under the same names.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Updates {
    /// Updates received.
    pub attempt: u64,
    /// Updates accepted.
    pub success: u64,
    /// Updates refused, at least in part.
    pub rejected: u64,
    /// Connections that ended or could not be made.
    pub failure: u64,
    /// Updates that have changed the configuration. Envoy `config_reload`.
    pub reload: u64,
    /// When the configuration was last changed. Envoy `config_reload_time_ms`.
    pub reloaded_at: Option<SystemTime>,
    /// When an update was last accepted. Envoy `update_time`.
    pub success_at: Option<SystemTime>,
    /// The version of the last accepted update.
    pub version: Arc<str>,
}

/// A refused resource and its type, for messages.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Refused {
    /// The type of resource.
    pub resource_type: ResourceType,
    /// Its name; empty if it could not be read.
    pub name: Arc<str>,
    /// The refusal.
    pub failure: Failure,
    /// When the version that stays in force was accepted; `None` if there is none.
    pub accepted_at: Option<SystemTime>,
}

impl ClientStatus {
    /// The outcomes for a type of resource.
    #[must_use]
    pub fn of_type(&self, resource_type: ResourceType) -> TypeStatus {
        self.lock().types[resource_type as usize].clone()
    }

    /// All resources whose last version was refused, by type and name.
    #[must_use]
    pub fn refused(&self) -> Vec<Refused> {
        let state = self.lock();
        let of_type = |resource_type: ResourceType| {
            let resources = state.types[resource_type as usize].resources.iter();
            resources.filter_map(move |(name, status)| {
                let (name, failure) = (Arc::clone(name), status.failure.clone()?);
                let accepted_at = status.accepted.as_ref().map(|accepted| accepted.at);
                Some(Refused { resource_type, name, failure, accepted_at })
            })
        };
        ResourceType::ALL.into_iter().flat_map(of_type).collect()
    }

    /// When everything was last in force, without a refused resource.
    #[must_use]
    pub fn last_good(&self) -> Option<SystemTime> {
        self.lock().good_at
    }

    /// Whether there is a stream to the control plane. Envoy `control_plane.connected_state`.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.lock().is_connected
    }

    /// The accepted resources that are not in force yet.
    #[must_use]
    pub fn waiting(&self) -> Waiting {
        self.lock().waiting
    }

    pub(super) fn set_waiting(&self, waiting: Waiting) {
        self.lock().waiting = waiting;
    }

    /// Sets all counts to 0, for Envoy's `/reset_counters`.
    pub fn reset_counters(&self) {
        for of_type in &mut self.lock().types {
            of_type.updates.reset();
            of_type.resources.values_mut().filter_map(|status| status.updates.as_mut()).for_each(|it| it.reset());
        }
    }

    /// Records an outcome. `received` yields the accepted resource of a name.
    pub(super) fn record<'a>(
        &self,
        notice: &Notice,
        received: impl Fn(ResourceType, &str) -> Option<&'a Arc<Any>>,
        at: SystemTime,
    ) {
        let mut state = self.lock();
        match notice {
            Notice::Applied(report) => state.record(report, received, at),
            Notice::NotApplied(error) => state.restore(error, at),
            Notice::Unsubscribed { resource_type, names } => {
                let resources = &mut state.types[*resource_type as usize].resources;
                names.iter().for_each(|name| drop(resources.remove(name)));
            }
            Notice::Settled => state.settle(at),
            Notice::Disconnected(_) => {
                state.is_connected = false;
                state.types.iter_mut().for_each(|of_type| of_type.updates.failure += 1);
            }
            Notice::Connected => state.is_connected = true,
            Notice::Missing { .. } => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn record<'a>(
        &mut self,
        report: &ApplyReport,
        received: impl Fn(ResourceType, &str) -> Option<&'a Arc<Any>>,
        at: SystemTime,
    ) {
        let ApplyReport { resource_type, version, accepted, removed, rejected, .. } = report;
        let TypeStatus { updates, resources } = &mut self.types[*resource_type as usize];
        let is_change = !accepted.is_empty() || !removed.is_empty();
        updates.count(version, rejected.is_empty(), is_change, at);
        removed.iter().for_each(|name| drop(resources.remove(name)));
        if resource_type.is_whole() {
            // Resources that are still refused are in every response.
            resources.retain(|_, status| {
                status.failure = None;
                status.accepted.is_some()
            });
        }
        let is_counted = *resource_type == ResourceType::RouteConfiguration;
        for name in accepted {
            let Some(resource) = received(*resource_type, name) else { continue };
            let status = resources.entry(Arc::clone(name)).or_default();
            let (version, resource) = (Arc::clone(version), Arc::clone(resource));
            let before = status.accepted.replace(Accepted { version, at, resource });
            self.pending.entry((*resource_type, Arc::clone(name))).or_insert(before);
            status.failure = None;
            if is_counted {
                status.updates.get_or_insert_default().count(&report.version, true, true, at);
            }
        }
        for Rejected { error, resource } in rejected {
            let status = resources.entry(error.name.as_str().into()).or_default();
            let (version, resource) = (Arc::clone(version), Some(Arc::clone(resource)));
            status.failure = Some(Failure { version, at, details: error.error.to_string(), resource });
            if is_counted {
                status.updates.get_or_insert_default().count(&report.version, false, false, at);
            }
        }
    }

    /// Records that all accepted resources are in force.
    fn settle(&mut self, at: SystemTime) {
        self.pending.clear();
        let mut resources = self.types.iter().flat_map(|of_type| of_type.resources.values());
        if resources.all(|status| status.failure.is_none()) {
            self.good_at = Some(at);
        }
    }

    /// Records that an accepted resource could not be put into force: its predecessor stays.
    fn restore(&mut self, error: &ResourceError, at: SystemTime) {
        let kind = ResourceType::ALL.into_iter().find(|kind| kind.to_string() == error.kind);
        let Some(resource_type) = kind else { return };
        let name: Arc<str> = error.name.as_str().into();
        let of_type = &mut self.types[resource_type as usize];
        of_type.updates.rejected += 1;
        let status = of_type.resources.entry(Arc::clone(&name)).or_default();
        if let Some(updates) = &mut status.updates {
            updates.rejected += 1;
        }
        let predecessor = self.pending.remove(&(resource_type, name)).flatten();
        let failed = std::mem::replace(&mut status.accepted, predecessor);
        let version = failed.as_ref().map(|failed| Arc::clone(&failed.version)).unwrap_or_default();
        let resource = failed.map(|failed| failed.resource);
        status.failure = Some(Failure { version, at, details: error.error.to_string(), resource });
    }
}

impl Updates {
    fn count(&mut self, version: &Arc<str>, is_accepted: bool, is_change: bool, at: SystemTime) {
        self.attempt += 1;
        if is_change {
            self.reload += 1;
            self.reloaded_at = Some(at);
        }
        if is_accepted {
            self.success += 1;
            self.success_at = Some(at);
            self.version = Arc::clone(version);
        } else {
            self.rejected += 1;
        }
    }

    fn reset(&mut self) {
        (self.attempt, self.success, self.rejected, self.failure, self.reload) = (0, 0, 0, 0, 0);
    }
}

#[cfg(test)]
mod tests;
