//! Updates of the store in different orders.

use std::sync::Arc;

use http::{HeaderMap, Method};

use super::{Slots, Store};
use crate::{
    cluster::{
        ClusterState,
        testing::{assignment, epoch, healthy},
    },
    model::{
        Action, Cluster, ClusterName, Discovery, DnsOptions, LoadAssignment, PathMatcher, Route, RouteAction,
        RouteConfigName, RouteConfiguration, RouteMatch, Secret, SecretValue, VirtualHost,
    },
    request::RequestHead,
    rng::SplitMix64,
    route::{ChosenCluster, RouteResult},
};

fn eds(name: &str, service: &str) -> Arc<Cluster> {
    Arc::new(Cluster::new(name, Discovery::Eds { service_name: service.into() }))
}

fn endpoints(ports: std::ops::Range<u16>) -> Arc<LoadAssignment> {
    Arc::new(assignment(healthy(ports)))
}

/// A store with the random numbers for its updates.
struct Bench {
    store: Store,
    rng: SplitMix64,
}

impl Bench {
    fn new() -> Self {
        Self { store: Store::new(), rng: SplitMix64::new(1) }
    }

    fn set_cluster(&mut self, config: Arc<Cluster>) {
        self.store.set_cluster(config, epoch(), &mut self.rng);
    }

    /// The number of endpoints of the cluster; `None` = there is no such cluster.
    fn count(&self, cluster: &str) -> Option<usize> {
        self.store.cluster(cluster).map(|cluster| cluster.endpoints().endpoints().len())
    }
}

#[test]
fn endpoints_and_clusters_may_arrive_in_either_order() {
    let mut bench = Bench::new();
    bench.set_cluster(eds("a", "s"));
    assert_eq!(bench.count("a"), Some(0));
    bench.store.set_endpoints("s", &endpoints(0..2), &mut bench.rng);
    assert_eq!(bench.count("a"), Some(2));
    bench.set_cluster(eds("b", "s"));
    assert_eq!(bench.count("b"), Some(2), "known endpoints are used at once");
    bench.store.set_endpoints("s", &endpoints(0..3), &mut bench.rng);
    assert_eq!((bench.count("a"), bench.count("b")), (Some(3), Some(3)));
    bench.store.remove_endpoints("s", &mut bench.rng);
    assert_eq!((bench.count("a"), bench.count("b")), (Some(0), Some(0)));
}

#[test]
fn a_cluster_uses_the_service_that_it_refers_to() {
    let mut bench = Bench::new();
    bench.store.set_endpoints("one", &endpoints(0..1), &mut bench.rng);
    bench.store.set_endpoints("two", &endpoints(0..2), &mut bench.rng);
    bench.set_cluster(eds("a", "one"));
    bench.set_cluster(eds("a", "two"));
    assert_eq!(bench.count("a"), Some(2));
    bench.store.set_endpoints("one", &endpoints(0..9), &mut bench.rng);
    assert_eq!(bench.count("a"), Some(2), "no longer interested");
    bench.store.remove_cluster(&"a".into());
    bench.store.set_endpoints("two", &endpoints(0..9), &mut bench.rng);
    assert_eq!(bench.count("a"), None);
}

#[test]
fn a_resolved_cluster_gets_its_addresses_by_its_own_name() {
    let mut bench = Bench::new();
    let names = LoadAssignment::default();
    bench.set_cluster(Arc::new(Cluster::new("dns", Discovery::StrictDns(names, DnsOptions::default()))));
    bench.store.set_endpoints("dns", &endpoints(0..5), &mut bench.rng);
    assert_eq!(bench.count("dns"), Some(0), "a service of the same name is something else");
    let resolved = bench.store.watch_resolved();
    assert!(!bench.store.cluster("dns").unwrap().is_initialized());
    bench.store.set_resolved_endpoints(&"dns".into(), &endpoints(0..2), &mut bench.rng);
    assert_eq!(bench.count("dns"), Some(2));
    assert!(bench.store.cluster("dns").unwrap().is_initialized() && resolved.has_changed());
    let resolved = bench.store.watch_resolved();
    bench.store.set_resolved_endpoints(&"dns".into(), &endpoints(0..2), &mut bench.rng);
    assert!(!resolved.has_changed(), "only the first time");
    bench.store.set_resolved_endpoints(&"gone".into(), &endpoints(0..2), &mut bench.rng);
}

