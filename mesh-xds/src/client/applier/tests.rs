use std::time::Duration;

use mesh_core::filter::HttpFilter;
use mesh_core::filter::ext_authz::{ExtAuthz, HttpService, Service};
use mesh_core::model::{
    Action, Cluster, Discovery, DnsOptions, FilterChain, HttpConnectionManager, Listener, ListenerAddress,
    LoadAssignment, PathMatcher, Route, RouteAction, RouteConfiguration, RouteMatch, RouteSource, TcpProxy,
    VirtualHost,
};
use mesh_core::rng::SplitMix64;
use mesh_core::store::Store;

use super::*;

fn update(resource: Resource) -> Update {
    Update::new(resource.resource_type(), vec![Decoded { resource, ignored: Vec::new() }])
}

fn listener(routes: RouteSource) -> Resource {
    Resource::Listener(Arc::new(Listener::http(
        "l",
        ([127, 0, 0, 1], 80).into(),
        HttpConnectionManager::new("l", routes),
    )))
}

fn eds(name: &str) -> Resource {
    Resource::Cluster(Arc::new(Cluster::new(name, Discovery::Eds { service_name: name.into() })))
}

#[test]
fn static_resources_are_in_force_at_once_in_whatever_order_they_stand() {
    let store = Store::new();
    let routes = Resource::RouteConfiguration(Arc::new(RouteConfiguration::new("r", Vec::new())));
    let resources = [listener(RouteSource::Rds("r".into())), routes, eds("a")];
    apply_static(&store, resources, Instant::now(), &mut SplitMix64::new(1)).unwrap();
    assert!(store.cluster("a").is_some(), "its endpoints come from nowhere, so that nothing waits for them");
    assert!(store.listeners().contains_key("l") && store.route_slot(&"r".into()).load().is_some());
}

#[test]
fn a_listener_waits_for_the_clusters_that_it_names_itself_and_they_stay_with_it() {
    waits_for_cluster_a(FilterChain::tcp_proxy(TcpProxy::new("tcp", "a")));
    let routes = RouteSource::Inline(Arc::new(RouteConfiguration::new("r", Vec::new())));
    let mut http = HttpConnectionManager::new("l", routes);
    let service = Service::Http(HttpService::new("a", Duration::from_secs(1)));
    http.http_filters.push(HttpFilter::new(ExtAuthz::new(service)));
    waits_for_cluster_a(FilterChain::http(http));
}

fn waits_for_cluster_a(chain: FilterChain) {
    let now = Instant::now();
    let mut applier = Applier::with_clusters_by_name();
    let address = ListenerAddress::Socket(([127, 0, 0, 1], 80).into());
    let listener = Resource::Listener(Arc::new(Listener::new("l", address).with_filter_chain(chain)));
    applier.handle_update(update(listener), now);
    let wanted: Vec<_> = std::iter::from_fn(|| applier.poll_interest()).collect();
    assert!(wanted.contains(&(ResourceType::Cluster, ["a".into()].into_iter().collect())), "{wanted:?}");
    assert_eq!(applier.poll_change(), None);
    applier.handle_update(
        update(Resource::Cluster(Arc::new(Cluster::new("a", Discovery::Static(Default::default()))))),
        now,
    );
    let changes: Vec<_> = std::iter::from_fn(|| applier.poll_change()).collect();
    assert!(matches!(changes.as_slice(), [Change::SetCluster(_), Change::SetListener(_)]), "{changes:?}");

    applier.handle_unsubscribed(ResourceType::Cluster, &["a".into()], now);
    assert_eq!(applier.poll_change(), None, "the listener still names it");
    applier.handle_unsubscribed(ResourceType::Listener, &["l".into()], now);
    let changes: Vec<_> = std::iter::from_fn(|| applier.poll_change()).collect();
    assert_eq!(changes, [Change::RemoveListener("l".into()), Change::RetireCluster("a".into())]);
}

