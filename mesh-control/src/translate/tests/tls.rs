//! The translation of TLS, compared with protobuf-JSON.

use std::sync::Arc;

use mesh_xds::json::{self, from_text};
use mesh_xds::proto::envoy::config::cluster::v3::Cluster;
use mesh_xds::proto::envoy::config::core::v3::TransportSocket;
use mesh_xds::proto::envoy::config::listener::v3::{FilterChain, Listener};

use super::{Resources, client, translate};
use crate::config::{Labels, Options};
use crate::diagnostic::Source;
use crate::load::Loaded;
use crate::translate::{Interception, Node, Role, redacted};

const SERVICES: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: a}
spec:
  hosts: [a.default.svc.cluster.local]
  location: MESH_INTERNAL
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}, {number: 90, name: tcp, protocol: TCP}]
  resolution: STATIC
  endpoints:
  - {address: 127.0.0.1, labels: {app: a, version: v1}, serviceAccount: one}
  - {address: 127.0.0.2, labels: {app: a, version: v2, security.istio.io/tlsMode: disabled}, serviceAccount: two}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: out}
spec:
  hosts: [out.example]
  ports: [{number: 443, name: https, protocol: HTTP2}]
  resolution: DNS
  subjectAltNames: [out.example]
";

fn to_json<M: prost::Message + prost::Name>(message: &M) -> serde_json::Value {
    serde_json::to_value(json::to_json(message)).unwrap()
}

fn load(text: &str, certificates: bool) -> Loaded {
    let source = |text: &str| Arc::new(Source::new("a.yaml", text));
    let options = Options::default().with_certificates(certificates);
    let loaded = Loaded::from_sources(vec![source(SERVICES), source(text)], options);
    assert!(loaded.is_valid(), "{:?}", loaded.diagnostics);
    loaded
}

fn resources(text: &str, node: &Node) -> Resources {
    translate(&load(text, true).mesh, node)
}

fn resource(kind: &str, spec: &str) -> String {
    let api = if kind == "PeerAuthentication" { "security" } else { "networking" };
    format!("---\napiVersion: {api}.istio.io/v1\nkind: {kind}\nmetadata: {{name: x}}\nspec: {spec}\n")
}

fn rule(host: &str, policy: &str) -> String {
    resource("DestinationRule", &format!("{{host: {host}, trafficPolicy: {policy}}}"))
}

fn cluster(text: &str, name: &str) -> Cluster {
    resources(text, &client()).clusters.into_iter().find(|cluster| cluster.name == name).unwrap()
}

const TO_A: &str = "outbound|80||a.default.svc.cluster.local";
const TO_OUT: &str = "outbound|443||out.example";
const UPSTREAM: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";
const DOWNSTREAM: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";
const ADS: &str = "{ads: {}, resource_api_version: V3, initial_fetch_timeout: 0s}";
const ADS_OTHER: &str = "{ads: {}, resource_api_version: V3}";
const VERSIONS: &str = "tls_minimum_protocol_version: TLSv1_2, tls_maximum_protocol_version: TLSv1_3";

#[track_caller]
fn check_socket(found: Option<&TransportSocket>, context: &str, expected: &str) {
    let expected = format!("{{name: envoy.transport_sockets.tls, typed_config: {{'@type': {context}, {expected}}}}}");
    let expected: TransportSocket = from_text(&expected, "expected").unwrap();
    assert_eq!(to_json(found.expect("a transport socket")).to_string(), to_json(&expected).to_string());
}

/// Both fields of names, for URIs.
fn uris(names: &[&str]) -> String {
    let old: Vec<_> = names.iter().map(|name| format!("{{exact: '{name}'}}")).collect();
    let typed: Vec<_> = names.iter().map(|name| format!("{{san_type: URI, matcher: {{exact: '{name}'}}}}")).collect();
    format!("match_subject_alt_names: [{}], match_typed_subject_alt_names: [{}]", old.join(","), typed.join(","))
}

