//! What streams send, and when.

use std::collections::BTreeSet;

use mesh_xds::client::Interest;
use mesh_xds::proto::envoy::extensions::transport_sockets::tls::v3::Secret;
use mesh_xds::proto::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse};
use prost::Message;
use prost_types::Any;

use super::*;
use crate::config::Strictness;
use crate::diagnostic::Source;
use crate::load::Loaded;
use crate::translate::Role;

const SERVICES: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: a}
spec:
  hosts: [a.example]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.1}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: b}
spec:
  hosts: [b.example]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.2}]
";

fn mesh(text: &str, version: u64) -> Arc<Mesh> {
    let source = Arc::new(Source::new("a.yaml", text));
    let loaded = Loaded::from_sources(vec![source], Strictness::Strict);
    assert!(loaded.is_valid(), "{:?}", loaded.diagnostics);
    Arc::new(loaded.mesh.with_version(version))
}

fn stream(mesh: &Arc<Mesh>) -> StreamState {
    open(mesh, Form::StateOfTheWorld, Caller::Local)
}

fn open(mesh: &Arc<Mesh>, form: Form, caller: Caller) -> StreamState {
    StreamState::new(Arc::new(Worlds::new(Arc::clone(mesh))), mesh, Arc::default(), form, caller)
}

fn request(resource_type: ResourceType, names: &[&str]) -> Request {
    Request {
        resource_type,
        resource_names: Arc::new(names.iter().map(|name| Arc::from(*name)).collect::<BTreeSet<_>>()),
        version_info: Arc::default(),
        response_nonce: Arc::default(),
        node: Some(Arc::new(node::to_xds(&Node::client(Role::Library, "default")))),
        error: None,
        changes: None,
    }
}

/// `TYPE: names` of every response that waits; each is acknowledged.
fn responses(state: &mut StreamState) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(response) = state.poll_response().map(DiscoveryResponse::from) {
        let kind = ResourceType::from_type_url(&response.type_url).unwrap();
        let names: Vec<_> = response.resources.iter().map(|any| name_of(kind, any)).collect();
        all.push(format!("{kind:?}: {}", names.join(" ")));
        let interest = match state.types[kind as usize].interest() {
            Interest::Names(names) => names,
            Interest::Nothing | Interest::Everything => Arc::default(),
        };
        let nonce = Arc::from(response.nonce);
        let ack = Request { resource_names: interest, response_nonce: nonce, node: None, ..request(kind, &[]) };
        state.handle_request(ack).unwrap();
    }
    all
}

fn name_of(kind: ResourceType, any: &Any) -> String {
    use mesh_xds::proto::envoy::config::{cluster, endpoint, listener, route};
    let bytes = any.value.as_slice();
    match kind {
        ResourceType::Secret => Secret::decode(bytes).unwrap().name,
        ResourceType::Cluster => cluster::v3::Cluster::decode(bytes).unwrap().name,
        ResourceType::ClusterLoadAssignment => endpoint::v3::ClusterLoadAssignment::decode(bytes).unwrap().cluster_name,
        ResourceType::Listener => listener::v3::Listener::decode(bytes).unwrap().name,
        ResourceType::RouteConfiguration => route::v3::RouteConfiguration::decode(bytes).unwrap().name,
    }
}

#[test]
fn an_undeclared_service_is_reported_with_similar_names() {
    let mesh = mesh(&SERVICES.replace("a.example", "shop.default.svc.cluster.local"), 1);
    let node = |service| Node::new(Role::Library, service, None, Default::default()).unwrap();
    assert_eq!(undeclared(&mesh, &node(Some("shop"))), None);
    assert_eq!(undeclared(&mesh, &node(None)), None);
    assert_eq!(
        undeclared(&mesh, &node(Some("shopp"))).unwrap(),
        "no ServiceEntry or Service declares the service shopp.default.svc.cluster.local of this program, \
         so other programs cannot call it; did you mean shop?"
    );
    let mut state = stream(&mesh);
    let mut first = request(ResourceType::Listener, &[]);
    first.node = Some(Arc::new(node::to_xds(&node(Some("shopp")))));
    state.handle_request(first).unwrap();
    assert!(!state.is_declared);
}

#[test]
fn a_subscription_gets_what_it_names_and_a_wildcard_everything() {
    let mut state = stream(&mesh(SERVICES, 1));
    state.handle_request(request(ResourceType::Listener, &["a.example:80", "absent:80"])).unwrap();
    assert_eq!(responses(&mut state), ["Listener: a.example:80"]);
    state.handle_request(request(ResourceType::Listener, &["a.example:80", "b.example:80"])).unwrap();
    assert_eq!(responses(&mut state), ["Listener: a.example:80 b.example:80"]);
    state.handle_request(request(ResourceType::Cluster, &[])).unwrap();
    assert_eq!(responses(&mut state), ["Cluster: outbound|80||a.example outbound|80||b.example"]);
    state.handle_request(request(ResourceType::RouteConfiguration, &["outbound|80||a.example"])).unwrap();
    assert_eq!(responses(&mut state), ["RouteConfiguration: outbound|80||a.example"]);
    state.handle_request(request(ResourceType::ClusterLoadAssignment, &["outbound|80||absent"])).unwrap();
    assert_eq!(responses(&mut state), Vec::<String>::new());
}

