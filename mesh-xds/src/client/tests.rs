//! The state machine by itself, then the whole client against an in-process control plane.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use prost_types::Any;
use tokio::time::advance;

use super::applier::Change;
use super::transport::in_process::{ServerStream, pair};
use super::*;

use crate::proto::envoy::config::bootstrap::v3::bootstrap::StaticResources;
use crate::proto::envoy::config::core::v3::Node;
use crate::proto::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use crate::resource::{ResourceType, pack};

const CLUSTER: ResourceType = ResourceType::Cluster;
const ENDPOINTS: ResourceType = ResourceType::ClusterLoadAssignment;

/// Resources from text: clusters as they stand, others through [`listener`], [`routes`] and [`endpoints`].
fn cluster(yaml: &str) -> Any {
    let resources: StaticResources = crate::json::from_text(&format!("clusters: [{yaml}]"), "test").unwrap();
    pack(&resources.clusters[0])
}

fn eds_cluster(name: &str) -> Any {
    cluster(&format!("{{name: {name}, type: EDS, eds_cluster_config: {{eds_config: {{ads: {{}}}}}}}}"))
}

fn endpoints(name: &str, port: u16) -> Any {
    let text = format!(
        "{{cluster_name: {name}, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: \
         {{address: 127.0.0.1, port_value: {port}}}}}}}}}]}}]}}"
    );
    pack(
        &crate::json::from_text::<crate::proto::envoy::config::endpoint::v3::ClusterLoadAssignment>(&text, "").unwrap(),
    )
}

fn routes(name: &str, cluster: &str) -> Any {
    let text = format!(
        "{{name: {name}, virtual_hosts: [{{name: all, domains: ['*'], routes: [{{match: {{prefix: /}}, \
         route: {{cluster: {cluster}}}}}]}}]}}"
    );
    pack(&crate::json::from_text::<crate::proto::envoy::config::route::v3::RouteConfiguration>(&text, "").unwrap())
}

fn listener(name: &str, routes: &str) -> Any {
    let hcm = format!(
        "{{'@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3\
         .HttpConnectionManager, rds: {{route_config_name: {routes}, config_source: {{ads: {{}}}}}}, http_filters: \
         [{{name: router, typed_config: {{'@type': \
         type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}}}]}}"
    );
    let text = format!("{{name: {name}, api_listener: {{api_listener: {hcm}}}}}");
    pack(&crate::json::from_text::<crate::proto::envoy::config::listener::v3::Listener>(&text, "").unwrap())
}

fn response(kind: ResourceType, version: &str, resources: Vec<Any>) -> DiscoveryResponse {
    DiscoveryResponse {
        version_info: version.to_owned(),
        nonce: format!("nonce-{version}"),
        type_url: kind.type_url(),
        resources,
        ..DiscoveryResponse::default()
    }
}

fn names(list: &[&str]) -> Interest {
    Interest::Names(Arc::new(list.iter().map(|name| Arc::from(*name)).collect::<BTreeSet<_>>()))
}

/// A client that streams and wants all clusters; its first request is taken already.
fn streaming(now: Instant) -> Machine {
    let mut state = Machine::new(Node { id: "me".to_owned(), ..Node::default() }, now);
    state.subscribe(CLUSTER, Interest::Everything, now);
    state.handle_timeout(now);
    assert_eq!(state.poll_event(), Some(Event::Connect));
    state.handle_stream_up(now);
    let request = sent(&mut state);
    assert_eq!(request.node.unwrap().id, "me");
    assert_eq!((&*request.version_info, &*request.response_nonce), ("", ""));
    state
}

fn sent(state: &mut Machine) -> Request {
    match state.poll_event() {
        Some(Event::Send(request)) => request,
        other => panic!("expected a request, not {other:?}"),
    }
}

fn updated(state: &mut Machine) -> Update {
    match state.poll_event() {
        Some(Event::Update(update)) => update,
        other => panic!("expected an update, not {other:?}"),
    }
}

fn accepted(update: &Update) -> Vec<&str> {
    update.accepted.iter().map(|decoded| decoded.resource.name()).collect()
}

#[test]
fn a_good_response_is_acknowledged_and_only_changes_are_told() {
    let now = Instant::now();
    let mut state = streaming(now);
    state.handle_response(response(CLUSTER, "1", vec![cluster("{name: a}"), cluster("{name: b}")]));
    let ack = sent(&mut state);
    assert_eq!((&*ack.version_info, &*ack.response_nonce, &ack.error), ("1", "nonce-1", &None));
    assert!(ack.node.is_none(), "the node is sent once per stream");
    assert_eq!(accepted(&updated(&mut state)), ["a", "b"]);

    let changed = cluster("{name: b, connect_timeout: 1s}");
    state.handle_response(response(CLUSTER, "2", vec![changed, cluster("{name: c}")]));
    assert_eq!(&*sent(&mut state).version_info, "2");
    let update = updated(&mut state);
    assert_eq!((accepted(&update), update.removed.clone()), (vec!["b", "c"], vec![Arc::from("a")]));
}

