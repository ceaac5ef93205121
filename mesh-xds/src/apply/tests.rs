//! Routes that leave while listeners come: what is in force after each step.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;
use mesh_core::model::{
    Action, DirectResponse, HttpConnectionManager, Listener, PathMatcher, Route, RouteConfiguration, RouteMatch,
    RouteSource, VirtualHost,
};
use mesh_core::rng::{Rng as _, SplitMix64};

use super::*;
use crate::ads::Update;
use crate::resource::{Decoded, Resource, ResourceType};

/// The applier, and what its changes have led to.
struct Plane {
    applier: Applier,
    listeners: BTreeMap<Arc<str>, Arc<Listener>>,
    routes: BTreeMap<String, String>,
}

impl Plane {
    fn new() -> Self {
        let applier = Applier::with_all_clusters().with_listener_reports();
        Self { applier, listeners: BTreeMap::new(), routes: BTreeMap::new() }
    }

    /// Takes all the listeners there are: `NAME` has the routes `r-NAME`.
    fn listeners(&mut self, names: &[&str]) {
        let now = Instant::now();
        let removed = self.listeners.keys().filter(|name| !names.contains(&&***name)).cloned().collect();
        let new = names.iter().filter(|name| !self.listeners.contains_key(**name));
        let accepted = new.map(|name| Resource::Listener(listener(name))).collect();
        self.update(ResourceType::Listener, accepted, removed, now);
    }

    /// Takes routes: `NAME` with hosts, each with the paths of its routes.
    fn routes(&mut self, name: &str, hosts: &[(&str, &[&str])]) {
        let config = Arc::new(RouteConfiguration::new(name, hosts.iter().map(virtual_host).collect()));
        self.update(
            ResourceType::RouteConfiguration,
            vec![Resource::RouteConfiguration(config)],
            Vec::new(),
            Instant::now(),
        );
    }

    fn update(&mut self, resource_type: ResourceType, accepted: Vec<Resource>, removed: Vec<Arc<str>>, now: Instant) {
        let accepted = accepted.into_iter().map(|resource| Decoded { resource, ignored: Vec::new() }).collect();
        let update = Update { resource_type, version: "".into(), accepted, removed, rejected: Vec::new() };
        self.applier.handle_update(update, now);
        self.take_changes();
    }

    /// All listeners in force are tried, and these fail; yields what is kept for that.
    fn tried(&mut self, failed: &[&str]) -> Vec<String> {
        let tried = Arc::new(self.listeners.clone());
        let failed: BTreeSet<Arc<str>> = failed.iter().map(|name| Arc::from(*name)).collect();
        let kept = self.applier.handle_listeners(&ListenerReport { tried, failed });
        self.take_changes();
        kept.iter().map(|kept| format!("{} {:?}", kept.route_configuration, kept.virtual_hosts)).collect()
    }