fn in_mesh(more: &str, names: &str, sni: &str) -> String {
    format!(
        "sni: {sni}, common_tls_context: {{tls_params: {{{VERSIONS}}}, alpn_protocols: [istio-peer-exchange, istio{more}], \
         tls_certificate_sds_secret_configs: [{{name: default, sds_config: {ADS}}}], combined_validation_context: \
         {{default_validation_context: {{{names}}}, validation_context_sds_secret_config: {{name: ROOTCA, sds_config: \
         {ADS}}}}}}}"
    )
}

const ACCOUNTS: [&str; 2] = ["spiffe://cluster.local/ns/default/sa/one", "spiffe://cluster.local/ns/default/sa/two"];

#[test]
fn each_endpoint_decides_about_mutual_tls_if_no_rule_does() {
    let found = cluster("", TO_A);
    assert!(found.transport_socket.is_none());
    let [mutual, plain] = found.transport_socket_matches.as_slice() else { panic!("{found:?}") };
    assert_eq!((mutual.name.as_str(), plain.name.as_str()), ("tlsMode-istio", "tlsMode-disabled"));
    assert_eq!(to_json(mutual)["match"].to_string(), r#"{"tlsMode":"istio"}"#);
    let expected = in_mesh("", &uris(&ACCOUNTS), "outbound_.80_._.a.default.svc.cluster.local");
    check_socket(mutual.transport_socket.as_ref(), UPSTREAM, &expected);
    assert_eq!(plain.transport_socket.as_ref().unwrap().name, "envoy.transport_sockets.raw_buffer");
    assert!(cluster("", TO_OUT).transport_socket_matches.is_empty(), "it is outside of the mesh");
}

/// Addresses of the endpoints of `a` that are marked for mutual TLS.
fn marked(text: &str) -> Vec<String> {
    let endpoints = resources(text, &client()).endpoints;
    let of_a = endpoints.iter().find(|endpoints| endpoints.cluster_name == TO_A).unwrap();
    let all = to_json(of_a)["endpoints"][0]["lb_endpoints"].clone();
    let all = all.as_array().unwrap().clone();
    let is_marked = |it: &serde_json::Value| {
        it["metadata"]["filter_metadata"]["envoy.transport_socket_match"] == serde_json::json!({"tlsMode": "istio"})
    };
    let address = |it: serde_json::Value| it["endpoint"]["address"]["socket_address"]["address"].to_string();
    all.into_iter().filter(is_marked).map(address).collect()
}

#[test]
fn endpoints_with_an_identity_are_marked_unless_something_says_otherwise() {
    assert_eq!(marked(""), [r#""127.0.0.1""#]);
    assert_eq!(marked(&resource("PeerAuthentication", "{mtls: {mode: DISABLE}}")), [""; 0]);
    let port = "{selector: {matchLabels: {app: a}}, portLevelMtls: {8080: {mode: DISABLE}}}";
    assert_eq!(marked(&resource("PeerAuthentication", port)), [""; 0]);
    assert_eq!(marked(&resource("PeerAuthentication", &port.replace("8080", "80"))), [r#""127.0.0.1""#]);
    assert_eq!(marked(&rule("a", "{tls: {mode: DISABLE}}")), [""; 0]);
}

#[test]
fn without_certificates_connections_of_the_mesh_are_plain_text() {
    let found = translate(&load("", false).mesh, &client());
    let cluster = found.clusters.iter().find(|cluster| cluster.name == TO_A).unwrap();
    assert!(cluster.transport_socket_matches.is_empty() && cluster.transport_socket.is_none());
    assert!(!format!("{:?}", found.endpoints).contains("tlsMode"));
}

#[test]
fn a_rule_decides_for_all_endpoints() {
    let disabled = cluster(&rule("a", "{tls: {mode: DISABLE}}"), TO_A);
    assert!(disabled.transport_socket.is_none() && disabled.transport_socket_matches.is_empty());
    let mutual = cluster(&rule("a", "{tls: {mode: ISTIO_MUTUAL}}"), TO_A);
    assert!(mutual.transport_socket_matches.is_empty());
    let expected = in_mesh("", &uris(&ACCOUNTS), "outbound_.80_._.a.default.svc.cluster.local");
    check_socket(mutual.transport_socket.as_ref(), UPSTREAM, &expected);
    let own = "{tls: {mode: ISTIO_MUTUAL, sni: s, subjectAltNames: ['spiffe://x/y']}, \
               connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}";
    let own = cluster(&rule("a", own), TO_A);
    check_socket(own.transport_socket.as_ref(), UPSTREAM, &in_mesh(", h2", &uris(&["spiffe://x/y"]), "s"));
}

#[test]
fn a_port_and_a_subset_have_tls_of_their_own() {
    let spec = "{host: a, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}, portLevelSettings: [{port: {number: 80}, tls: {mode: \
                DISABLE}}]}, subsets: [{name: v1, labels: {version: v1}, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}]}";
    let text = resource("DestinationRule", spec);
    assert!(cluster(&text, TO_A).transport_socket.is_none());
    assert!(cluster(&text, "outbound|90||a.default.svc.cluster.local").transport_socket.is_some());
    let subset = cluster(&text, "outbound|80|v1|a.default.svc.cluster.local");
    let expected = in_mesh("", &uris(&ACCOUNTS), "outbound_.80_.v1_.a.default.svc.cluster.local");
    check_socket(subset.transport_socket.as_ref(), UPSTREAM, &expected);
    let omitted = text.replace("tls: {mode: DISABLE}", "loadBalancer: {simple: RANDOM}");
    assert!(!cluster(&omitted, TO_A).transport_socket_matches.is_empty(), "a port inherits nothing");
}

#[test]
fn tls_to_servers_outside_of_the_mesh_is_what_the_rule_says() {
    let dns = "match_subject_alt_names: [{exact: out.example}], match_typed_subject_alt_names: [{san_type: DNS, matcher: \
               {exact: out.example}}]";
    let roots = |names: &str, name: &str| {
        format!(
            "combined_validation_context: {{default_validation_context: {{{names}}}, validation_context_sds_secret_config: \
             {{name: '{name}', sds_config: {ADS_OTHER}}}}}"
        )
    };
    let certificate =
        |name: &str| format!("tls_certificate_sds_secret_configs: [{{name: '{name}', sds_config: {ADS_OTHER}}}]");
    for (tls, sni, expected) in [
        ("mode: SIMPLE, sni: out.example", "out.example", roots(dns, "file-root:system")),
        ("mode: SIMPLE, caCertificates: /ca.pem", "''", roots(dns, "file-root:/ca.pem")),
        (
            "mode: SIMPLE, caCertificates: /ca.pem, caCrl: /crl.pem",
            "''",
            roots(&format!("{dns}, crl: {{filename: /crl.pem}}"), "file-root:/ca.pem"),
        ),
        ("mode: SIMPLE, insecureSkipVerify: true", "''", "validation_context: {}".to_owned()),
        (
            "mode: MUTUAL, clientCertificate: /c.pem, privateKey: /k.pem, caCertificates: /ca.pem",
            "''",
            format!("{}, {}", certificate("file-cert:/c.pem~/k.pem"), roots(dns, "file-root:/ca.pem")),
        ),
    ] {
        let found = cluster(&rule("out.example", &format!("{{tls: {{{tls}}}}}")), TO_OUT);
        let common = format!("common_tls_context: {{tls_params: {{{VERSIONS}}}, alpn_protocols: [h2], {expected}}}");
        check_socket(found.transport_socket.as_ref(), UPSTREAM, &format!("sni: {sni}, {common}"));
        assert!(to_json(&found).to_string().contains(r#""alpn_override":"false""#));
    }
}

#[test]
fn without_a_server_name_it_is_that_of_the_request() {
    let options = |tls: &str| {
        let found = cluster(&rule("out.example", &format!("{{tls: {tls}}}")), TO_OUT);
        let options = to_json(&found)["typed_extension_protocol_options"].clone();
        options["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]["upstream_http_protocol_options"].to_string()
    };
    assert_eq!(options("{mode: SIMPLE}"), r#"{"auto_san_validation":true,"auto_sni":true}"#);
    assert_eq!(options("{mode: SIMPLE, subjectAltNames: [a]}"), r#"{"auto_sni":true}"#);
    assert_eq!(options("{mode: SIMPLE, insecureSkipVerify: true}"), r#"{"auto_sni":true}"#);
    assert_eq!(options("{mode: SIMPLE, sni: a}"), "null");
    assert_eq!(options("{mode: ISTIO_MUTUAL}"), "null");
}

/// `name port transport [protocols] tls?` of each chain.
fn chains(chains: &[FilterChain]) -> Vec<String> {
    let describe = |chain: &FilterChain| {
        let matcher = chain.filter_chain_match.clone().unwrap_or_default();
        let port = matcher.destination_port.map_or_else(|| "any".to_owned(), |port| port.to_string());
        let transport = Some(matcher.transport_protocol.as_str()).filter(|it| !it.is_empty()).unwrap_or("any");
        let ends = if chain.transport_socket.is_some() { "ends" } else { "as it is" };
        let protocols = matcher.application_protocols.join(" ");
        format!("{} {port} {transport} [{protocols}] {ends}", chain.name).trim_start().to_owned()
    };
    chains.iter().map(describe).collect()
}

fn inbound(role: Role, policy: &str, name: &str) -> Listener {
    let node = Node::new(role, Some("a"), None, Labels::from([("app".to_owned(), "a".to_owned())])).unwrap();
    let text = if policy.is_empty() { String::new() } else { resource("PeerAuthentication", policy) };
    resources(&text, &node).listeners.into_iter().find(|listener| listener.name == name).unwrap()
}

const ALL_OF_MESH: &str = "[istio istio-peer-exchange istio-http/1.0 istio-http/1.1 istio-h2]";
const LIBRARY: &str = "xds.istio.io/grpc/lds/inbound/127.0.0.1:8080";

#[test]
fn a_library_serves_what_the_mode_admits() {
    for (mode, expected) in [
        ("STRICT", vec!["inbound-mtls any tls [] ends".to_owned()]),
        (
            "PERMISSIVE",
            vec![
                format!("inbound-mtls any tls {ALL_OF_MESH} ends"),
                "inbound-plaintext any raw_buffer [] as it is".to_owned(),
            ],
        ),
        ("DISABLE", vec!["inbound-plaintext any any [] as it is".to_owned()]),
    ] {
        let listener = inbound(Role::Library, &format!("{{mtls: {{mode: {mode}}}}}"), LIBRARY);
        assert_eq!(chains(&listener.filter_chains), expected, "{mode}");
        assert_eq!(listener.listener_filters.len(), usize::from(mode != "DISABLE"), "{mode}");
    }
    let default = inbound(Role::Library, "", LIBRARY);
    assert_eq!(default.filter_chains.len(), 2, "PERMISSIVE is the default");
}

#[test]
fn mutual_tls_of_the_mesh_takes_clients_of_its_trust_domain() {
    let listener = inbound(Role::Library, "{mtls: {mode: STRICT}}", LIBRARY);
    let ciphers = "ECDHE-ECDSA-AES256-GCM-SHA384, ECDHE-RSA-AES256-GCM-SHA384, ECDHE-ECDSA-AES128-GCM-SHA256, \
                   ECDHE-RSA-AES128-GCM-SHA256, AES256-GCM-SHA384, AES128-GCM-SHA256";
    let names = uris(&["spiffe://cluster.local/"]).replace("exact", "prefix");
    let expected = format!(
        "require_client_certificate: true, common_tls_context: {{tls_params: {{{VERSIONS}, cipher_suites: [{ciphers}]}}, \
         alpn_protocols: [h2, http/1.1], tls_certificate_sds_secret_configs: [{{name: default, sds_config: {ADS}}}], \
         combined_validation_context: {{default_validation_context: {{{names}}}, validation_context_sds_secret_config: \
         {{name: ROOTCA, sds_config: {ADS}}}}}}}"
    );
    check_socket(listener.filter_chains[0].transport_socket.as_ref(), DOWNSTREAM, &expected);
}

#[test]
fn intercepted_connections_have_chains_for_each_port_of_the_workload() {
    let role = Role::Sidecar(Interception::Redirect);
    let permissive = inbound(role, "", "virtualInbound");
    assert_eq!(
        chains(&permissive.filter_chains),
        [
            format!("0.0.0.0_8080 8080 tls {ALL_OF_MESH} ends"),
            "0.0.0.0_8080 8080 raw_buffer [] as it is".to_owned(),
            "0.0.0.0_90 90 tls [istio-peer-exchange istio] ends".to_owned(),
            "0.0.0.0_90 90 tls [] as it is".to_owned(),
            "0.0.0.0_90 90 raw_buffer [] as it is".to_owned(),
        ]
    );
    let socket = to_json(permissive.filter_chains[2].transport_socket.as_ref().unwrap()).to_string();
    assert!(socket.contains(r#""alpn_protocols":["istio-peer-exchange","h2","http/1.1"]"#), "{socket}");
    let mixed = "{selector: {matchLabels: {app: a}}, mtls: {mode: STRICT}, portLevelMtls: {90: {mode: DISABLE}}}";
    let mixed = inbound(role, mixed, "virtualInbound");
    assert_eq!(chains(&mixed.filter_chains), ["0.0.0.0_8080 8080 tls [] ends", "0.0.0.0_90 90 any [] as it is"]);
    let [inspector] = mixed.listener_filters.as_slice() else { panic!("{:?}", mixed.listener_filters) };
    let disabled = to_json(inspector)["filter_disabled"].to_string();
    assert_eq!(disabled, r#"{"destination_port_range":{"end":91,"start":90}}"#, "its server may be the first to send");
    assert!(mixed.continue_on_listener_filters_timeout);
}

#[test]
fn without_certificates_only_what_must_be_mutual_tls_is() {
    let node = Node::new(Role::Library, Some("a"), None, Labels::new()).unwrap();
    let found = translate(&load("", false).mesh, &node);
    let listener = found.listeners.iter().find(|listener| listener.name == LIBRARY).unwrap();
    assert_eq!(chains(&listener.filter_chains), ["any any [] as it is"]);
    let strict = Loaded::from_sources(
        vec![
            Arc::new(Source::new("a.yaml", SERVICES)),
            Arc::new(Source::new("b.yaml", resource("PeerAuthentication", "{mtls: {mode: STRICT}}"))),
        ],
        Options::default(),
    );
    assert!(!strict.is_valid());
    let found = translate(&strict.mesh, &node);
    let listener = found.listeners.iter().find(|listener| listener.name == LIBRARY).unwrap();
    assert_eq!(
        chains(&listener.filter_chains),
        ["inbound-mtls any tls [] ends"],
        "nothing gets in instead of everything"
    );
}

fn gateway(servers: &str, more: &str) -> Resources {
    let gateway = resource("Gateway", &format!("{{selector: {{istio: ingressgateway}}, servers: [{servers}]}}"));
    let routes = "{hosts: ['*.example'], gateways: [x], http: [{route: [{destination: {host: a, port: {number: 80}}}]}], \
                  tcp: [{route: [{destination: {host: a, port: {number: 90}}}]}]}";
    let node = Node::new(Role::Gateway, None, Some("default"), Labels::new()).unwrap();
    resources(&format!("{gateway}{}{more}", resource("VirtualService", routes)), &node)
}

fn server(protocol: &str, name: &str, host: &str, tls: &str) -> String {
    format!("{{port: {{number: 443, name: {name}, protocol: {protocol}}}, hosts: ['{host}'], tls: {{{tls}}}}}")
}

const SECRETS: &str = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: cert}\ntype: kubernetes.io/tls\nstringData: \
     {tls.crt: '-----BEGIN CERTIFICATE-----', tls.key: '-----BEGIN PRIVATE KEY----- hidden', ca.crt: '-----BEGIN CERTIFICATE-----'}\n\
     ---\napiVersion: v1\nkind: Secret\nmetadata: {name: other, namespace: elsewhere}\nstringData: \
     {cert: '-----BEGIN CERTIFICATE-----', key: '-----BEGIN PRIVATE KEY-----'}\n";

#[test]
fn servers_of_one_port_are_distinguished_by_server_name() {
    let servers = [
        server("HTTPS", "web", "web.example", "mode: SIMPLE, credentialName: cert"),
        server("TLS", "db", "db.example", "mode: SIMPLE, serverCertificate: /c, privateKey: /k"),
        server("TLS", "pass", "pass.example", "mode: PASSTHROUGH"),
    ];
    let pass = "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: y}\nspec: {hosts: \
                [pass.example], gateways: [x], tls: [{match: [{sniHosts: [pass.example]}], route: [{destination: {host: a, port: \
                {number: 90}}}]}]}\n";
    let found = gateway(&servers.join(","), &format!("{SECRETS}{pass}"));
    let [listener] = found.listeners.as_slice() else { panic!("{:?}", found.listeners) };
    let names: Vec<_> = listener
        .filter_chains
        .iter()
        .map(|chain| {
            (chain.filter_chain_match.clone().unwrap().server_names.join(","), chain.transport_socket.is_some())
        })
        .collect();
    let expected = [("web.example", true), ("db.example", true), ("pass.example", false)];
    assert_eq!(names, expected.map(|(name, ends)| (name.to_owned(), ends)));
    assert_eq!(listener.listener_filters.len(), 1);
    assert_eq!(listener.filter_chains[0].transport_socket_connect_timeout.unwrap().seconds, 15);
    let routes: Vec<_> = found.routes.iter().map(|routes| routes.name.as_str()).collect();
    assert_eq!(routes, ["https.443.web.x.default"]);
    assert_eq!(found.routes[0].virtual_hosts[0].domains, ["web.example"]);
}

#[test]
fn a_server_ends_tls_as_its_mode_says() {
    let certificate =
        |name: &str| format!("tls_certificate_sds_secret_configs: [{{name: '{name}', sds_config: {ADS_OTHER}}}]");
    let roots = |more: &str, name: &str| {
        format!(
            "combined_validation_context: {{default_validation_context: {{{more}}}, validation_context_sds_secret_config: \
             {{name: '{name}', sds_config: {ADS_OTHER}}}}}"
        )
    };
    let cert = certificate("kubernetes://cert");
    let hashes = "verify_certificate_hash: [ab], verify_certificate_spki: [cd]";
    let rsa = "mode: SIMPLE, credentialNames: [cert, other]";
    let both = format!(
        "tls_certificate_sds_secret_configs: [{{name: 'kubernetes://cert', sds_config: {ADS_OTHER}}}, {{name: \
         'kubernetes://other', sds_config: {ADS_OTHER}}}]"
    );
    for (tls, is_required, expected) in [
        ("mode: SIMPLE, credentialName: cert", false, cert.clone()),
        (rsa, false, both),
        ("mode: SIMPLE, serverCertificate: /c, privateKey: /k", false, certificate("file-cert:/c~/k")),
        (
            "mode: SIMPLE, credentialName: cert, minProtocolVersion: TLSV1_3, cipherSuites: [AES128-SHA]",
            false,
            format!("{cert}, tls_params: {{tls_minimum_protocol_version: TLSv1_3, cipher_suites: [AES128-SHA]}}"),
        ),
        (
            "mode: MUTUAL, credentialName: cert, verifyCertificateHash: [ab], verifyCertificateSpki: [cd]",
            true,
            format!("{cert}, {}", roots(hashes, "kubernetes://cert-cacert")),
        ),
        (
            "mode: OPTIONAL_MUTUAL, serverCertificate: /c, privateKey: /k, caCertificates: /ca, caCrl: /crl",
            false,
            format!("{}, {}", certificate("file-cert:/c~/k"), roots("crl: {filename: /crl}", "file-root:/ca")),
        ),
    ] {
        let found = gateway(&server("HTTPS", "web", "web.example", tls), SECRETS);
        let expected = format!(
            "require_client_certificate: {is_required}, common_tls_context: {{alpn_protocols: [h2, http/1.1], {expected}}}"
        );
        check_socket(found.listeners[0].filter_chains[0].transport_socket.as_ref(), DOWNSTREAM, &expected);
    }
    let found = gateway(&server("HTTPS", "web", "web.example", "mode: ISTIO_MUTUAL"), "");
    let socket = to_json(found.listeners[0].filter_chains[0].transport_socket.as_ref().unwrap()).to_string();
    for expected in [r#""name":"default""#, r#""name":"ROOTCA""#, r#""require_client_certificate":true"#] {
        assert!(socket.contains(expected), "{socket}");
    }
}

#[test]
fn mutual_tls_between_workloads_passes_a_gateway_by_its_server_name() {
    let subsets = resource("DestinationRule", "{host: a, subsets: [{name: v1, labels: {version: v1}}]}");
    let found = gateway(&server("TLS", "pass", "*.local", "mode: AUTO_PASSTHROUGH"), &subsets);
    let names: Vec<_> = found.listeners[0]
        .filter_chains
        .iter()
        .map(|chain| chain.filter_chain_match.clone().unwrap())
        .inspect(|matcher| assert_eq!(matcher.application_protocols.len(), 5))
        .map(|matcher| matcher.server_names.join(","))
        .collect();
    let host = "a.default.svc.cluster.local";
    let expected = ["80_.", "80_.v1", "90_.", "90_.v1"].map(|part| format!("outbound_.{part}_.{host}"));
    assert_eq!(names, expected);
    for name in &names {
        let cluster = found.clusters.iter().find(|cluster| cluster.name == *name).expect("a cluster for each");
        assert!(cluster.transport_socket.is_none() && cluster.transport_socket_matches.is_empty());
        assert!(found.endpoints.iter().any(|endpoints| endpoints.cluster_name == *name));
    }
}

#[test]
fn a_node_gets_the_secrets_that_it_names_of_its_own_namespace() {
    let servers = [
        server("HTTPS", "web", "web.example", "mode: MUTUAL, credentialName: cert"),
        server("HTTPS", "other", "other.example", "mode: SIMPLE, credentialName: other"),
        server(
            "HTTPS",
            "file",
            "file.example",
            "mode: MUTUAL, serverCertificate: /c, privateKey: /k, caCertificates: /ca",
        ),
    ];
    let found = gateway(&servers.join(","), SECRETS);
    let names: Vec<_> = found.secrets.iter().map(|secret| secret.name.as_str()).collect();
    assert_eq!(names, ["file-cert:/c~/k", "file-root:/ca", "kubernetes://cert", "kubernetes://cert-cacert"]);
    let shown: Vec<_> = found.secrets.iter().map(|secret| to_json(&redacted(secret)).to_string()).collect();
    assert!(shown[0].contains(r#""filename":"/k""#), "{shown:?}");
    assert!(shown[2].contains(r#""private_key":{"inline_string":"[redacted]"}"#), "{shown:?}");
    assert!(!shown.concat().contains("hidden"));
    assert!(resources(SECRETS, &client()).secrets.is_empty(), "a client names none");
    let calls = rule("out.example", "{tls: {mode: SIMPLE, credentialName: cert}}");
    let found = resources(&format!("{SECRETS}{calls}"), &client());
    let names: Vec<_> = found.secrets.iter().map(|secret| secret.name.as_str()).collect();
    assert_eq!(names, ["kubernetes://cert-cacert"]);
}
