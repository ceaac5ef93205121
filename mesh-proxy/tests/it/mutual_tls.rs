//! Mutual TLS between sidecars of one authority.

use std::{
    io::{Read as _, Write as _},
    net::SocketAddr,
    thread,
};

use crate::process::{Directory, Proxy, Upstream, connect, free_port, get};

/// A service `db` of TCP on port `outbound`. Its sidecar takes connections on `inbound`, with mutual TLS only, and on the
/// port of the service those of its own program to it.
fn db(inbound: u16, outbound: u16, program: SocketAddr) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: db}}
spec:
  hosts: [db.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: {outbound}, name: tcp, protocol: TCP}}]
  endpoints: [{{address: 127.0.0.1, ports: {{tcp: {inbound}}}, serviceAccount: db, labels: {{app: db}}}}]
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: db}}
spec:
  workloadSelector: {{labels: {{app: db}}}}
  ingress:
  - {{port: {{number: {inbound}, protocol: TCP, name: tcp}}, bind: 127.0.0.1, defaultEndpoint: '{program}'}}
  egress:
  - {{port: {{number: {outbound}, protocol: TCP, name: out}}, bind: 127.0.0.1, hosts: [./db.default.svc.cluster.local]}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: default, namespace: istio-system}}
spec: {{mtls: {{mode: STRICT}}}}
"
    )
}

/// Makes an authority in the directory.
pub(crate) fn authority(directory: &Directory) -> String {
    let (_, files) = mesh_control::ca::Authority::generate("cluster.local", std::time::SystemTime::now()).unwrap();
    files.write(&directory.0).unwrap();
    directory.0.to_str().unwrap().to_owned()
}

#[test]
fn both_ends_of_a_tcp_connection_report_the_identities_of_the_certificates() {
    let program = Upstream::new();
    let (directory, ca) = (Directory::new("tcp-principals"), Directory::new("tcp-principals-ca"));
    let (inbound, outbound) = (free_port(), free_port());
    directory.write("mesh.yaml", &db(inbound, outbound, program.address()));
    let arguments = ["--istio", directory.0.to_str().unwrap(), "--service", "db", "--ca", &authority(&ca)];
    let proxy = Proxy::start(&arguments);
    let admin = proxy.address_in("admin endpoint: listening");
    proxy.line_with("ready");
    thread::spawn(move || {
        let (mut stream, _) = program.listener().accept().unwrap();
        // Fails if the client has closed its connection, which is noticed there.
        let _ = stream.write_all(b"hello");
    });

    let mut client = connect(SocketAddr::from(([127, 0, 0, 1], outbound)));
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "hello");
    let metrics = get(admin, "/stats/prometheus");
    let of = |reporter: &str| {
        let start = format!("istio_tcp_connections_opened_total{{reporter=\"{reporter}\"");
        metrics.lines().find(|line| line.starts_with(&start)).unwrap_or_else(|| panic!("no {start} in {metrics}"))
    };
    let (source, destination) = (of("source"), of("destination"));
    for labels in [source, destination] {
        for side in ["source", "destination"] {
            let label = format!("{side}_principal=\"spiffe://cluster.local/ns/default/sa/db\"");
            assert!(labels.contains(&label), "{label}: {labels}");
        }
    }
    assert!(source.contains("connection_security_policy=\"unknown\""), "{source}");
    assert!(destination.contains("connection_security_policy=\"mutual_tls\""), "{destination}");
}
