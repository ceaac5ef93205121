//! A gateway with a `corsPolicy`, configured by a directory of Istio resources.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    thread,
};

use crate::process::{Directory, Proxy, Upstream, connect};

/// The whole response to a request with these headers.
fn send(address: SocketAddr, method: &str, headers: &str) -> String {
    let mut stream = connect(address);
    write!(stream, "{method} / HTTP/1.1\r\nhost: api.example\r\nconnection: close\r\n{headers}\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// A gateway on `port` for a service on `endpoint`, with a CORS policy.
fn mesh(port: u16, endpoint: u16) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: api}}
spec:
  hosts: [api.example]
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1, ports: {{http: {endpoint}}}}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: api}}
spec:
  hosts: [api.example]
  gateways: [edge]
  http:
  - corsPolicy:
      allowOrigins: [{{exact: 'https://a.example'}}, {{regex: 'https://[a-z]+[.]test'}}]
      allowMethods: [GET, PUT]
      allowHeaders: [x-token]
      exposeHeaders: [x-trace]
      maxAge: 24h
      allowCredentials: true
      unmatchedPreflights: IGNORE
    route: [{{destination: {{host: api.example}}}}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge}}
spec:
  selector: {{istio: ingressgateway}}
  servers: [{{port: {{number: {port}, name: http, protocol: HTTP}}, bind: 127.0.0.1, hosts: [api.example]}}]
"
    )
}

#[test]
fn a_gateway_answers_preflights_of_allowed_origins() {
    let upstream = Upstream::new();
    let endpoint = upstream.address();
    thread::spawn(move || {
        loop {
            // The client may have closed its connection.
            let _ = write!(upstream.accept(), "HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\napi");
        }
    });
    let port = Upstream::new().address().port();
    let directory = Directory::new("cors");
    directory.write("mesh.yaml", &mesh(port, endpoint.port()));
    let proxy = Proxy::start(&["--istio", directory.0.to_str().unwrap(), "--role", "gateway"]);
    proxy.line_with("ready");
    let address = SocketAddr::from(([127, 0, 0, 1], port));

    let preflight =
        |origin: &str| send(address, "OPTIONS", &format!("origin: {origin}\r\naccess-control-request-method: PUT\r\n"));
    for origin in ["https://a.example", "https://b.test"] {
        let answer = preflight(origin);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        for header in [
            &*format!("access-control-allow-origin: {origin}\r\n"),
            "access-control-allow-methods: GET,PUT\r\n",
            "access-control-allow-headers: x-token\r\n",
            "access-control-allow-credentials: true\r\n",
            "access-control-max-age: 86400\r\n",
        ] {
            assert!(answer.contains(header), "no {header} in {answer}");
        }
        assert!(!answer.ends_with("api"), "the service does not see the preflight: {answer}");
    }
    let other = preflight("https://other.example");
    assert!(!other.contains("access-control-allow-origin") && !other.ends_with("api"), "{other}");

    let simple = send(address, "GET", "origin: https://a.example\r\n");
    assert!(simple.ends_with("api") && simple.contains("access-control-expose-headers: x-trace\r\n"), "{simple}");
    let same_origin = send(address, "GET", "");
    assert!(same_origin.ends_with("api") && !same_origin.contains("access-control-"), "{same_origin}");
}
