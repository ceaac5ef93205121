//! TCP and TLS: rules of VirtualServices, servers of Gateways, listeners of Sidecars.

use super::{check, findings, resource};

/// Services and Gateways that pass connections on, beside which each test has one more resource.
const CONNECTIONS: &str = "\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: db}
spec:
  hosts: [db.example]
  addresses: [240.0.0.9]
  ports: [{number: 5432, name: tcp, protocol: TCP}]
  resolution: DNS
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
kind: Gateway
metadata: {name: tcp}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 9000, name: tcp, protocol: TCP}, hosts: ['*']}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: tls}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 9443, name: tls, protocol: TLS}, hosts: ['*.web.example'], tls: {mode: PASSTHROUGH}}]
---
";
/// Lines of [`CONNECTIONS`].
const LINES: usize = 31;

/// The [`findings`] about a resource beside [`CONNECTIONS`]; lines are counted from the resource's first.
fn found(kind: &str, spec: &str) -> Vec<String> {
    let all = findings(&format!("{CONNECTIONS}{}", resource(kind, spec)));
    let renumber = |line: String| {
        let (code, rest) = line.split_once(' ')?;
        let (line, rest) = rest.split_once(' ')?;
        let line = line.parse::<usize>().ok()?.checked_sub(LINES)?;
        Some(format!("{code} {line} {rest}"))
    };
    all.into_iter().filter_map(renumber).collect()
}

#[track_caller]
fn check_connection(kind: &str, spec: &str, expected: &[&str]) {
    let found = found(kind, spec);
    assert_eq!(found.len(), expected.len(), "{spec}\n gave {found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{spec}\n gave     {found}\n expected {expected}");
    }
}

#[test]
fn rules_for_connections_are_checked() {
    let to_db = "route: [{destination: {host: db.example}}]";
    for (rules, expected) in [
        (format!("tcp: [{{{to_db}}}]"), ""),
        (format!("tcp: [{{match: [{{port: 1, destinationSubnets: [10.0.0.0/8, '::1']}}], {to_db}}}]"), ""),
        ("tcp: [{match: [{port: 1}]}]".into(), "IST0106 4 `{` spec.tcp[0].route: route is missing"),
        ("tcp: [{route: []}]".into(), "IST0106 4 `route` spec.tcp[0].route: route has no destination"),
        (
            "tcp: [{route: [{destination: {host: db.example}}, {destination: {host: db.example}}]}]".into(),
            "IST0106 4 `route` spec.tcp[0].route: total weight is 0",
        ),
        (
            "tcp: [{route: [{destination: {host: nowhere.example}}]}]".into(),
            "IST0101 4 `nowhere.example` spec.tcp[0].route[0].destination.host: no service has the host",
        ),
        (
            "tcp: [{route: [{destination: {host: db.example, port: {number: 1}}}]}]".into(),
            "IST0101 4 `1` spec.tcp[0].route[0].destination.port.number: db.example has no port 1",
        ),
        (
            format!("tcp: [{{match: [{{destinationSubnets: [10.0.0.0/33]}}], {to_db}}}]"),
            "IST0106 4 `10.0.0.0/33` spec.tcp[0].match[0].destinationSubnets[0]: \"10.0.0.0/33\" is not a network",
        ),
        (
            format!("tcp: [{{match: [{{sourceSubnet: 10.0.0.0/8}}], {to_db}}}]"),
            "MESH0003 4 `sourceSubnet` spec.tcp[0].match[0].sourceSubnet: sourceSubnet is not supported yet",
        ),
        (
            format!("tcp: [{{match: [{{sourceNamespace: A}}], {to_db}}}]"),
            "IST0106 4 `A` spec.tcp[0].match[0].sourceNamespace: \"A\" is not a namespace",
        ),
        (format!("tcp: [{{{to_db}}}, {{{to_db}}}]"), "IST0130 4 `{` spec.tcp[1]: the rule is never reached: tcp[0]"),
        (
            format!("tcp: [{{match: [{{port: 1}}], {to_db}}}, {{match: [{{port: 1}}, {{port: 2}}], {to_db}}}]"),
            "IST0131 4 `{` spec.tcp[1].match[0]: the match has no effect: tcp[0] has the same",
        ),
        (format!("tls: [{{{to_db}}}]"), "IST0106 4 `{` spec.tls[0].match: match is missing"),
        (
            format!("tls: [{{match: [{{port: 1}}], {to_db}}}]"),
            "IST0106 4 `{` spec.tls[0].match[0].sniHosts: sniHosts is missing",
        ),
        (
            format!("tls: [{{match: [{{sniHosts: [c.example]}}], {to_db}}}]"),
            "IST0106 4 `c.example` spec.tls[0].match[0].sniHosts[0]: server name \"c.example\" is not covered by any host",
        ),
        (
            format!("tls: [{{match: [{{sniHosts: [a.*.example]}}], {to_db}}}]"),
            "IST0106 4 `a.*.example` spec.tls[0].match[0].sniHosts[0]: \"a.*.example\" is not a server name",
        ),
        (format!("tls: [{{match: [{{sniHosts: ['*.web.example', x.web.example]}}], {to_db}}}]"), ""),
    ] {
        let expected: Vec<_> = if expected.is_empty() { Vec::new() } else { vec![expected] };
        check_connection("VirtualService", &format!("{{hosts: ['*.web.example'], {rules}}}"), &expected);
    }
}

