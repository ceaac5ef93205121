//! What is in force after each message of a control plane.

use mesh_core::rng::SplitMix64;
use prost_types::Any;

use super::*;
use crate::client::RESOURCE_TIMEOUT;
use crate::client::machine::Update;
use crate::client::testing::{cluster, eds_cluster, endpoints, listener, response, routes, socket_listener};

const CLUSTER: ResourceType = ResourceType::Cluster;
const ENDPOINTS: ResourceType = ResourceType::ClusterLoadAssignment;
const LISTENER: ResourceType = ResourceType::Listener;
const ROUTES: ResourceType = ResourceType::RouteConfiguration;

/// A client with a stream, and what it has put out.
struct Plane {
    client: ClientState,
    now: Instant,
    seen: Vec<String>,
    /// The last request for each type.
    requested: BTreeMap<String, String>,
}

impl Plane {
    fn new(scope: Scope) -> Self {
        let now = Instant::now();
        let client = ClientState::new(Node::default(), scope, now);
        let mut plane = Self { client, now, seen: Vec::new(), requested: BTreeMap::new() };
        plane.pass(Duration::ZERO);
        plane
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.client.handle_timeout(self.now, &mut SplitMix64::new(1));
        self.take();
    }

    fn push(&mut self, kind: ResourceType, version: &str, resources: Vec<Any>) {
        self.client.handle_response(response(kind, version, resources));
        self.take();
    }

    /// Resources that a stream of their own has accepted.
    fn push_from_elsewhere(&mut self, kind: ResourceType, resources: &[Any]) {
        let accepted: Vec<_> = resources.iter().map(|any| crate::resource::decode(any).unwrap()).collect();
        let names = accepted.iter().map(|decoded| Arc::from(decoded.resource.name()));
        let received = names.zip(resources.iter().cloned().map(Arc::new)).collect();
        let (version, removed, rejected) = ("1".into(), Vec::new(), Vec::new());
        let update = Update { resource_type: kind, version, is_answer: true, accepted, removed, rejected };
        self.client.handle_elsewhere(Event::Update(update), received, self.now);
        self.take();
    }

    fn use_listeners(&mut self, names: &[&str]) {
        self.client.handle_used_listeners(names.iter().map(|name| Arc::from(*name)).collect(), self.now);
        self.pass(Duration::ZERO);
    }

    fn take(&mut self) {
        while let Some(output) = self.client.poll_output(self.now) {
            match output {
                Output::Connect(_) => self.client.handle_stream_up(self.now),
                Output::Send(request) => {
                    assert_eq!(request.error, None);
                    let names: Vec<&str> = request.resource_names.iter().map(|name| &**name).collect();
                    self.requested.insert(request.resource_type.to_string(), names.join(" "));
                }
                Output::Change(change) => self.seen.push(text(&change)),
                Output::Notice(Notice::Settled) => self.seen.push("settled".to_owned()),
                Output::Notice(Notice::Missing { name, .. }) => self.seen.push(format!("missing {name}")),
                Output::Notice(_) => {}
                Output::Follow { resource_type, names } => {
                    let names: Vec<&str> = names.iter().map(|name| &**name).collect();
                    self.seen.push(format!("follow {resource_type} {}", names.join(" ")));
                }
                Output::Abandon => panic!("the stream is open"),
                Output::Leave | Output::Probe { .. } => panic!("there is one control plane"),
            }
        }
    }

    /// Checks what happened since it was last checked.
    #[track_caller]
    fn check(&mut self, expected: &[&str]) {
        assert_eq!(std::mem::take(&mut self.seen), expected);
    }

    /// The last request for this type.
    fn requested(&self, kind: ResourceType) -> Option<&str> {
        self.requested.get(&kind.to_string()).map(String::as_str)
    }
}

fn text(change: &Change) -> String {
    match change {
        Change::SetSecret(secret) => format!("secret {}", secret.name),
        Change::RemoveSecret(name) => format!("-secret {name}"),
        Change::SetCluster(cluster) => format!("cluster {}", cluster.name),
        Change::SetEndpoints { service_name, .. } => format!("endpoints {service_name}"),
        Change::SetRoutes(config) => format!("routes {}", config.name),
        Change::SetListener(listener) => format!("listener {}", listener.name),
        Change::RemoveListener(name) => format!("-listener {name}"),
        Change::RemoveRoutes(name) => format!("-routes {name}"),
        Change::RetireCluster(name) => format!("-cluster {name}"),
        Change::RemoveCluster(name) => format!("-cluster {name} in use"),
        Change::RemoveEndpoints(name) => format!("-endpoints {name}"),
    }
}

