//! The translation of listeners for connections, compared with protobuf-JSON.

use mesh_xds::json::{from_text, to_json};
use mesh_xds::proto::envoy::config::listener::v3::Listener;

use super::{resource, resources};
use crate::config::Labels;
use crate::translate::{Interception, Node, Role};

/// Services that are not HTTP, beside those of the other tests.
const SERVICES: &str = "
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: db}
spec:
  hosts: [db.default.svc.cluster.local]
  addresses: [240.0.0.9]
  ports: [{number: 5432, name: tcp, protocol: TCP}, {number: 27017, name: mongo, protocol: MONGO}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.1, labels: {version: v1}}, {address: 127.0.0.2, labels: {version: v2}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: web}
spec:
  hosts: [a.web.example, b.web.example]
  ports: [{number: 443, name: tls, protocol: TLS}]
  resolution: DNS
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: db}
spec:
  host: db
  trafficPolicy: {connectionPool: {tcp: {idleTimeout: 0s, maxConnectionDuration: 1h}}}
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
";

/// The fields of TCP proxies to the database that come from its DestinationRule.
const POOL: &str = "idle_timeout: 0s, max_downstream_connection_duration: 3600s";
const TCP_PROXY: &str = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";

/// A filter that passes connections on to a cluster, whose name is the prefix of its statistics.
fn proxy_to(cluster: &str, more: &str) -> String {
    format!(
        "{{name: envoy.filters.network.tcp_proxy, typed_config: {{'@type': {TCP_PROXY}, stat_prefix: '{cluster}', cluster: \
         '{cluster}'{more}}}}}"
    )
}

fn to_db(port: u16, subset: &str) -> String {
    proxy_to(&format!("outbound|{port}|{subset}|db.default.svc.cluster.local"), &format!(", {POOL}"))
}

const TLS_INSPECTOR: &str = "listener_filters: [{name: envoy.filters.listener.tls_inspector, typed_config: {'@type': \
     type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector, initial_read_buffer_size: 512}}]";
const NO_TIMEOUT: &str = "listener_filters_timeout: 0s, continue_on_listener_filters_timeout: true";

#[track_caller]
fn check(listeners: &[Listener], name: &str, expected: &str) {
    let names: Vec<_> = listeners.iter().map(|listener| listener.name.as_str()).collect();
    let Some(found) = listeners.iter().find(|listener| listener.name == name) else { panic!("no {name} in {names:?}") };
    let (address, port) = name.rsplit_once('_').unwrap();
    let address = format!("address: {{socket_address: {{address: '{address}', port_value: {port}}}}}");
    let expected: Listener = from_text(&format!("{{name: '{name}', {address}, {expected}}}"), "expected").unwrap();
    assert_eq!(to_json(found).to_string(), to_json(&expected).to_string());
}

/// Listeners of a sidecar of `a` whose Sidecar resource has this, under these rules.
fn sidecar(spec: &str, rules: &str) -> Vec<Listener> {
    let spec = format!("{{workloadSelector: {{labels: {{app: a}}}}, {spec}}}");
    let node = Node::new(Role::Sidecar(Interception::None), Some("a"), None, Labels::new()).unwrap();
    resources(&format!("{SERVICES}{}{rules}", resource("Sidecar", "s", &spec)), &node).listeners
}

fn egress(number: u16, protocol: &str, host: &str) -> String {
    format!("egress: [{{port: {{number: {number}, protocol: {protocol}, name: p}}, hosts: ['{host}']}}]")
}

fn virtual_service(host: &str, rules: &str) -> String {
    resource("VirtualService", "vs", &format!("{{hosts: ['{host}'], {rules}}}"))
}

