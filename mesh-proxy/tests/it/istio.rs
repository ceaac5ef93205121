//! A sidecar configured by a directory of Istio resources.

use std::{
    io::Write,
    net::{SocketAddr, TcpStream},
    thread,
};

use crate::process::{Directory, Proxy, Upstream, free_port, get, get_of, ratings};

#[test]
fn a_sidecar_follows_its_directory_and_keeps_the_last_good_configuration() {
    let upstream = Upstream::new();
    let program = upstream.address();
    thread::spawn(move || {
        loop {
            let mut request = upstream.accept();
            // Fails if the client has closed its connection.
            let _ = write!(request, "HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nstars");
        }
    });
    let directory = Directory::new("sidecar");
    let (first, second) = (free_port(), free_port());
    directory.write("mesh.yaml", &ratings(first, program, ""));
    let path = directory.0.to_str().unwrap().to_owned();
    let proxy = Proxy::start(&["--istio", &path, "--service", "ratings"]);
    let admin = proxy.address_in("admin endpoint: listening");
    let address = proxy.address_in(": listening on 127.0.0.1");
    assert_eq!(address.port(), first);
    proxy.line_with("ready");
    let answer = get(address, "/");
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("stars"), "{answer}");
    let metrics = get(admin, "/stats/prometheus");
    for part in [
        "istio_requests_total{reporter=\"destination\"",
        "destination_app=\"ratings\",destination_version=\"v1\",destination_service=\"ratings.default.svc.cluster.local\"",
        "envoy_cluster_upstream_rq_total{envoy_cluster_name=\"inbound|",
    ] {
        assert!(metrics.contains(part), "{part} is not in\n{metrics}");
    }

    directory.write("mesh.yaml", "kind: [");
    proxy.line_with("the last good one stays");
    assert!(get(address, "/").ends_with("stars"));

    directory.write("mesh.yaml", &ratings(second, program, ""));
    let moved = proxy.address_in(": listening on 127.0.0.1");
    assert_eq!(moved.port(), second);
    assert!(get(moved, "/").ends_with("stars"));

    let owner = Upstream::new();
    let taken = owner.address();
    directory.write("mesh.yaml", &ratings(taken.port(), program, ""));
    proxy.line_with("address already in use");
    assert!(TcpStream::connect(moved).is_err(), "the old address is closed even if the new one is in use");
    drop(owner);
    assert_eq!(proxy.address_in(": listening on 127.0.0.1"), taken, "the bind is retried");
    assert!(get(taken, "/").ends_with("stars"));
}

/// Gateways for the hosts `a.test` and `b.test` on these ports; each responds with its host.
fn gateways(ports: [u16; 2]) -> String {
    let gateway = |(host, port): (&str, u16)| {
        format!(
            "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: {host}}}
spec:
  selector: {{istio: ingressgateway}}
  servers: [{{port: {{number: {port}, name: http, protocol: HTTP}}, bind: 127.0.0.1, hosts: [{host}.test]}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {host}}}
spec:
  hosts: [{host}.test]
  gateways: [{host}]
  http: [{{directResponse: {{status: 200, body: {{string: {host}.test}}}}}}]
---
"
        )
    };
    ["a", "b"].into_iter().zip(ports).map(gateway).collect()
}

#[test]
fn a_proxy_without_listeners_logs_a_warning() {
    let directory = Directory::new("idle");
    directory.write("mesh.yaml", &ratings(free_port(), Upstream::new().address(), ""));
    let path = directory.0.to_str().unwrap();
    let gateway = Proxy::start(&["--istio", path, "--role", "gateway", "--label", "zone=b", "--label", "role=edge"]);
    gateway.line_with("no listeners: no Gateway selects its labels (role=edge, zone=b)");
    let sidecar = Proxy::start(&["--istio", path, "--service", "other.shop"]);
    sidecar.line_with("no listeners: no Sidecar of namespace shop that selects its labels (it has none) has ports");
    let own = gateways([free_port(); 2]).replace("istio: ingressgateway", "role: edge");
    directory.write("mesh.yaml", &own);
    gateway.address_in(": listening on 127.0.0.1");
}

#[test]
fn a_gateway_that_moves_from_a_shared_port_is_removed_there_at_once() {
    let directory = Directory::new("gateways");
    let shared = free_port();
    directory.write("mesh.yaml", &gateways([shared; 2]));
    let proxy = Proxy::start(&["--istio", directory.0.to_str().unwrap(), "--role", "gateway"]);
    proxy.line_with("admin endpoint: listening");
    let address = proxy.address_in(": listening on 127.0.0.1");
    proxy.line_with("ready");

    let owner = Upstream::new();
    let taken = owner.address();
    directory.write("mesh.yaml", &gateways([shared, taken.port()]));
    proxy.line_with("address already in use");
    assert!(get_of("a.test", address, "/").ends_with("a.test"));
    assert!(get_of("b.test", address, "/").starts_with("HTTP/1.1 404 "), "whether or not the other port is free");
    drop(owner);
    assert_eq!(proxy.address_in(": listening on 127.0.0.1"), taken);
    assert!(get_of("b.test", taken, "/").ends_with("b.test"));
    assert!(get_of("a.test", address, "/").ends_with("a.test"));
}

#[test]
fn an_endpoint_that_refuses_connections_is_named_with_the_cause() {
    let (closed, port) = (SocketAddr::from(([127, 0, 0, 1], free_port())), free_port());
    let directory = Directory::new("refused");
    directory.write("mesh.yaml", &ratings(port, closed, ""));
    let path = directory.0.to_str().unwrap().to_owned();
    let proxy = Proxy::start(&["--istio", &path, "--service", "ratings"]);
    proxy.line_with("admin endpoint: listening");
    let address = proxy.address_in(": listening on 127.0.0.1");
    assert!(get(address, "/").starts_with("HTTP/1.1 503 "));
    let line = proxy.line_with("cannot connect");
    assert!(line.contains(&closed.to_string()) && line.contains("Connection refused"), "{line}");
}