/// A cluster with one endpoint on loopback.
fn cluster_at(name: &str, port: u16) -> Any {
    cluster(&format!(
        "{{name: {name}, load_assignment: {{cluster_name: {name}, endpoints: [{{lb_endpoints: [{{endpoint: {{address: \
         {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}}}]}}]}}}}"
    ))
}

/// A cluster whose endpoints are those called `service` from the discovery service at the cluster `xds`.
fn eds_cluster_over_grpc(name: &str, service: &str) -> Any {
    cluster(&format!(
        "{{name: {name}, type: EDS, eds_cluster_config: {{service_name: {service}, eds_config: {{api_config_source: \
         {{api_type: GRPC, transport_api_version: V3, grpc_services: [{{envoy_grpc: {{cluster_name: xds}}}}]}}}}}}}}"
    ))
}

fn decoded(any: &Any) -> Resource {
    crate::resource::decode(any).unwrap().resource
}

#[test]
fn nothing_replaces_or_removes_a_resource_of_the_bootstrap() {
    let mut plane = Plane::new(Scope::Bootstrap { listeners: true, clusters: true });
    plane.client.handle_fixed(decoded(&cluster_at("a", 1)), plane.now);
    plane.client.handle_fixed(decoded(&socket_listener("l", "r")), plane.now);
    plane.pass(Duration::ZERO);
    plane.push(ROUTES, "1", vec![routes("r", "a")]);
    plane.check(&["cluster a", "routes r", "listener l"]);
    plane.push(CLUSTER, "1", vec![cluster_at("a", 2), cluster_at("b", 1)]);
    plane.push(LISTENER, "1", vec![]);
    plane.check(&["cluster b", "settled"]);
    plane.push(CLUSTER, "2", vec![]);
    plane.check(&["-cluster b", "settled"]);
}

#[test]
fn resources_from_elsewhere_are_followed_for_as_long_as_they_are_named() {
    let name = "grpc:e@xds";
    let mut plane = Plane::new(Scope::Bootstrap { listeners: false, clusters: true });
    plane.client = ClientState::new(Node::default(), Scope::Bootstrap { listeners: false, clusters: true }, plane.now)
        .with_sources(Sources::at_clusters(["xds".into()]));
    plane.pass(Duration::ZERO);
    plane.push(CLUSTER, "1", vec![eds_cluster_over_grpc("a", "e")]);
    assert_eq!(plane.requested(ENDPOINTS), None);
    plane.check(&[&format!("follow {ENDPOINTS} {name}")]);
    plane.push_from_elsewhere(ENDPOINTS, &[endpoints(name, 1)]);
    plane.check(&[&format!("endpoints {name}"), "cluster a", "settled"]);
    assert!(plane.client.accepted(ENDPOINTS, name).is_some());
    plane.push(CLUSTER, "2", vec![]);
    plane.check(&["-cluster a", &format!("-endpoints {name}"), &format!("follow {ENDPOINTS} "), "settled"]);
    assert!(plane.client.accepted(ENDPOINTS, name).is_none());
}

#[test]
fn all_of_a_type_from_elsewhere_are_awaited() {
    let mut plane = Plane::new(Scope::Bootstrap { listeners: false, clusters: false });
    plane.check(&["settled"]);
    plane.client.handle_all_from_elsewhere(CLUSTER);
    plane.client.handle_fixed(decoded(&cluster_at("fixed", 1)), plane.now);
    plane.take();
    plane.check(&["cluster fixed"]);
    plane.push_from_elsewhere(CLUSTER, &[cluster_at("a", 1)]);
    plane.check(&["cluster a", "settled"]);
}

#[test]
fn a_resource_is_in_force_after_those_that_it_names() {
    let mut plane = Plane::new(Scope::Everything);
    plane.push(CLUSTER, "1", vec![eds_cluster("a")]);
    plane.check(&[]);
    plane.push(LISTENER, "1", vec![listener("l", "r")]);
    plane.check(&[]);
    plane.push(ROUTES, "1", vec![routes("r", "a")]);
    plane.check(&[]);
    plane.push(ENDPOINTS, "1", vec![endpoints("a", 1)]);
    plane.check(&["endpoints a", "cluster a", "routes r", "listener l", "settled"]);

    plane.push(ENDPOINTS, "2", vec![endpoints("a", 2)]);
    plane.check(&["endpoints a", "settled"]);
    let requested = [CLUSTER, ENDPOINTS, LISTENER, ROUTES].map(|kind| plane.requested(kind).unwrap());
    assert_eq!(requested, ["", "a", "", "r"]);
}