#[test]
fn a_port_of_a_sidecar_goes_to_the_service_that_has_it() {
    let chain =
        |filters: &str| format!("traffic_direction: OUTBOUND, {NO_TIMEOUT}, filter_chains: [{{filters: [{filters}]}}]");
    check(
        &sidecar(&egress(5432, "TCP", "./db.default.svc.cluster.local"), ""),
        "127.0.0.1_5432",
        &chain(&to_db(5432, "")),
    );
    let mongo = format!(
        "{{name: envoy.filters.network.mongo_proxy, typed_config: {{'@type': \
         type.googleapis.com/envoy.extensions.filters.network.mongo_proxy.v3.MongoProxy, stat_prefix: \
         outbound|27017||db.default.svc.cluster.local}}}}, {}",
        to_db(27017, "")
    );
    check(&sidecar(&egress(27017, "MONGO", "./db.default.svc.cluster.local"), ""), "127.0.0.1_27017", &chain(&mongo));
    let web = proxy_to("outbound|443||a.web.example", "");
    check(&sidecar(&egress(443, "TLS", "./*"), ""), "127.0.0.1_443", &chain(&web));
}

#[test]
fn tcp_rules_decide_in_their_order() {
    let rules = "tcp: [
        {match: [{port: 1}], route: [{destination: {host: a, port: {number: 80}}}]},
        {match: [{destinationSubnets: [10.1.2.3/8, '::1']}, {sourceLabels: {app: b}}],
         route: [{destination: {host: db, subset: v1, port: {number: 5432}}}]},
        {match: [{sourceLabels: {app: a}}], route: [{destination: {host: db, subset: v1, port: {number: 5432}}, weight: 3},
         {destination: {host: a}}, {destination: {host: db, subset: v2, port: {number: 27017}}, weight: 1}]},
        {match: [{port: 5432}], route: [{destination: {host: a}}]}]";
    let weighted = format!(
        "{{name: envoy.filters.network.tcp_proxy, typed_config: {{'@type': {TCP_PROXY}, stat_prefix: vs.default, {POOL}, \
         weighted_clusters: {{clusters: [{{name: outbound|5432|v1|db.default.svc.cluster.local, weight: 3}}, \
         {{name: outbound|27017|v2|db.default.svc.cluster.local, weight: 1}}]}}}}}}"
    );
    let prefixes =
        "prefix_ranges: [{address_prefix: 10.0.0.0, prefix_len: 8}, {address_prefix: '::1', prefix_len: 128}]";
    let expected = format!(
        "traffic_direction: OUTBOUND, {NO_TIMEOUT}, filter_chains: [{{filter_chain_match: {{{prefixes}}}, filters: [{}]}}], \
         default_filter_chain: {{filters: [{weighted}]}}",
        to_db(5432, "v1")
    );
    let listeners = sidecar(&egress(5432, "TCP", "./db.default.svc.cluster.local"), &virtual_service("db", rules));
    check(&listeners, "127.0.0.1_5432", &expected);
}

#[test]
fn tls_rules_match_the_server_name() {
    let rules = "tls: [
        {match: [{sniHosts: [B.web.example]}, {sniHosts: [c.web.example], port: 1}],
         route: [{destination: {host: b.web.example}}]},
        {match: [{sniHosts: ['*.web.example', b.web.example]}], route: [{destination: {host: a.web.example}}]}]";
    let chain = |name: &str, cluster: &str| {
        format!("{{filter_chain_match: {{server_names: ['{name}']}}, filters: [{}]}}", proxy_to(cluster, ""))
    };
    let expected = format!(
        "traffic_direction: OUTBOUND, {NO_TIMEOUT}, {TLS_INSPECTOR}, filter_chains: [{}, {}]",
        chain("b.web.example", "outbound|443||b.web.example"),
        chain("*.web.example", "outbound|443||a.web.example"),
    );
    let listeners = sidecar(&egress(443, "TLS", "./*"), &virtual_service("*.web.example", rules));
    check(&listeners, "127.0.0.1_443", &expected);
}

#[test]
fn a_workload_gets_connections_at_the_ports_of_its_sidecar() {
    let listeners =
        sidecar("ingress: [{port: {number: 9000, protocol: TCP, name: p}, defaultEndpoint: '127.0.0.1:9001'}]", "");
    let expected =
        format!("traffic_direction: INBOUND, filter_chains: [{{filters: [{}]}}]", proxy_to("inbound|9000||", ""));
    check(&listeners, "0.0.0.0_9000", &expected);
}

