use mesh_core::model::{
    Cluster, Discovery, FilterChain, HttpConnectionManager, Listener, ListenerAddress, RouteConfiguration, RouteSource,
    TcpProxy,
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
fn a_listener_for_tcp_waits_for_its_clusters_and_they_stay_with_it() {
    let now = Instant::now();
    let mut applier = Applier::with_clusters_by_name();
    let tcp = FilterChain::tcp_proxy(TcpProxy::new("tcp", "a"));
    let address = ListenerAddress::Socket(([127, 0, 0, 1], 80).into());
    let listener = Resource::Listener(Arc::new(Listener::new("l", address).with_filter_chain(tcp)));
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