#[test]
fn a_cluster_goes_when_no_route_names_it_any_more() {
    let mut plane = Plane::new(Scope::Everything);
    plane.push(CLUSTER, "1", vec![eds_cluster("a")]);
    plane.push(ENDPOINTS, "1", vec![endpoints("a", 1)]);
    plane.push(LISTENER, "1", vec![listener("l", "r")]);
    plane.push(ROUTES, "1", vec![routes("r", "a")]);
    plane.check(&["endpoints a", "cluster a", "routes r", "listener l", "settled"]);

    plane.push(CLUSTER, "2", vec![cluster("{name: b}")]);
    plane.check(&["cluster b", "settled"]);
    plane.push(ROUTES, "2", vec![routes("r", "b")]);
    plane.check(&["routes r", "-cluster a", "-endpoints a", "settled"]);

    plane.push(LISTENER, "3", vec![]);
    plane.check(&["-listener l", "-routes r", "settled"]);
    plane.push(CLUSTER, "3", vec![]);
    plane.check(&["-cluster b", "settled"]);
}

#[test]
fn a_cluster_that_routes_still_name_goes_after_fifteen_seconds() {
    let mut plane = Plane::new(Scope::Everything);
    plane.push(CLUSTER, "1", vec![cluster("{name: a}")]);
    plane.push(LISTENER, "1", vec![listener("l", "r")]);
    plane.push(ROUTES, "1", vec![routes("r", "a")]);
    plane.check(&["cluster a", "routes r", "listener l", "settled"]);
    plane.push(CLUSTER, "2", vec![]);
    plane.check(&["settled"]);
    plane.pass(RESOURCE_TIMEOUT);
    plane.check(&["-cluster a in use"]);
}

#[test]
fn resources_wait_fifteen_seconds_for_others_at_most() {
    let mut plane = Plane::new(Scope::Everything);
    plane.push(CLUSTER, "1", vec![eds_cluster("a")]);
    plane.push(LISTENER, "1", vec![listener("l", "r")]);
    plane.push(ROUTES, "1", vec![routes("r", "a")]);
    plane.check(&[]);
    plane.pass(RESOURCE_TIMEOUT);
    plane.check(&["missing a", "cluster a", "routes r", "listener l", "settled"]);
}

/// A client that uses the listener `l`, whose routes `r` go to `a`.
fn by_name(scope: Scope) -> Plane {
    let mut plane = Plane::new(scope);
    plane.use_listeners(&["l"]);
    plane.push(LISTENER, "1", vec![listener("l", "r")]);
    assert_eq!(plane.requested(ROUTES), Some("r"));
    plane.push(ROUTES, "1", vec![routes("r", "a")]);
    assert_eq!(plane.requested(CLUSTER), Some("a"));
    plane.push(CLUSTER, "1", vec![eds_cluster("a")]);
    assert_eq!(plane.requested(ENDPOINTS), Some("a"));
    plane.push(ENDPOINTS, "1", vec![endpoints("a", 1)]);
    plane
}

#[test]
fn the_names_in_a_used_listener_are_requested() {
    let mut plane = by_name(Scope::UsedListeners);
    assert_eq!(plane.requested(LISTENER), Some("l"));
    plane.check(&["settled", "endpoints a", "cluster a", "routes r", "listener l", "settled"]);
}

#[test]
fn routes_by_name_change_only_when_their_new_cluster_is_there() {
    let mut plane = by_name(Scope::UsedListeners);
    plane.seen.clear();
    plane.push(ROUTES, "2", vec![routes("r", "b")]);
    assert_eq!(plane.requested(CLUSTER), Some("a b"), "the old one is still used");
    plane.push(CLUSTER, "2", vec![eds_cluster("a"), cluster("{name: b}")]);
    plane.check(&["cluster b", "routes r", "settled"]);
    plane.pass(UNUSED_CLUSTER_TIME / 2);
    plane.push(ROUTES, "3", vec![routes("r", "a")]);
    plane.check(&["routes r", "settled"]);
    assert_eq!(plane.requested(CLUSTER), Some("a b"), "traffic may come back to either");
    plane.pass(UNUSED_CLUSTER_TIME);
    plane.check(&["-cluster b"]);
    assert_eq!((plane.requested(CLUSTER), plane.requested(ENDPOINTS)), (Some("a"), Some("a")));
}