#[test]
fn a_change_brings_only_what_changed() {
    let mut state = stream(&mesh(SERVICES, 1));
    let both = ["outbound|80||a.example", "outbound|80||b.example"];
    for kind in ResourceType::ALL {
        let names = if kind == ResourceType::ClusterLoadAssignment { &both[..] } else { &[] };
        state.handle_request(request(kind, names)).unwrap();
    }
    assert_eq!(responses(&mut state).len(), 4);
    state.handle_mesh(&mesh(SERVICES, 2));
    assert_eq!(responses(&mut state), Vec::<String>::new());
    state.handle_mesh(&mesh(&SERVICES.replace("127.0.0.2", "127.0.0.3"), 3));
    assert_eq!(responses(&mut state), ["ClusterLoadAssignment: outbound|80||b.example"]);
    let only_a = SERVICES.split("---").next().unwrap();
    state.handle_mesh(&mesh(only_a, 4));
    assert_eq!(responses(&mut state), ["Cluster: outbound|80||a.example", "Listener: a.example:80"]);
}

#[test]
fn stale_acknowledgements_and_nacks_change_nothing() {
    let mut state = stream(&mesh(SERVICES, 1));
    state.handle_request(request(ResourceType::Cluster, &[])).unwrap();
    let nonce = Arc::from(state.poll_response().unwrap().nonce.to_string());
    let nack = Request { error: Some("no".into()), response_nonce: nonce, ..request(ResourceType::Cluster, &[]) };
    state.handle_request(nack).unwrap();
    let stale = Request { response_nonce: "other".into(), ..request(ResourceType::Cluster, &["a"]) };
    state.handle_request(stale).unwrap();
    assert!(state.poll_response().is_none());
    assert_eq!(state.types[ResourceType::Cluster as usize].interest(), Interest::Everything);
}

#[test]
fn a_client_must_identify_its_node() {
    let mut state = stream(&mesh(SERVICES, 1));
    let anonymous = Request { node: None, ..request(ResourceType::Cluster, &[]) };
    assert_eq!(state.handle_request(anonymous).unwrap_err(), Refusal::Anonymous);
}

/// A subscription, or a change of one, in the incremental form.
fn delta(resource_type: ResourceType, subscribe: &[&str], unsubscribe: &[&str]) -> DeltaDiscoveryRequest {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    DeltaDiscoveryRequest {
        node: Some(node::to_xds(&Node::client(Role::Library, "default"))),
        type_url: resource_type.type_url(),
        resource_names_subscribe: names(subscribe),
        resource_names_unsubscribe: names(unsubscribe),
        ..DeltaDiscoveryRequest::default()
    }
}

/// `TYPE: names -removed names` of every response that waits.
fn deltas(state: &mut StreamState) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(response) = state.poll_response().map(DeltaDiscoveryResponse::from) {
        let kind = ResourceType::from_type_url(&response.type_url).unwrap();
        let mut text = format!("{kind:?}:");
        for resource in &response.resources {
            text.push_str(&format!(" {}", resource.name));
        }
        for name in &response.removed_resources {
            text.push_str(&format!(" -{name}"));
        }
        all.push(text);
    }
    all
}

const A: &str = "outbound|80||a.example";
const B: &str = "outbound|80||b.example";

#[test]
fn the_endpoints_of_a_changed_cluster_follow_it() {
    let rule = "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a}\nspec: {host: a.example, \
        trafficPolicy: {connectionPool: {tcp: {connectTimeout: 3s}}}}\n";
    let changed = mesh(&format!("{SERVICES}{rule}"), 2);
    let mut state = stream(&mesh(SERVICES, 1));
    state.handle_request(request(ResourceType::Cluster, &[])).unwrap();
    state.handle_request(request(ResourceType::ClusterLoadAssignment, &[A, B])).unwrap();
    assert_eq!(responses(&mut state).len(), 2);
    state.handle_mesh(&changed);
    let whole = format!("Cluster: {A} {B}");
    assert_eq!(responses(&mut state), [whole, format!("ClusterLoadAssignment: {A}")]);

    let mut state = open(&mesh(SERVICES, 1), Form::Incremental, Caller::Local);
    state.handle_delta_request(&delta(ResourceType::Cluster, &[], &[])).unwrap();
    state.handle_delta_request(&delta(ResourceType::ClusterLoadAssignment, &[A, B], &[])).unwrap();
    assert_eq!(deltas(&mut state).len(), 2);
    state.handle_mesh(&changed);
    assert_eq!(deltas(&mut state), [format!("Cluster: {A}"), format!("ClusterLoadAssignment: {A}")]);
}

