//! Routes that leave a route configuration while listeners come or change.
//!
//! Listeners share route configurations, and hosts move from one to another: of two Gateways on a port, one moves to a
//! port of its own. Its hosts then leave the routes of the shared port, but whether the new one can listen is not known
//! before somebody has tried, and if it cannot, they must go on where they were. So what leaves with a change of
//! listeners stays until they were tried: if all listen, it goes; if one does not, it is kept until every listener
//! does. What the new routes serve themselves is theirs at once.
//!
//! Only a data plane that tells of its listeners ([`ListenerReport`]) is waited for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use hashbrown::HashMap;
use mesh_core::model::{Listener, RouteConfigName, RouteConfiguration};
use mesh_core::store::ListenerMap;

use super::leftover::Leftover;

/// What a data plane with sockets of its own tells of its listeners, after it has brought them up or tried to.
#[derive(Clone, Debug, Default)]
pub struct ListenerReport {
    /// The listeners as they were wanted when they were tried.
    pub tried: Arc<ListenerMap>,
    /// Those that are not as they were wanted: a port is in use.
    pub failed: BTreeSet<Arc<str>>,
}

/// Routes that go on without being wanted, because a listener that came with the change does not listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptRoutes {
    /// Their route configuration.
    pub route_configuration: RouteConfigName,
    /// Names of the virtual hosts that are as they were, or have routes that they had.
    pub virtual_hosts: BTreeSet<Arc<str>>,
}

impl fmt::Display for KeptRoutes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.virtual_hosts.iter().map(|name| &**name).collect();
        write!(f, "route configuration {}: routes of {} ", self.route_configuration, names.join(", "))?;
        f.write_str("are not wanted any more, but go on until all listeners listen")
    }
}

/// The routes that are about to leave, and the listeners that decide about them.
#[derive(Debug, Default)]
pub(super) struct MovingRoutes {
    /// Listeners in force of which nobody has told yet.
    untried: HashMap<Arc<str>, Arc<Listener>>,
    /// Whether a listener has failed that was untried when routes were last decided about.
    has_failed: bool,
    leaving: BTreeMap<RouteConfigName, Leaving>,
}

/// What has left the wanted form of one route configuration.
#[derive(Debug, Default)]
struct Leaving {
    /// While listeners were not all tried.
    undecided: Leftover,
    /// With a listener that failed.
    kept: Leftover,
}

impl MovingRoutes {
    /// A listener went into force and has yet to be tried.
    pub(super) fn add_listener(&mut self, listener: &Arc<Listener>) {
        self.untried.insert(Arc::clone(&listener.name), Arc::clone(listener));
    }

    /// A listener is not wanted any more, tried or not.
    pub(super) fn remove_listener(&mut self, name: &str) {
        self.untried.remove(name);
    }

    /// Routes are replaced. What leaves with that stays for now if listeners `wait` to go into force, or to be tried.
    pub(super) fn replace(&mut self, old: &RouteConfiguration, new: &RouteConfiguration, wait: bool) {
        let are_moving = wait || !self.untried.is_empty();
        let before = self.leaving.remove(&new.name);
        if before.is_none() && !are_moving {
            return;
        }
        let before = before.unwrap_or_default();
        let mut leaving = Leaving { undecided: before.undecided.missing_in(new), kept: before.kept.missing_in(new) };
        if are_moving {
            leaving.undecided.extend(Leftover::of(old, new));
        }
        if !leaving.is_empty() {
            self.leaving.insert(new.name.clone(), leaving);
        }
    }

    /// A route configuration is no more.
    pub(super) fn remove_routes(&mut self, name: &RouteConfigName) {
        self.leaving.remove(name);
    }

    /// `routes` with what has not left yet.
    pub(super) fn added_to(&self, routes: Arc<RouteConfiguration>) -> Arc<RouteConfiguration> {
        let Some(Leaving { undecided, kept }) = self.leaving.get(&routes.name) else { return routes };
        let mut routes = Arc::unwrap_or_clone(routes);
        kept.add_to(&mut routes);
        undecided.add_to(&mut routes);
        Arc::new(routes)
    }

    /// Notes which listeners were tried. Once all were, and none `wait` to go into force, that decides about the routes that
    /// left with them. Yields the route configurations that have less from now on, and what is kept.
    pub(super) fn handle_report(
        &mut self,
        report: &ListenerReport,
        wait: bool,
    ) -> (Vec<RouteConfigName>, Vec<KeptRoutes>) {
        let was_tried = |name: &Arc<str>, listener: &mut Arc<Listener>| report.tried.get(name) == Some(listener);
        for (name, _) in self.untried.extract_if(was_tried) {
            self.has_failed |= report.failed.contains(&name);
        }
        let (mut fewer, mut kept) = (Vec::new(), Vec::new());
        if wait || !self.untried.is_empty() {
            return (fewer, kept);
        }
        let has_failed = std::mem::take(&mut self.has_failed);
        self.leaving.retain(|name, leaving| {
            let undecided = std::mem::take(&mut leaving.undecided);
            if report.failed.is_empty() {
                fewer.push(name.clone());
                return false;
            }
            if !undecided.is_empty() && has_failed {
                kept.push(KeptRoutes { route_configuration: name.clone(), virtual_hosts: undecided.names() });
                leaving.kept.extend(undecided);
            } else if !undecided.is_empty() {
                fewer.push(name.clone());
            }
            !leaving.is_empty()
        });
        (fewer, kept)
    }
}

impl Leaving {
    fn is_empty(&self) -> bool {
        self.undecided.is_empty() && self.kept.is_empty()
    }
}
