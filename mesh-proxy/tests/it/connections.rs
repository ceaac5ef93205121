//! Gateways and sidecars that pass connections on, configured by a directory of Istio resources.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
};

use crate::process::{Directory, Proxy, connect, free_port, get};

/// A server that sends its name on each connection, and then echoes everything that the client has sent.
fn echo(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut received = Vec::new();
            if stream.write_all(name.as_bytes()).is_ok() && stream.read_to_end(&mut received).is_ok() {
                // Fails if the client has closed its connection.
                let _ = stream.write_all(&received);
            }
        }
    });
    address
}

/// Sends these bytes; returns everything that is received until the connection ends.
fn exchange(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(address);
    stream.write_all(bytes).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut received = Vec::new();
    // A connection that is refused may also be reset.
    let _ = stream.read_to_end(&mut received);
    received
}

/// The first record of a TLS client that requests a server name. RFC 8446 section 4.1.2, RFC 6066 section 3.
fn client_hello(server_name: &str) -> Vec<u8> {
    fn with_length(bytes: usize, content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len()).unwrap().to_be_bytes();
        [&length[4 - bytes..], content].concat()
    }
    let name = [&[0][..], &with_length(2, server_name.as_bytes())].concat();
    let extension = [&[0, 0][..], &with_length(2, &with_length(2, &name))].concat();
    let parts: [&[u8]; 5] = [&[3, 3], &[7; 32], &[0], &[0, 2, 0x13, 0x01], &[1, 0]];
    let body = [parts.concat(), with_length(2, &extension)].concat();
    let handshake = [&[1][..], &with_length(3, &body)].concat();
    [&[22, 3, 1][..], &with_length(2, &handshake)].concat()
}

fn service(name: &str, port: &str, endpoint: SocketAddr) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}}}
spec:
  hosts: [{name}.example]
  addresses: [240.0.0.1]
  ports: [{port}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1, ports: {{p: {}}}}}]
---
",
        endpoint.port()
    )
}

fn virtual_service(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n---\n"
    )
}

#[test]
fn a_gateway_passes_tcp_on_by_port_and_tls_by_server_name() {
    let (tcp, tls) = (free_port(), free_port());
    let (db, first, second) = (echo("db:"), echo("first:"), echo("second:"));
    let tls_port = "{number: 443, name: p, protocol: TLS}";
    let mesh = [
        service("db", "{number: 5432, name: p, protocol: TCP}", db),
        service("first", tls_port, first),
        service("second", tls_port, second),
        virtual_service("db", "hosts: [db.example], gateways: [edge], tcp: [{route: [{destination: {host: db.example}}]}]"),
        virtual_service(
            "web",
            "hosts: ['*.example'], gateways: [edge], tls: [
             {match: [{sniHosts: [first.example]}], route: [{destination: {host: first.example}}]},
             {match: [{sniHosts: ['*.example']}], route: [{destination: {host: second.example}}]}]",
        ),
        format!(
            "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge}}
spec:
  selector: {{istio: ingressgateway}}
  servers:
  - {{port: {{number: {tcp}, name: tcp, protocol: TCP}}, bind: 127.0.0.1, hosts: [db.example]}}
  - {{port: {{number: {tls}, name: tls, protocol: TLS}}, bind: 127.0.0.1, hosts: ['*.example'], tls: {{mode: PASSTHROUGH}}}}
"
        ),
    ];
    let directory = Directory::new("connections");
    directory.write("mesh.yaml", &mesh.concat());
    let proxy = Proxy::start(&["--istio", directory.0.to_str().unwrap(), "--role", "gateway"]);
    let admin = proxy.address_in("admin endpoint: listening");
    proxy.line_with("ready");
    let address = |port| SocketAddr::from(([127, 0, 0, 1], port));

    assert_eq!(exchange(address(tcp), b"select 1"), b"db:select 1");
    for (name, server) in [("first.example", "first:"), ("FIRST.example", "first:"), ("other.example", "second:")] {
        let hello = client_hello(name);
        assert_eq!(exchange(address(tls), &hello), [server.as_bytes(), &hello].concat(), "{name}");
    }
    for unmatched in [client_hello("first.test"), b"GET / HTTP/1.1\r\n\r\n".to_vec()] {
        assert_eq!(exchange(address(tls), &unmatched), b"", "{:?}", String::from_utf8_lossy(&unmatched));
    }
    let metrics = get(admin, "/stats/prometheus");
    for part in ["istio_tcp_connections_opened_total{", "destination_service=\"db.example\""] {
        assert!(metrics.contains(part), "{part} is not in\n{metrics}");
    }
}

#[test]
fn a_sidecar_passes_connections_on_in_both_directions() {
    let (inbound, outbound) = (free_port(), free_port());
    let (program, db) = (echo("program:"), echo("db:"));
    let mesh = [
        service("db", &format!("{{number: {outbound}, name: p, protocol: TCP}}"), db),
        format!(
            "apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: shop}}
spec:
  workloadSelector: {{labels: {{app: shop}}}}
  ingress: [{{port: {{number: {inbound}, protocol: TCP, name: in}}, bind: 127.0.0.1, defaultEndpoint: '{program}'}}]
  egress: [{{port: {{number: {outbound}, protocol: TCP, name: out}}, hosts: ['*/db.example']}}]
"
        ),
    ];
    let directory = Directory::new("sidecar-connections");
    directory.write("mesh.yaml", &mesh.concat());
    let path = directory.0.to_str().unwrap();
    let proxy = Proxy::start(&["--istio", path, "--service", "shop", "--label", "app=shop"]);
    proxy.line_with("ready");
    let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
    assert_eq!(exchange(address(inbound), b"order"), b"program:order");
    assert_eq!(exchange(address(outbound), b"select 1"), b"db:select 1");

    // The server's first bytes arrive before the client sends any.
    let mut client = connect(address(outbound));
    let mut greeting = [0; 3];
    client.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"db:");
    drop(client);
    assert!(TcpStream::connect(address(outbound)).is_ok());
}

#[test]
fn a_gateway_without_rules_for_its_ports_logs_a_warning() {
    let directory = Directory::new("no-rules");
    let gateway = format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: edge}}\nspec:\n  selector: {{istio: \
         ingressgateway}}\n  servers: [{{port: {{number: {}, name: tcp, protocol: TCP}}, hosts: ['*']}}]\n",
        free_port()
    );
    directory.write("mesh.yaml", &gateway);
    let proxy = Proxy::start(&["--istio", directory.0.to_str().unwrap(), "--role", "gateway"]);
    proxy.line_with("no VirtualService has rules for the Gateways that select its labels (istio=ingressgateway)");
}