/// Listeners of a gateway with these servers, under these rules.
fn gateway(servers: &str, rules: &str) -> Vec<Listener> {
    let gateway =
        resource("Gateway", "edge", &format!("{{selector: {{istio: ingressgateway}}, servers: [{servers}]}}"));
    resources(&format!("{SERVICES}{gateway}{rules}"), &Node::client(Role::Gateway, "istio-system")).listeners
}

#[test]
fn a_gateway_passes_connections_on_by_the_first_rule_for_its_port() {
    let server = |number: u16, bind: &str| {
        format!("{{port: {{number: {number}, name: p{number}, protocol: TCP}}, hosts: ['*.example'], {bind}}}")
    };
    let rules = virtual_service(
        "x.example",
        "gateways: [edge], tcp: [{match: [{port: 1}], route: [{destination: {host: a}}]},
         {match: [{port: 9000}, {port: 9001}], route: [{destination: {host: db, port: {number: 5432}}}]},
         {route: [{destination: {host: a}}]}]",
    );
    let listeners = gateway(&[server(9000, ""), server(9001, "bind: 127.0.0.1")].join(", "), &rules);
    let expected = format!("traffic_direction: OUTBOUND, filter_chains: [{{filters: [{}]}}]", to_db(5432, ""));
    check(&listeners, "0.0.0.0_9000", &expected);
    check(&listeners, "127.0.0.1_9001", &expected);
    let unbound = virtual_service("x.test", "gateways: [edge], tcp: [{route: [{destination: {host: a}}]}]");
    assert_eq!(gateway(&server(9000, ""), &unbound), [], "there is no destination for connections");
}

#[test]
fn a_gateway_passes_tls_on_by_the_names_that_it_serves() {
    let server = "{port: {number: 9443, name: tls, protocol: TLS}, hosts: ['*.web.example'], tls: {mode: PASSTHROUGH}}";
    let rules = virtual_service(
        "*.example",
        "gateways: [edge], tls: [
         {match: [{sniHosts: [b.web.example, other.example]}], route: [{destination: {host: b.web.example}}]},
         {match: [{sniHosts: [db.example]}], route: [{destination: {host: db, port: {number: 5432}}}]},
         {match: [{sniHosts: [c.web.example], gateways: [other]}], route: [{destination: {host: a.web.example}}]}]",
    );
    let expected = format!(
        "traffic_direction: OUTBOUND, {TLS_INSPECTOR}, filter_chains: [{{filter_chain_match: {{server_names: \
         [b.web.example]}}, filters: [{}]}}]",
        proxy_to("outbound|443||b.web.example", "")
    );
    check(&gateway(server, &rules), "0.0.0.0_9443", &expected);
}

#[test]
fn a_sidecar_sees_the_services_that_its_rules_pass_connections_on_to() {
    let rules = virtual_service("db", "tcp: [{route: [{destination: {host: b.other.svc.cluster.local}}]}]");
    let node = Node::new(Role::Sidecar(Interception::None), Some("a"), None, Labels::new()).unwrap();
    let spec = format!(
        "{{workloadSelector: {{labels: {{app: a}}}}, {}}}",
        egress(5432, "TCP", "./db.default.svc.cluster.local")
    );
    let resources = resources(&format!("{SERVICES}{}{rules}", resource("Sidecar", "s", &spec)), &node);
    let names: Vec<_> = resources.clusters.iter().map(|cluster| cluster.name.as_str()).collect();
    assert!(names.contains(&"outbound|81||b.other.svc.cluster.local"), "{names:?}");
}

#[test]
fn rules_for_connections_leave_requests_alone() {
    let rules = virtual_service("a", "tcp: [{route: [{destination: {host: db, port: {number: 5432}}}]}]");
    let resources = resources(&format!("{SERVICES}{rules}"), &Node::client(Role::Library, "default"));
    let route = &resources.routes.iter().find(|config| config.name.contains("|a.default")).unwrap().virtual_hosts[0];
    assert_eq!(route.routes[0].name, "default");
}
