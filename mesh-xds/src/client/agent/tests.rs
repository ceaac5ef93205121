use std::time::Duration;

use mesh_core::model::LoadAssignment;
use mesh_core::rng::SplitMix64;
use tokio::sync::mpsc::{self, UnboundedReceiver};

use super::*;
use crate::client::testing::{cluster, endpoints, listener, response, routes};
use crate::client::transport::in_process::{ServerStream, pair};
use crate::client::{AnyTransport, Disconnected, Request, Stream};
use crate::json::from_text;
use crate::proto::envoy::config::endpoint::v3::ClusterLoadAssignment;
use crate::resource::pack;

/// Runs an agent; yields what it reports, too.
fn start<T: Transport>(agent: Agent<T, SplitMix64>) -> UnboundedReceiver<Notice> {
    let (sender, notices) = mpsc::unbounded_channel();
    tokio::spawn(agent.run(move |notice| drop(sender.send(notice))));
    notices
}

async fn answer(server: &ServerStream, kind: ResourceType, version: &str, resources: Vec<prost_types::Any>) {
    server.responses.send(Ok(response(kind, version, resources).into())).await.unwrap();
}

/// The next request about this kind.
async fn request(server: &mut ServerStream, kind: ResourceType) -> Request {
    loop {
        let request = server.requests.recv().await.unwrap();
        if request.resource_type == kind {
            return request;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscription_fills_the_store_and_a_lost_stream_changes_nothing() {
    let (transport, mut acceptor) = pair();
    let store = Arc::new(Store::new());
    let agent = Agent::new(transport, Node::default(), Scope::UsedListeners, Arc::clone(&store), SplitMix64::new(1));
    let (subscriber, mut settled) = (agent.subscriber(), agent.settled());
    let mut notices = start(agent);
    settled.changed().await;
    assert_eq!(notices.recv().await, Some(Notice::Settled), "nothing is requested, so no response is awaited");

    let subscription = subscriber.subscribe(&"l".into());
    let mut server = acceptor.accept().await.unwrap();
    assert!(request(&mut server, ResourceType::Listener).await.resource_names.contains("l"));
    answer(&server, ResourceType::Listener, "1", vec![listener("l", "r")]).await;
    request(&mut server, ResourceType::RouteConfiguration).await;
    answer(&server, ResourceType::RouteConfiguration, "1", vec![routes("r", "a")]).await;
    request(&mut server, ResourceType::Cluster).await;
    answer(&server, ResourceType::Cluster, "1", vec![cluster("{name: a}")]).await;
    settled.changed().await;
    assert!(store.listeners().contains_key("l") && store.cluster("a").is_some());

    drop(server);
    let mut server = acceptor.accept().await.unwrap();
    let again = request(&mut server, ResourceType::Cluster).await;
    assert_eq!((&*again.version_info, &*again.response_nonce), ("1", ""));
    assert!(store.cluster("a").is_some());

    drop(subscription);
    let mut clusters = store.watch_clusters();
    while store.cluster("a").is_some() {
        clusters.changed().await;
    }
    assert!(store.listeners().is_empty());
}

#[tokio::test(start_paused = true)]
async fn routes_wait_for_the_addresses_of_a_new_cluster() {
    let (transport, mut acceptor) = pair();
    let store = Arc::new(Store::new());
    let agent = Agent::new(transport, Node::default(), Scope::UsedListeners, Arc::clone(&store), SplitMix64::new(1));
    let _subscription = agent.subscriber().subscribe(&"l".into());
    let mut settled = agent.settled();
    start(agent);
    let server = acceptor.accept().await.unwrap();
    answer(&server, ResourceType::Listener, "1", vec![listener("l", "r")]).await;
    answer(&server, ResourceType::RouteConfiguration, "1", vec![routes("r", "a")]).await;
    let mut clusters = store.watch_clusters();
    answer(&server, ResourceType::Cluster, "1", vec![cluster("{name: a, type: STRICT_DNS}")]).await;
    clusters.changed().await;
    let begin = time::Instant::now();
    assert!(store.cluster("a").is_some() && store.route_slot(&"r".into()).load().is_none());
    store.set_resolved_endpoints(&"a".into(), &LoadAssignment::default(), &mut SplitMix64::new(1));
    settled.changed().await;
    assert!(store.route_slot(&"r".into()).load().is_some() && begin.elapsed() < Duration::from_secs(1));
}

/// A transport that never gets through.
struct Nowhere(mpsc::UnboundedSender<()>);

impl Transport for Nowhere {
    fn connect(&self) -> impl Future<Output = Result<Stream, Disconnected>> + Send + 'static {
        self.0.send(()).unwrap();
        pending()
    }
}

#[tokio::test(start_paused = true)]
async fn connecting_keeps_nothing_waiting_and_is_given_up_and_tried_again() {
    let (sender, mut attempts) = mpsc::unbounded_channel();
    let store = Arc::new(Store::new());
    let agent = Agent::new(Nowhere(sender), Node::default(), Scope::UsedListeners, store, SplitMix64::new(1));
    let (subscriber, mut settled) = (agent.subscriber(), agent.settled());
    let mut notices = start(agent);
    settled.changed().await;
    let subscription = subscriber.subscribe(&"l".into());
    attempts.recv().await.unwrap();
    let begin = time::Instant::now();
    attempts.recv().await.unwrap();
    let waited = begin.elapsed();
    assert!(waited > Duration::from_secs(20) && waited < Duration::from_secs(22), "{waited:?}");
    assert_eq!(notices.recv().await, Some(Notice::Settled));
    let Some(Notice::Disconnected(reason)) = notices.recv().await else { panic!("the attempt was given up") };
    assert_eq!(reason.to_string(), "control plane: no connection within 20s");
    drop(subscription);
    settled.changed().await;
}

#[tokio::test(start_paused = true)]
async fn a_resource_from_elsewhere_has_a_stream_of_its_own_whose_loss_changes_nothing() {
    let (of_all, mut acceptor) = pair();
    let (own, mut own_acceptor) = pair();
    let make: MakeTransport = Arc::new(move |api, kind| {
        assert_eq!((&*api.cluster, kind), ("xds", ResourceType::ClusterLoadAssignment));
        AnyTransport::new(own.clone())
    });
    let store = Arc::new(Store::new());
    let scope = Scope::Bootstrap { listeners: false, clusters: true };
    let agent = Agent::new(of_all, Node::default(), scope, Arc::clone(&store), SplitMix64::new(1))
        .with_sources(Sources::at_clusters(["xds".into()]), make);
    let mut settled = agent.settled();
    start(agent);
    let server = acceptor.accept().await.unwrap();
    let eds = "{name: a, type: EDS, eds_cluster_config: {service_name: e, eds_config: {api_config_source: {api_type: GRPC, \
               transport_api_version: V3, grpc_services: [{envoy_grpc: {cluster_name: xds}}]}}}}";
    answer(&server, ResourceType::Cluster, "1", vec![cluster(eds)]).await;
    let mut own_server = own_acceptor.accept().await.unwrap();
    let kind = ResourceType::ClusterLoadAssignment;
    assert!(request(&mut own_server, kind).await.resource_names.contains("e"));
    answer(&own_server, kind, "1", vec![endpoints("e", 80)]).await;
    assert_eq!(&*request(&mut own_server, kind).await.version_info, "1");
    settled.changed().await;
    let port = |store: &Store| {
        let endpoints = store.cluster("a").unwrap().endpoints();
        endpoints.endpoints()[0].address().to_string()
    };
    assert_eq!(port(&store), "127.0.0.1:80");

    let broken = "{cluster_name: e, policy: {overprovisioning_factor: 0}}";
    answer(&own_server, kind, "2", vec![pack(&from_text::<ClusterLoadAssignment>(broken, "").unwrap())]).await;
    let refused = request(&mut own_server, kind).await;
    assert!(refused.error.is_some() && &*refused.version_info == "1", "{refused:?}");
    drop(own_server);
    let mut own_server = own_acceptor.accept().await.unwrap();
    assert!(request(&mut own_server, kind).await.resource_names.contains("e"));
    assert_eq!(port(&store), "127.0.0.1:80");
    answer(&own_server, kind, "3", vec![endpoints("e", 81)]).await;
    while port(&store) != "127.0.0.1:81" {
        settled.changed().await;
    }

    answer(&server, ResourceType::Cluster, "2", vec![]).await;
    // The stream ends with the cluster.
    while own_server.requests.recv().await.is_some() {}
}

#[tokio::test(start_paused = true)]
async fn the_second_control_plane_serves_until_the_first_responds() {
    let (first, mut first_acceptor) = pair();
    let (second, mut second_acceptor) = pair();
    let store = Arc::new(Store::new());
    let agent = Agent::new(first, Node::default(), Scope::UsedListeners, Arc::clone(&store), SplitMix64::new(1))
        .with_servers([second], ServerOptions::default());
    let (subscriber, mut settled) = (agent.subscriber(), agent.settled());
    let _subscription = subscriber.subscribe(&"l".into());
    let _notices = start(agent);
    // It accepts the stream and fails.
    drop(first_acceptor.accept().await.unwrap());
    let mut server = second_acceptor.accept().await.unwrap();
    request(&mut server, ResourceType::Listener).await;
    answer(&server, ResourceType::Listener, "7", vec![listener("l", "r")]).await;
    request(&mut server, ResourceType::RouteConfiguration).await;
    answer(&server, ResourceType::RouteConfiguration, "7", vec![routes("r", "a")]).await;
    request(&mut server, ResourceType::Cluster).await;
    answer(&server, ResourceType::Cluster, "7", vec![cluster("{name: a}")]).await;
    settled.changed().await;
    assert!(store.cluster("a").is_some());

    let mut probe = first_acceptor.accept().await.unwrap();
    let first_request = probe.requests.recv().await.unwrap();
    answer(&probe, first_request.resource_type, "1", Vec::new()).await;
    let mut preferred = first_acceptor.accept().await.unwrap();
    let again = request(&mut preferred, ResourceType::Cluster).await;
    assert_eq!((&*again.version_info, again.resource_names.contains("a")), ("", true));
    assert!(store.cluster("a").is_some(), "until the preferred one has sent others");
    while server.requests.recv().await.is_some() {}
}