#[test]
fn versions_are_those_of_the_contents() {
    let version = |text: &str, version: u64| {
        let mut state = stream(&mesh(text, version));
        state.handle_request(request(ResourceType::Cluster, &[])).unwrap();
        DiscoveryResponse::from(state.poll_response().unwrap()).version_info
    };
    assert_eq!(version(SERVICES, 1), version(SERVICES, 2));
    assert_ne!(version(SERVICES, 1), version(&SERVICES.replace("b.example", "c.example"), 1));
}

#[test]
fn names_that_follow_the_wildcard_replace_it_and_no_name_is_then_nothing() {
    let mut state = stream(&mesh(SERVICES, 1));
    state.handle_request(request(ResourceType::Cluster, &["*", A])).unwrap();
    assert_eq!(state.poll_response().unwrap().resources.len(), 2);
    let nonce = Arc::from("1");
    state.handle_request(Request { response_nonce: nonce, ..request(ResourceType::Cluster, &[A]) }).unwrap();
    assert_eq!(responses(&mut state), [format!("Cluster: {A}")]);
    state.handle_request(request(ResourceType::Cluster, &[])).unwrap();
    assert_eq!(responses(&mut state), ["Cluster: "]);
    state.handle_mesh(&mesh(&SERVICES.replace("b.example", "c.example"), 2));
    assert_eq!(responses(&mut state), Vec::<String>::new());
}

#[test]
fn the_incremental_form_tells_what_is_gone_and_what_there_is_not() {
    let mut state = open(&mesh(SERVICES, 1), Form::Incremental, Caller::Local);
    state.handle_delta_request(&delta(ResourceType::Cluster, &[], &[])).unwrap();
    state.handle_delta_request(&delta(ResourceType::ClusterLoadAssignment, &[A, "absent"], &[])).unwrap();
    let first = format!("Cluster: {A} {B}");
    assert_eq!(deltas(&mut state), [first, format!("ClusterLoadAssignment: {A} -absent")]);
    state.handle_delta_request(&delta(ResourceType::ClusterLoadAssignment, &[A], &[])).unwrap();
    assert_eq!(deltas(&mut state), [format!("ClusterLoadAssignment: {A}")], "who asks again gets it again");
    state.handle_delta_request(&delta(ResourceType::ClusterLoadAssignment, &[B], &[A])).unwrap();
    assert_eq!(deltas(&mut state), [format!("ClusterLoadAssignment: {B}")]);
    state.handle_mesh(&mesh(SERVICES.split("---").next().unwrap(), 2));
    assert_eq!(deltas(&mut state), [format!("Cluster: -{B}"), format!("ClusterLoadAssignment: -{B}")]);
    state.handle_mesh(&mesh(SERVICES, 3));
    assert_eq!(deltas(&mut state), [format!("Cluster: {B}"), format!("ClusterLoadAssignment: {B}")]);
}

#[test]
fn a_client_that_comes_back_gets_what_has_changed_since() {
    let mut state = open(&mesh(SERVICES, 1), Form::Incremental, Caller::Local);
    state.handle_delta_request(&delta(ResourceType::Cluster, &[], &[])).unwrap();
    let first = DeltaDiscoveryResponse::from(state.poll_response().unwrap());
    let versions = || first.resources.iter().map(|resource| (resource.name.clone(), resource.version.clone()));
    let back = |more: &[(&str, &str)]| DeltaDiscoveryRequest {
        initial_resource_versions: versions()
            .chain(more.iter().map(|(name, version)| ((*name).to_owned(), (*version).to_owned())))
            .collect(),
        ..delta(ResourceType::Cluster, &[], &[])
    };
    for (request, expected) in [
        (back(&[]), "Cluster:".to_owned()),
        (back(&[("gone", "17")]), "Cluster: -gone".to_owned()),
        (back(&[(A, "from another control plane")]), format!("Cluster: {A}")),
    ] {
        let mut state = open(&mesh(SERVICES, 7), Form::Incremental, Caller::Local);
        state.handle_delta_request(&request).unwrap();
        assert_eq!(deltas(&mut state), [expected]);
    }
}

#[test]
fn a_node_must_be_of_the_identity_that_its_client_has_proved() {
    let open = |identity: &str, account: Option<&str>| {
        let caller = Caller::Verified(vec![identity.to_owned()]);
        let mut state = open(&mesh(SERVICES, 1), Form::StateOfTheWorld, caller);
        let node = Node::client(Role::Library, "default").with_service_account(account).unwrap();
        let node = Some(Arc::new(node::to_xds(&node)));
        state.handle_request(Request { node, ..request(ResourceType::Cluster, &[]) }).map(|()| state)
    };
    let one = "spiffe://cluster.local/ns/default/sa/one";
    for account in [None, Some("one")] {
        let state = open(one, account).unwrap();
        assert_eq!(state.client.unwrap().view.node.service_account.as_deref(), Some("one"));
    }
    for (identity, account) in [
        (one, Some("two")),
        ("spiffe://cluster.local/ns/other/sa/one", Some("one")),
        ("spiffe://elsewhere/ns/default/sa/one", None),
        ("one", None),
    ] {
        assert!(matches!(open(identity, account), Err(Refusal::OtherIdentity { .. })), "{identity} {account:?}");
    }
}