#[test]
fn routes_to_a_new_cluster_with_host_names_wait_until_these_are_resolved() {
    let now = Instant::now();
    let mut applier = Applier::with_all_clusters();
    let dns = || {
        let discovery = Discovery::StrictDns(LoadAssignment::default(), DnsOptions::default());
        update(Resource::Cluster(Arc::new(Cluster::new("a", discovery))))
    };
    let routes = |name: &str| {
        let action = Action::Route(Box::new(RouteAction::to_cluster("a")));
        let route = Route::new(RouteMatch::path(PathMatcher::Prefix("/".into())), action);
        RouteConfiguration::new(name, vec![VirtualHost::new("all", vec![route])])
    };
    let changes = |applier: &mut Applier| std::iter::from_fn(|| applier.poll_change()).collect::<Vec<_>>();
    applier.handle_update(dns(), now);
    assert!(
        matches!(changes(&mut applier).as_slice(), [Change::SetCluster(_)]),
        "somebody has to see it to resolve it"
    );
    applier.handle_update(update(listener(RouteSource::Inline(Arc::new(routes("r"))))), now);
    assert!(changes(&mut applier).is_empty() && !applier.is_settled());
    let unresolved: Vec<_> = applier.unresolved_clusters().cloned().collect();
    applier.handle_resolved(&unresolved, now);
    assert!(matches!(changes(&mut applier).as_slice(), [Change::SetListener(_)]));
    applier.handle_update(dns(), now);
    assert!(changes(&mut applier).len() == 1 && applier.is_settled(), "one that is in use has addresses");

    let mut applier = Applier::with_all_clusters();
    applier.handle_update(dns(), now);
    applier.handle_update(update(listener(RouteSource::Inline(Arc::new(routes("r"))))), now);
    assert_eq!(changes(&mut applier).len(), 1);
    let until = applier.poll_timeout().unwrap();
    assert_eq!(until, now + Duration::from_secs(5));
    applier.handle_timeout(until);
    assert!(matches!(changes(&mut applier).as_slice(), [Change::SetListener(_)]), "names are not resolved");
}

#[test]
fn routes_to_an_aggregate_wait_for_its_clusters_which_are_requested_for_it() {
    let now = Instant::now();
    let mut applier = Applier::with_clusters_by_name();
    let action = Action::Route(Box::new(RouteAction::to_cluster("all")));
    let route = Route::new(RouteMatch::path(PathMatcher::Prefix("/".into())), action);
    let routes = RouteConfiguration::new("r", vec![VirtualHost::new("all", vec![route])]);
    applier.handle_update(update(listener(RouteSource::Inline(Arc::new(routes)))), now);
    let clusters = |applier: &mut Applier| {
        let all: Vec<_> = std::iter::from_fn(|| applier.poll_interest()).collect();
        all.into_iter().filter(|(kind, _)| *kind == ResourceType::Cluster).map(|(_, names)| names).next_back()
    };
    let names = |names: &[&str]| Some(names.iter().map(|name| Arc::from(*name)).collect::<Interest>());
    assert_eq!(clusters(&mut applier), names(&["all"]));
    let set = |applier: &mut Applier, name: &str, discovery: Discovery| {
        applier.handle_update(update(Resource::Cluster(Arc::new(Cluster::new(name, discovery)))), now);
        std::iter::from_fn(|| applier.poll_change()).collect::<Vec<_>>()
    };
    let aggregate = |names: &[&str]| Discovery::Aggregate(names.iter().map(|name| (*name).into()).collect());
    assert_eq!(set(&mut applier, "all", aggregate(&["a", "nested"])).len(), 1);
    assert_eq!(clusters(&mut applier), names(&["a", "all", "nested"]));
    set(&mut applier, "nested", aggregate(&["b"]));
    assert_eq!(clusters(&mut applier), names(&["a", "all", "b", "nested"]));
    set(&mut applier, "a", Discovery::Static(LoadAssignment::default()));
    assert!(!applier.is_settled(), "b is missing");
    let last = set(&mut applier, "b", Discovery::Static(LoadAssignment::default()));
    assert!(matches!(last.as_slice(), [Change::SetCluster(_), Change::SetListener(_)]), "{last:?}");
    assert!(applier.is_settled());
    set(&mut applier, "all", aggregate(&["a"]));
    assert_eq!(clusters(&mut applier), names(&["a", "all"]));
}