#[test]
fn a_bad_resource_is_refused_alone_and_its_predecessor_stays() {
    let now = Instant::now();
    let mut state = streaming(now);
    state.handle_response(response(CLUSTER, "1", vec![cluster("{name: a}")]));
    sent(&mut state);
    updated(&mut state);
    let junk = Any { type_url: CLUSTER.type_url(), value: vec![0xff] };
    let bad = cluster("{name: a, lb_policy: RING_HASH}");
    state.handle_response(response(CLUSTER, "2", vec![bad, cluster("{name: b}"), cluster("{name: b}"), junk]));

    let nack = DiscoveryRequest::from(sent(&mut state));
    assert_eq!((nack.version_info.as_str(), nack.response_nonce.as_str()), ("1", "nonce-2"));
    let detail = nack.error_detail.unwrap();
    assert_eq!(detail.code, 3);
    let expected = "cluster a: lb_policy: RING_HASH: not supported; cluster b: name: duplicate: a name stands for one resource; \
                    cluster (unnamed): malformed message: ";
    assert!(detail.message.starts_with(expected), "{}", detail.message);
    let update = updated(&mut state);
    assert_eq!((accepted(&update), update.removed.clone(), update.rejected.len()), (vec!["b"], vec![], 3));
}

#[test]
fn a_name_that_does_not_come_is_missing_after_fifteen_seconds() {
    let now = Instant::now();
    let mut state = streaming(now);
    state.subscribe(ENDPOINTS, names(&["a", "b"]), now);
    assert_eq!(sent(&mut state).resource_names.len(), 2);
    state.handle_response(response(ENDPOINTS, "1", vec![endpoints("a", 1), endpoints("unasked", 2)]));
    sent(&mut state);
    assert_eq!(accepted(&updated(&mut state)), ["a"]);
    assert!(!state.is_answered());
    assert_eq!(state.poll_timeout(), Some(now + RESOURCE_TIMEOUT));
    state.handle_timeout(now + RESOURCE_TIMEOUT);
    assert_eq!(state.poll_event(), Some(Event::Missing { resource_type: ENDPOINTS, name: "b".into() }));
    assert_eq!((state.poll_event(), state.poll_timeout()), (None, None));
}

#[test]
fn reconnecting_backs_off_asks_again_and_keeps_what_was_accepted() {
    let mut now = Instant::now();
    let mut state = streaming(now);
    state.handle_response(response(CLUSTER, "1", vec![cluster("{name: a}")]));
    sent(&mut state);
    updated(&mut state);
    for expected in [1.0, 1.6, 2.56] {
        state.handle_stream_down(now, u64::MAX / 2);
        let pause = state.poll_timeout().unwrap() - now;
        assert!((pause.as_secs_f64() - expected).abs() < 0.01 * expected, "{pause:?}, not {expected}");
        now += pause;
        state.handle_timeout(now);
        assert_eq!(state.poll_event(), Some(Event::Connect));
    }
    state.handle_stream_up(now);
    let request = sent(&mut state);
    assert!(request.node.is_some());
    assert_eq!((&*request.version_info, &*request.response_nonce), ("1", ""));
    state.handle_response(response(CLUSTER, "1", vec![cluster("{name: a}")]));
    sent(&mut state);
    let update = updated(&mut state);
    assert!(update.accepted.is_empty() && update.removed.is_empty(), "nothing has changed: {update:?}");
    state.handle_stream_down(now, u64::MAX / 2);
    assert!(state.poll_timeout().unwrap() - now < Duration::from_millis(1_100), "a response ends the back-off");
}

#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<String>>>);

impl Sink for Recorder {
    fn apply(&mut self, change: Change, _: Instant) {
        self.0.lock().unwrap().push(match change {
            Change::SetCluster(cluster) => format!("cluster {}", cluster.name),
            Change::SetEndpoints { service_name, .. } => format!("endpoints {service_name}"),
            Change::SetRoutes(config) => format!("routes {}", config.name),
            Change::SetListener(listener) => format!("listener {}", listener.name),
            Change::RemoveListener(name) => format!("-listener {name}"),
            Change::RemoveRoutes(name) => format!("-routes {name}"),
            Change::RetireCluster(name) => format!("-cluster {name}"),
            Change::RemoveCluster(name) => format!("-cluster {name} in use"),
            Change::RemoveEndpoints(name) => format!("-endpoints {name}"),
        });
    }

    fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::Settled => self.0.lock().unwrap().push("settled".to_owned()),
            Notice::Missing { name, .. } => self.0.lock().unwrap().push(format!("missing {name}")),
            Notice::Connected | Notice::Applied(_) | Notice::Disconnected(_) | Notice::NotApplied(_) => {}
        }
    }
}

impl Recorder {
    /// What happened since it was last asked.
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    async fn check(&self, expected: &[&str]) {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        assert_eq!(self.take(), expected);
    }
}

async fn push(server: &ServerStream, kind: ResourceType, version: &str, resources: Vec<Any>) {
    server.responses.send(Ok(response(kind, version, resources))).await.unwrap();
}

async fn client() -> (Recorder, ServerStream) {
    let (transport, mut acceptor) = pair();
    let recorder = Recorder::default();
    let options =
        Options { node: Node::default(), listeners: Interest::Everything, clusters: ClusterInterest::Everything };
    tokio::spawn(run(transport, options, recorder.clone()));
    let server = acceptor.accept().await.unwrap();
    (recorder, server)
}

#[tokio::test(start_paused = true)]
async fn nothing_is_in_force_before_what_it_needs() {
    let (seen, mut server) = client().await;
    push(&server, CLUSTER, "1", vec![eds_cluster("a")]).await;
    seen.check(&[]).await;
    push(&server, ResourceType::Listener, "1", vec![listener("l", "r")]).await;
    seen.check(&[]).await;
    push(&server, ResourceType::RouteConfiguration, "1", vec![routes("r", "a")]).await;
    seen.check(&[]).await;
    push(&server, ENDPOINTS, "1", vec![endpoints("a", 1)]).await;
    seen.check(&["endpoints a", "cluster a", "routes r", "listener l", "settled"]).await;

    push(&server, ENDPOINTS, "2", vec![endpoints("a", 2)]).await;
    seen.check(&["endpoints a", "settled"]).await;

    let mut asked = Vec::new();
    while let Ok(request) = server.requests.try_recv() {
        assert_eq!(request.error, None);
        asked.push(format!("{} {}", request.resource_type, request.resource_names.len()));
    }
    asked.sort();
    asked.dedup();
    assert_eq!(asked, ["cluster 0", "endpoints 1", "listener 0", "route configuration 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_cluster_goes_when_no_route_names_it_any_more() {
    let (seen, server) = client().await;
    push(&server, CLUSTER, "1", vec![eds_cluster("a")]).await;
    push(&server, ENDPOINTS, "1", vec![endpoints("a", 1)]).await;
    push(&server, ResourceType::Listener, "1", vec![listener("l", "r")]).await;
    push(&server, ResourceType::RouteConfiguration, "1", vec![routes("r", "a")]).await;
    seen.check(&["endpoints a", "cluster a", "routes r", "listener l", "settled"]).await;

    push(&server, CLUSTER, "2", vec![cluster("{name: b}")]).await;
    seen.check(&["cluster b", "settled"]).await;
    push(&server, ResourceType::RouteConfiguration, "2", vec![routes("r", "b")]).await;
    seen.check(&["routes r", "-cluster a", "-endpoints a", "settled"]).await;

    push(&server, ResourceType::Listener, "3", vec![]).await;
    seen.check(&["-listener l", "-routes r", "settled"]).await;
    push(&server, CLUSTER, "3", vec![]).await;
    seen.check(&["-cluster b", "settled"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_routes_go_on_to_name_goes_after_fifteen_seconds() {
    let (seen, server) = client().await;
    push(&server, CLUSTER, "1", vec![cluster("{name: a}")]).await;
    push(&server, ResourceType::Listener, "1", vec![listener("l", "r")]).await;
    push(&server, ResourceType::RouteConfiguration, "1", vec![routes("r", "a")]).await;
    seen.check(&["cluster a", "routes r", "listener l", "settled"]).await;
    push(&server, CLUSTER, "2", vec![]).await;
    seen.check(&["settled"]).await;
    advance(RESOURCE_TIMEOUT + Duration::from_millis(1)).await;
    seen.check(&["-cluster a in use"]).await;
}

#[tokio::test(start_paused = true)]
async fn what_never_comes_is_not_waited_for_longer_than_fifteen_seconds() {
    let (seen, server) = client().await;
    push(&server, CLUSTER, "1", vec![eds_cluster("a")]).await;
    push(&server, ResourceType::Listener, "1", vec![listener("l", "r")]).await;
    push(&server, ResourceType::RouteConfiguration, "1", vec![routes("r", "a")]).await;
    seen.check(&[]).await;
    advance(RESOURCE_TIMEOUT + Duration::from_millis(1)).await;
    seen.check(&["missing a", "cluster a", "routes r", "listener l", "settled"]).await;
}