#[test]
fn unused_resources_are_unsubscribed() {
    let mut plane = by_name(Scope::UsedListeners);
    plane.seen.clear();
    plane.use_listeners(&[]);
    plane.check(&["-listener l", "-routes r", "settled"]);
    plane.pass(UNUSED_CLUSTER_TIME);
    plane.check(&["-cluster a", "-endpoints a"]);
    for kind in ResourceType::ALL {
        // Nothing names a secret, so none was ever requested.
        let expected = (kind != ResourceType::Secret).then_some("");
        assert_eq!(plane.requested(kind), expected, "{kind}");
    }
    assert_eq!(plane.client.poll_timeout(), None);
}

#[test]
fn a_cluster_that_the_control_plane_takes_away_is_not_waited_for() {
    let mut plane = by_name(Scope::UsedListeners);
    plane.push(CLUSTER, "2", vec![]);
    plane.pass(RESOURCE_TIMEOUT);
    plane.seen.clear();
    plane.use_listeners(&["l", "m"]);
    plane.push(LISTENER, "2", vec![listener("l", "r"), listener("m", "s")]);
    plane.push(ROUTES, "2", vec![routes("s", "a")]);
    plane.check(&["routes s", "listener m", "settled"]);
    plane.push(CLUSTER, "3", vec![cluster("{name: a}")]);
    plane.check(&["cluster a", "settled"]);
}

#[test]
fn all_listeners_are_known_and_only_those_used_have_routes() {
    let mut plane = Plane::new(Scope::AllListeners);
    let listeners = || vec![listener("l", "r"), listener("other", "s"), socket_listener("inbound", "in")];
    plane.push(LISTENER, "1", listeners());
    assert_eq!((plane.requested(LISTENER), plane.requested(ROUTES)), (Some(""), Some("in")), "a socket is always used");
    plane.push(ROUTES, "1", vec![routes("in", "program")]);
    plane.push(CLUSTER, "1", vec![cluster("{name: program}")]);
    plane.check(&["listener l", "listener other", "cluster program", "routes in", "listener inbound", "settled"]);

    plane.use_listeners(&["l"]);
    assert_eq!(plane.requested(ROUTES), Some("in r"));
    plane.check(&[]);
    plane.push(ROUTES, "2", vec![routes("r", "a")]);
    plane.push(CLUSTER, "2", vec![cluster("{name: a}"), cluster("{name: program}")]);
    plane.check(&["cluster a", "routes r", "settled"]);

    plane.use_listeners(&[]);
    plane.check(&["-routes r", "settled"]);
    plane.pass(UNUSED_CLUSTER_TIME);
    plane.check(&["-cluster a"]);
    assert_eq!((plane.requested(ROUTES), plane.requested(CLUSTER)), (Some("in"), Some("program")));
}

#[test]
fn secrets_are_requested_by_the_names_in_clusters() {
    const SECRET: ResourceType = ResourceType::Secret;
    let tls = |names: &str| {
        cluster(&format!(
            "{{name: a, type: STATIC, transport_socket: {{name: tls, typed_config: {{'@type': \
             type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, common_tls_context: \
             {{{names}}}}}}}}}"
        ))
    };
    let own = "tls_certificate_sds_secret_configs: [{name: default, sds_config: {ads: {}}}]";
    let root = "validation_context_sds_secret_config: {name: ROOTCA, sds_config: {ads: {}}}";
    let mut plane = Plane::new(Scope::Everything);
    plane.push(LISTENER, "1", vec![]);
    plane.push(CLUSTER, "1", vec![tls(&format!("{own}, {root}"))]);
    plane.check(&["cluster a"]);
    assert_eq!(plane.requested(SECRET), Some("ROOTCA default"));
    let secret = |name: &str| {
        let text = format!("{{name: {name}, validation_context: {{trusted_ca: {{inline_string: pem}}}}}}");
        crate::resource::pack(
            &crate::json::from_text::<crate::proto::envoy::extensions::transport_sockets::tls::v3::Secret>(&text, "")
                .unwrap(),
        )
    };
    plane.push(SECRET, "1", vec![secret("ROOTCA")]);
    plane.push(SECRET, "2", vec![secret("default")]);
    plane.check(&["secret ROOTCA", "secret default", "settled"]);
    // A secret that is no longer named is forgotten, also by this side.
    plane.push(CLUSTER, "2", vec![tls(root)]);
    plane.check(&["cluster a", "-secret default", "settled"]);
    assert_eq!(plane.requested(SECRET), Some("ROOTCA"));
}