#[test]
fn a_slot_outlives_its_cluster() {
    let mut bench = Bench::new();
    let slot = bench.store.cluster_slot(&"a".into());
    assert!(slot.load().is_none());
    bench.set_cluster(eds("a", "s"));
    let first = slot.load().unwrap();
    bench.store.remove_cluster(&"a".into());
    assert!(slot.load().is_none() && bench.store.clusters().is_empty());
    bench.set_cluster(eds("a", "s"));
    assert!(!Arc::ptr_eq(&first, &slot.load().unwrap()));
}

#[test]
fn routes_and_clusters_may_arrive_in_either_order() {
    let mut bench = Bench::new();
    let routes = |cluster: &str, domains: &[&str]| {
        let action = Action::Route(Box::new(RouteAction::to_cluster(cluster)));
        let route = Route::new(RouteMatch::path(PathMatcher::Prefix("/".into())), action);
        let domains = domains.iter().map(|&domain| domain.into()).collect();
        let host = VirtualHost { domains, ..VirtualHost::new("host", vec![route]) };
        Arc::new(RouteConfiguration::new("r", vec![host]))
    };
    let chosen = |bench: &Bench| -> Option<Arc<ClusterState>> {
        let table = bench.store.route_slot(&"r".into()).load()?;
        let headers = HeaderMap::new();
        let request = RequestHead {
            method: &Method::GET,
            target_scheme: None,
            authority: "x",
            path_and_query: "/",
            headers: &headers,
        };
        let RouteResult::Matched(entry) = table.route(&request, 0) else { return None };
        match entry.select_cluster(&request, 0)?.cluster {
            ChosenCluster::Resolved(slot) => slot.load(),
            ChosenCluster::Named(_) | ChosenCluster::Unnamed => None,
        }
    };
    bench.store.set_routes(&routes("a", &["*"])).unwrap();
    assert!(chosen(&bench).is_none());
    bench.set_cluster(eds("a", "s"));
    assert!(Arc::ptr_eq(&chosen(&bench).unwrap(), &bench.store.cluster("a").unwrap()));

    let error = bench.store.set_routes(&routes("b", &["x", "x"])).unwrap_err().to_string();
    assert!(error.contains("\"x\""), "{error}");
    assert!(chosen(&bench).is_some(), "what worked before stays");
    bench.store.remove_routes(&RouteConfigName::from("r"));
    assert!(chosen(&bench).is_none() && bench.store.routes().is_empty());
}

#[test]
fn unreferenced_slots_are_removed() {
    let slots = Slots::<ClusterName, ()>::default();
    let kept = slots.intern(&"kept".into());
    slots.keep(&"filled".into()).0.store(Some(Arc::new(())));
    for number in 0..10_000 {
        slots.intern(&ClusterName::from(format!("mentioned-{number}")));
    }
    assert!(slots.len() <= 64, "{}", slots.len());
    assert!(Arc::ptr_eq(&kept, &slots.intern(&"kept".into())));
    assert_eq!(slots.values().len(), 1);
}