#[test]
fn an_address_is_a_host_of_the_mesh_for_connections_only() {
    let rules =
        |list: &str| format!("{{hosts: [10.0.0.1], {list}: [{{route: [{{destination: {{host: db.example}}}}]}}]}}");
    check_connection("VirtualService", &rules("tcp"), &[]);
    check_connection("VirtualService", &rules("http"), &["IST0106 4 `10.0.0.1` spec.hosts[0]: 10.0.0.1 is an address"]);
}

#[test]
fn rules_that_no_server_of_the_gateways_applies_have_no_effect() {
    let route = "route: [{destination: {host: db.example}}]";
    let sni = "match: [{sniHosts: [a.web.example]}]";
    for (gateways, rules, expected) in [
        ("[tcp]", format!("tcp: [{{{route}}}]"), ""),
        ("[tls]", format!("tls: [{{{sni}, {route}}}]"), ""),
        (
            "[tcp]",
            format!("tls: [{{{sni}, {route}}}]"),
            "IST0130 4 `{` spec.tls: no server of the gateways applies tls rules",
        ),
        ("[tls]", format!("tcp: [{{{route}}}]"), "IST0130 4 `{` spec.tcp: no server of the gateways applies tcp rules"),
        (
            "[tls, tcp]",
            format!("http: [{{{route}}}]"),
            "IST0130 4 `{` spec.http: no server of the gateways applies http",
        ),
        ("[tls, mesh]", format!("tcp: [{{{route}}}]"), ""),
    ] {
        let expected: Vec<_> = if expected.is_empty() { Vec::new() } else { vec![expected] };
        let spec = format!("{{hosts: [a.web.example], gateways: {gateways}, {rules}}}");
        check_connection("VirtualService", &spec, &expected);
    }
}