    fn take_changes(&mut self) {
        while let Some(change) = self.applier.poll_change() {
            match change {
                Change::SetRoutes(config) => {
                    self.routes.insert(config.name.to_string(), text(&config));
                }
                Change::SetListener(listener) => {
                    self.listeners.insert(Arc::clone(&listener.name), listener);
                }
                Change::RemoveListener(name) => {
                    self.listeners.remove(&name);
                }
                Change::RemoveRoutes(name) => {
                    self.routes.remove(name.as_str());
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// A shared listener with the hosts `a` and `b`, which listens.
    fn shared() -> Self {
        let mut plane = Self::new();
        plane.listeners(&["shared"]);
        plane.routes("r-shared", &[("a", &["/"]), ("b", &["/"])]);
        assert!(plane.tried(&[]).is_empty());
        plane
    }

    /// [`Plane::shared`] while `b` moves to a listener of its own, which nobody has tried.
    fn moving() -> Self {
        let mut plane = Self::shared();
        plane.listeners(&["shared", "own"]);
        plane.routes("r-shared", &[("a", &["/"])]);
        assert_eq!(plane.routes["r-shared"], "a: /; b: /", "the other waits for its routes");
        plane.routes("r-own", &[("b", &["/"])]);
        assert!(plane.listeners.contains_key("own"));
        assert_eq!(plane.routes["r-shared"], "a: /; b: /", "nobody has tried");
        plane
    }
}

fn listener(name: &str) -> Arc<Listener> {
    let routes = RouteSource::Rds(format!("r-{name}").as_str().into());
    Arc::new(Listener::http(name, ([127, 0, 0, 1], 0).into(), HttpConnectionManager::new(name, routes)))
}

fn virtual_host(&(name, paths): &(&str, &[&str])) -> VirtualHost {
    let answer = || Action::DirectResponse(DirectResponse { status: StatusCode::OK, body: Bytes::new() });
    let route = |path: &&str| Route::new(RouteMatch::path(PathMatcher::Prefix((*path).into())), answer());
    let host = VirtualHost::new(name, paths.iter().map(route).collect());
    VirtualHost { domains: vec![name.into()], ..host }
}

fn text(config: &RouteConfiguration) -> String {
    let host = |host: &VirtualHost| {
        let paths = host.routes.iter().map(|route| match &route.matches.path {
            PathMatcher::Prefix(path) => &**path,
            other => panic!("{other:?}"),
        });
        format!("{}: {}", host.domains.join(","), paths.collect::<Vec<_>>().join(" "))
    };
    config.virtual_hosts.iter().map(host).collect::<Vec<_>>().join("; ")
}

#[test]
fn a_host_leaves_a_listener_when_the_other_listens() {
    let mut plane = Plane::moving();
    assert!(plane.tried(&[]).is_empty());
    assert_eq!(plane.routes["r-shared"], "a: /");
}

#[test]
fn a_host_stays_until_a_listener_that_failed_listens() {
    let mut plane = Plane::moving();
    assert_eq!(plane.tried(&["own"]), ["r-shared {\"b\"}"]);
    assert!(plane.tried(&["own"]).is_empty(), "told once");
    plane.routes("r-shared", &[("a", &["/new", "/"]), ("c", &["/"])]);
    assert_eq!(plane.routes["r-shared"], "a: /new /; c: /; b: /", "other changes are obeyed");
    plane.routes("r-shared", &[("a", &["/"])]);
    assert_eq!(plane.routes["r-shared"], "a: /; b: /", "what leaves with another change is gone");
    plane.tried(&[]);
    assert_eq!(plane.routes["r-shared"], "a: /");
}

#[test]
fn a_host_that_comes_back_or_is_served_otherwise_is_not_kept() {
    let mut plane = Plane::moving();
    plane.tried(&["own"]);
    plane.routes("r-shared", &[("a", &["/"]), ("B", &["/x"])]);
    assert_eq!(plane.routes["r-shared"], "a: /; B: /x", "domains compare without case");
    plane.listeners(&["shared"]);
    plane.tried(&[]);
    plane.routes("r-shared", &[("a", &["/"])]);
    assert_eq!(plane.routes["r-shared"], "a: /", "without a listener on the way hosts leave at once");
}

#[test]
fn routes_of_a_host_that_stays_are_kept_before_the_one_that_takes_everything() {
    let mut plane = Plane::new();
    plane.listeners(&["shared"]);
    plane.routes("r-shared", &[("*", &["/a", "/b", "/"])]);
    plane.tried(&[]);
    plane.listeners(&["shared", "own"]);
    plane.routes("r-shared", &[("*", &["/a", "/new", "/"])]);
    plane.routes("r-own", &[("*", &["/b"])]);
    assert_eq!(plane.tried(&["own"]), ["r-shared {\"*\"}"]);
    assert_eq!(plane.routes["r-shared"], "*: /a /new /b /");
    plane.tried(&[]);
    assert_eq!(plane.routes["r-shared"], "*: /a /new /");
}

#[test]
fn what_a_later_change_moves_is_decided_by_its_own_listeners() {
    let mut plane = Plane::moving();
    assert_eq!(plane.tried(&["own"]).len(), 1);
    plane.listeners(&["shared", "own", "third"]);
    plane.routes("r-shared", &[("c", &["/"])]);
    plane.routes("r-third", &[("a", &["/"])]);
    assert_eq!(plane.routes["r-shared"], "c: /; b: /; a: /");
    assert!(plane.tried(&["own"]).is_empty());
    assert_eq!(plane.routes["r-shared"], "c: /; b: /", "the third listens, the second does not");
    plane.listeners(&["own", "third"]);
    assert!(!plane.routes.contains_key("r-shared"));
}

#[test]
fn a_report_about_other_listeners_decides_nothing() {
    let mut plane = Plane::moving();
    let before = Plane::shared().listeners;
    let report = ListenerReport { tried: Arc::new(before), failed: BTreeSet::new() };
    assert!(plane.applier.handle_listeners(&report).is_empty() && plane.applier.poll_change().is_none());
    plane.applier.handle_timeout(Instant::now() + Duration::from_secs(3600));
    plane.take_changes();
    assert_eq!(plane.routes["r-shared"], "a: /; b: /");
}

#[test]
fn whatever_moves_nothing_stops_before_all_listen_and_nothing_stays_then() {
    const LISTENERS: [&str; 3] = ["l1", "l2", "l3"];
    const HOSTS: [(&str, &[&str]); 4] = [("a", &["/"]), ("b", &["/x", "/"]), ("c", &["/x"]), ("d", &["/y"])];
    let mut rng = SplitMix64::new(7);
    for _ in 0..500 {
        let mut plane = Plane::new();
        let mut failing: Vec<&str> = Vec::new();
        for _ in 0..6 {
            let before = plane.routes.clone();
            // Every host is on one of the listeners, and those that have none are not there.
            let places: Vec<usize> = HOSTS.iter().map(|_| rng.index(3)).collect();
            let hosts = |at: usize| HOSTS.iter().zip(&places).filter(move |(_, place)| **place == at);
            let wanted: Vec<usize> = (0..3).filter(|&at| hosts(at).next().is_some()).collect();
            let names: Vec<&str> = wanted.iter().map(|&at| LISTENERS[at]).collect();
            let new: Vec<&str> = names.iter().filter(|name| !plane.listeners.contains_key(**name)).copied().collect();
            plane.listeners(&names);
            for &at in &wanted {
                plane.routes(&format!("r-{}", LISTENERS[at]), &hosts(at).map(|(host, _)| *host).collect::<Vec<_>>());
            }
            failing.retain(|name| names.contains(name));
            let fails = new.into_iter().filter(|_| rng.index(2) == 0).collect::<Vec<_>>();
            failing.extend(&fails);
            plane.tried(&failing);
            if !fails.is_empty() {
                for (name, routes) in before.iter().filter(|(name, _)| plane.routes.contains_key(*name)) {
                    let served = |host: &&str| plane.routes[name].split("; ").any(|now| now == *host);
                    assert!(routes.split("; ").all(|host| served(&host)), "{name}: {routes} > {:?}", plane.routes);
                }
            }
            if rng.index(3) == 0 {
                failing.clear();
                plane.tried(&[]);
            }
            if failing.is_empty() {
                for &at in &wanted {
                    let wanted: Vec<VirtualHost> = hosts(at).map(|(host, _)| virtual_host(host)).collect();
                    assert_eq!(
                        plane.routes[&format!("r-{}", LISTENERS[at])],
                        text(&RouteConfiguration::new("", wanted))
                    );
                }
            }
        }
    }
}