#[test]
fn retired_resources_are_kept_while_they_are_referenced() {
    let mut bench = Bench::new();
    bench.set_cluster(eds("a", "s"));
    bench.store.set_endpoints("s", &endpoints(0..2), &mut bench.rng);
    let by_a = RouteAction::to_cluster("a");
    let route = Route::new(RouteMatch::path(PathMatcher::Prefix("/".into())), Action::Route(Box::new(by_a)));
    let routes = Arc::new(RouteConfiguration::new("r", vec![VirtualHost::new("host", vec![route])]));
    bench.store.set_routes(&routes).unwrap();
    let listener = bench.store.route_slot(&"r".into());
    let (last_routes, cluster) = (listener.load().unwrap(), bench.store.cluster("a").unwrap());

    bench.store.remove_routes(&"r".into());
    bench.store.retire_cluster(&"a".into());
    bench.store.remove_endpoints("s", &mut bench.rng);
    assert!(Arc::ptr_eq(&last_routes, &listener.load().unwrap()));
    assert_eq!(bench.count("a"), Some(2), "with its endpoints");

    // The configuration is corrected: what comes back is what has been used all the time.
    bench.store.set_endpoints("s", &endpoints(0..3), &mut bench.rng);
    bench.set_cluster(eds("a", "s"));
    bench.store.set_routes(&routes).unwrap();
    assert!(!Arc::ptr_eq(&last_routes, &listener.load().unwrap()));
    assert_eq!((bench.count("a"), cluster.endpoints().endpoints().len()), (Some(3), 3), "one and the same");

    drop(last_routes);
    bench.store.remove_routes(&"r".into());
    bench.store.retire_cluster(&"a".into());
    assert!(bench.store.cluster("a").is_some());
    drop(listener);
    assert!(bench.store.cluster("a").is_none() && bench.store.clusters().is_empty(), "removed with its last user");
    assert!(bench.store.route_slot(&"r".into()).load().is_none());
}

#[test]
fn a_removed_cluster_does_not_exist_for_routes_that_refer_to_it() {
    let mut bench = Bench::new();
    bench.set_cluster(eds("a", "s"));
    let (routes, retired) = (bench.store.cluster_slot(&"a".into()), bench.store.cluster_slot(&"b".into()));
    bench.store.remove_cluster(&"a".into());
    assert!(routes.load().is_none());
    bench.set_cluster(eds("b", "s"));
    bench.store.retire_cluster(&"b".into());
    bench.store.remove_cluster(&"b".into());
    assert!(retired.load().is_none());
}

#[test]
fn a_rotated_secret_is_seen_through_its_slot() {
    let store = Store::new();
    let slot = store.secret_slot(&"default".into());
    assert!(slot.load().is_none());
    for chain in ["first", "second"] {
        store.set_secret(Secret::certificate("default", chain.into(), "key".into()));
        let secret = slot.load().unwrap();
        let SecretValue::TlsCertificate(certificate) = &secret.value else { panic!("{secret:?}") };
        assert_eq!(certificate.certificate_chain, chain);
    }
    store.remove_secret("default");
    assert!(slot.load().is_some(), "a slot in use keeps its value");
    drop(slot);
    assert!(store.secret_slot(&"default".into()).load().is_none());
}

#[test]
fn a_watch_keeps_its_slot() {
    let mut bench = Bench::new();
    let (routes, cluster) =
        (bench.store.route_slot(&"r".into()).watch(), bench.store.cluster_slot(&"a".into()).watch());
    let (clusters, listeners) = (bench.store.watch_clusters(), bench.store.watch_listeners());
    bench.store.set_routes(&Arc::new(RouteConfiguration::new("r", Vec::new()))).unwrap();
    assert!(routes.has_changed() && !cluster.has_changed() && !clusters.has_changed());
    bench.set_cluster(eds("a", "s"));
    assert!(cluster.has_changed() && clusters.has_changed() && !listeners.has_changed());
    let clusters = bench.store.watch_clusters();
    bench.store.set_endpoints("s", &endpoints(0..2), &mut bench.rng);
    assert!(!clusters.has_changed(), "endpoints are not configuration");
    bench.store.retire_cluster(&"a".into());
    assert!(clusters.has_changed());
}