#[test]
fn servers_have_the_tls_settings_that_their_protocol_needs() {
    let without_rules = "MESH0006 4 `{` spec.servers[0]: no VirtualService has ";
    for (protocol, tls, expected) in [
        ("TLS", "tls: {mode: PASSTHROUGH}", &[without_rules][..]),
        ("HTTPS", "tls: {}", &[without_rules]),
        ("MONGO", "name: a", &[without_rules]),
        ("TLS", "name: a", &["IST0106 4 `{` spec.servers[0].tls: a server of protocol TLS must have TLS settings"]),
        (
            "TCP",
            "tls: {mode: PASSTHROUGH}",
            &["IST0106 4 `tls` spec.servers[0].tls: a server of protocol TCP cannot have TLS settings"],
        ),
        (
            "HTTP",
            "tls: {mode: SIMPLE, privateKey: a}",
            &["IST0106 4 `mode` spec.servers[0].tls.mode: a server cannot have TLS settings for plain text HTTP ports"],
        ),
        (
            "HTTP",
            "tls: {privateKey: a}",
            &["IST0106 4 `privateKey` spec.servers[0].tls.privateKey: a server cannot have TLS settings"],
        ),
        (
            "HTTPS",
            "tls: {mode: SIMPLE, credentialName: a}",
            &["IST0101 4 `a` spec.servers[0].tls: there is no Secret a in any namespace"],
        ),
        ("TLS", "tls: {mode: AUTO_PASSTHROUGH}", &[]),
        (
            "TLS",
            "tls: {privateKey: a, httpsRedirect: true}",
            &[
                without_rules,
                "IST0106 4 `privateKey` spec.servers[0].tls.privateKey: privateKey has no effect: TLS is passed on as it is",
                "IST0106 4 `httpsRedirect` spec.servers[0].tls.httpsRedirect: httpsRedirect has no effect",
            ],
        ),
    ] {
        let server = format!("{{port: {{number: 80, name: a, protocol: {protocol}}}, hosts: [x.example], {tls}}}");
        check_connection("Gateway", &format!("{{servers: [{server}]}}"), expected);
    }
}

#[test]
fn servers_of_one_port_serve_the_same_layer() {
    let server = |number: u16, protocol: &str, host: &str| {
        format!("{{port: {{number: {number}, name: a, protocol: {protocol}}}, hosts: [{host}]}}")
    };
    for (server, expected) in [
        (
            server(9443, "HTTP", "x.example"),
            "IST0145 4 `{` spec.servers[0]: port 9443 is served as TLS, not as HTTP, by servers[0] of Gateway default/tls",
        ),
        (
            server(9000, "TCP", "x.example"),
            "IST0145 4 `{` spec.servers[0]: port 9000 is served as TCP, which cannot be",
        ),
        (
            server(9443, "TLS", "'*.web.example'").replace("hosts", "tls: {}, hosts"),
            "IST0145 4 `{` spec.servers[0]: port 9443 is served for the same host by servers[0] of Gateway default/tls",
        ),
    ] {
        let found = found("Gateway", &format!("{{servers: [{server}]}}"));
        assert!(found.iter().any(|line| line.starts_with(expected)), "{server}\n gave {found:#?}");
    }
    check(
        &resource("Gateway", &format!("{{servers: [{}, {}]}}", server(1, "TCP", "a.b"), server(2, "TCP", "a.b"))),
        "IST0106 4 `{` spec.servers[1].port.name: port names in servers must be unique: duplicate name \"a\"",
    );
}

#[test]
fn a_listener_of_a_sidecar_offers_one_service_without_rules() {
    let listener = |protocol: &str, number: u16, host: &str| {
        format!("{{egress: [{{port: {{number: {number}, name: a, protocol: {protocol}}}, hosts: ['{host}']}}]}}")
    };
    check_connection("Sidecar", &listener("TCP", 5432, "./db.example"), &[]);
    check_connection("Sidecar", &listener("TLS", 443, "./a.web.example"), &[]);
    let all = listener("TLS", 443, "./*.web.example");
    let message = "MESH0006 4 `{` spec.egress[0].hosts: all connections go to a.web.example, none to b.web.example";
    check_connection("Sidecar", &all, &[message]);
    let rules = "{hosts: [b.web.example], tls: [{match: [{sniHosts: [b.web.example]}], route: [{destination: {host: \
                 b.web.example}}]}]}";
    let both = format!("{all}\n---\n{}", resource("VirtualService", rules));
    check_connection("Sidecar", both.trim_end(), &[]);
}
