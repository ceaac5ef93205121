//! What an older form of a route configuration serves and a newer one does not.

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use mesh_core::model::{PathMatcher, Route, RouteConfiguration, RouteMatch, VirtualHost};

/// Virtual hosts and routes that a route configuration lacks, to be served besides its own.
#[derive(Debug, Default)]
pub(super) struct Leftover {
    /// With the domains that nobody else serves.
    hosts: Vec<VirtualHost>,
    /// Of hosts that are still there, by the names of these.
    routes: Vec<(Arc<str>, Vec<Route>)>,
}

impl Leftover {
    /// What `old` serves and `new` does not: domains that no host has, and matches that no route of the host has.
    pub(super) fn of(old: &RouteConfiguration, new: &RouteConfiguration) -> Self {
        let hosts_by_name = by_name(new);
        let lost = old.virtual_hosts.iter().filter_map(|before| {
            let now = hosts_by_name.get(&before.name).filter(|now| **now != before)?;
            Some((Arc::clone(&before.name), unmatched(&before.routes, now)))
        });
        let routes = lost.filter(|(_, routes)| !routes.is_empty()).collect();
        Self { hosts: unserved(&old.virtual_hosts, new), routes }
    }

    /// What of this `new` does not serve either. Routes go with their host.
    pub(super) fn missing_in(&self, new: &RouteConfiguration) -> Self {
        let hosts_by_name = by_name(new);
        let lost = self.routes.iter().filter_map(|(host, routes)| {
            let routes = unmatched(routes, hosts_by_name.get(host)?);
            (!routes.is_empty()).then(|| (Arc::clone(host), routes))
        });
        Self { hosts: unserved(&self.hosts, new), routes: lost.collect() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.hosts.is_empty() && self.routes.is_empty()
    }

    /// Names of the virtual hosts that are concerned.
    pub(super) fn names(&self) -> BTreeSet<Arc<str>> {
        self.hosts.iter().map(|host| &host.name).chain(self.routes.iter().map(|(host, _)| host)).cloned().collect()
    }

    /// Takes what `other` has as well.
    pub(super) fn extend(&mut self, other: Self) {
        self.hosts.extend(other.hosts);
        self.routes.extend(other.routes);
    }

    /// Lets `config` serve this besides its own. Its own routes come first, but for one that would take everything.
    pub(super) fn add_to(&self, config: &mut RouteConfiguration) {
        for (host, routes) in &self.routes {
            if let Some(host) = config.virtual_hosts.iter_mut().find(|known| known.name == *host) {
                let last = host.routes.iter().position(|route| takes_everything(&route.matches));
                let place = last.unwrap_or(host.routes.len());
                host.routes.splice(place..place, routes.iter().cloned());
            }
        }
        config.virtual_hosts.extend(self.hosts.iter().cloned());
    }
}

fn by_name(config: &RouteConfiguration) -> HashMap<&Arc<str>, &VirtualHost> {
    config.virtual_hosts.iter().map(|host| (&host.name, host)).collect()
}

/// `hosts` with those of their domains that `config` does not serve; those that have one.
fn unserved(hosts: &[VirtualHost], config: &RouteConfiguration) -> Vec<VirtualHost> {
    let domains = config.virtual_hosts.iter().flat_map(|host| &host.domains);
    let served: HashSet<String> = domains.map(|domain| domain.to_ascii_lowercase()).collect();
    let left = hosts.iter().filter_map(|host| {
        let free = host.domains.iter().filter(|domain| !served.contains(&domain.to_ascii_lowercase()));
        let domains: Vec<_> = free.cloned().collect();
        (!domains.is_empty()).then(|| VirtualHost { domains, ..host.clone() })
    });
    left.collect()
}

/// Those of `routes` whose match `host` has not.
fn unmatched(routes: &[Route], host: &VirtualHost) -> Vec<Route> {
    let mut matches: HashMap<&str, Vec<&RouteMatch>> = HashMap::new();
    for route in &host.routes {
        matches.entry(path_text(&route.matches.path)).or_default().push(&route.matches);
    }
    let is_matched = |route: &&Route| {
        matches.get(path_text(&route.matches.path)).is_some_and(|known| known.contains(&&route.matches))
    };
    routes.iter().filter(|route| !is_matched(route)).cloned().collect()
}

/// What a path is compared with, whatever the manner: for look-ups.
fn path_text(path: &PathMatcher) -> &str {
    match path {
        PathMatcher::Prefix(text) | PathMatcher::Exact(text) | PathMatcher::PathSeparatedPrefix(text) => text,
        PathMatcher::Regex(regex) => regex.as_str(),
        PathMatcher::Connect => "",
    }
}

fn takes_everything(matches: &RouteMatch) -> bool {
    let RouteMatch { path, case_sensitive: _, headers, query_parameters, grpc, runtime_fraction } = matches;
    let any_path = match path {
        PathMatcher::Prefix(prefix) => matches!(&**prefix, "" | "/"),
        PathMatcher::Regex(regex) => regex.as_str() == ".*",
        PathMatcher::Exact(_) | PathMatcher::PathSeparatedPrefix(_) | PathMatcher::Connect => false,
    };
    any_path && headers.is_empty() && query_parameters.is_empty() && !grpc && runtime_fraction.is_none()
}
