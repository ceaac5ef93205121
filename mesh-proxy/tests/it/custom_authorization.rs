//! AuthorizationPolicies with the action CUSTOM, of a directory: a service decides about some of the requests.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use mesh_xds::proto::{envoy::service::auth::v3::CheckResponse, google::rpc::Status};

use crate::{
    external_authorization::serve,
    process::{Directory, Proxy, Upstream, connect, free_port, get, ratings, read_head, tcp_ingress},
};

/// The MeshConfig with a provider, and its service in a namespace of its own, which is visible nowhere else.
fn provider(kind: &str, protocol: &str, address: SocketAddr, more: &str) -> String {
    let port = address.port();
    format!(
        "apiVersion: v1
kind: ConfigMap
metadata: {{name: istio, namespace: istio-system}}
data:
  mesh: |-
    extensionProviders:
    - name: authz
      {kind}: {{service: auth/authz.auth.svc.cluster.local, port: 8000{more}}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: authz, namespace: auth}}
spec:
  hosts: [authz.auth.svc.cluster.local]
  exportTo: ['.']
  resolution: STATIC
  ports: [{{number: 8000, name: checks, protocol: {protocol}}}]
  endpoints: [{{address: 127.0.0.1, ports: {{checks: {port}}}}}]
---
"
    )
}

/// Checks the paths that begin with `/checked`, for workloads with the labels.
fn policy(selector: &str, provider: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: ask}}
spec:
  selector: {{matchLabels: {selector}}}
  action: CUSTOM
  provider: {{name: {provider}}}
  rules: [{{to: [{{operation: {{paths: [/checked*]}}}}]}}]
---
"
    )
}

/// The lines of a sidecar that also listens on `tcp`, without HTTP, and whose program may call nothing.
fn sidecar_of_ratings(tcp: u16, program: SocketAddr) -> String {
    tcp_ingress(tcp, program)
        + "  egress: [{hosts: [./ratings.default.svc.cluster.local]}]
"
}

/// A program that answers with the head of the request.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let head = read_head(&mut stream);
            // The client may have closed its connection.
            let _ =
                write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{head}", head.len());
        }
    });
    address
}

/// A service over HTTP that allows `count` requests, except those to `/checked/deny`, and then is down; the heads of the checks.
fn authz(count: usize) -> (SocketAddr, Receiver<String>) {
    let upstream = Upstream::new();
    let address = upstream.address();
    let (sender, checks) = mpsc::channel();
    thread::spawn(move || {
        for _ in 0..count {
            let mut stream = upstream.listener().accept().unwrap().0;
            let head = read_head(&mut stream);
            let answer = if head.starts_with("GET /auth/checked/deny ") {
                "HTTP/1.1 401 Unauthorized\r\nx-reason: no\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno"
            } else {
                "HTTP/1.1 200 OK\r\nx-user: alice\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            };
            sender.send(head).unwrap();
            write!(stream, "{answer}").unwrap();
        }
        // The socket is closed before the channel.
        drop(upstream);
    });
    (address, checks)
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// The response to a GET once it has this beginning and this end.
fn eventually(beginning: &str, end: &str, address: SocketAddr, path: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let answer = get(address, path);
        if answer.starts_with(beginning) && answer.ends_with(end) {
            return;
        }
        assert!(Instant::now() < deadline, "expected {beginning} and {end}, found {answer}");
        thread::yield_now();
    }
}

#[test]
fn a_sidecar_asks_a_service_over_http_about_what_a_policy_selects() {
    let (authz, checks) = authz(3);
    let directory = Directory::new("custom");
    let (http, tcp) = (free_port(), free_port());
    let more = ", timeout: 5s, pathPrefix: /auth, includeAdditionalHeadersInCheck: {x-from: mesh}, headersToUpstreamOnAllow: \
                [X-User], headersToDownstreamOnDeny: [x-reason]";
    let mesh = |name: &str| {
        let provider = provider("envoyExtAuthzHttp", "HTTP", authz, more);
        [provider, policy("{app: ratings}", name), {
            let program = echo();
            ratings(http, program, &sidecar_of_ratings(tcp, program))
        }]
        .concat()
    };
    directory.write("mesh.yaml", &mesh("authz"));
    let proxy = Proxy::start(&["--istio", directory.0.to_str().unwrap(), "--service", "ratings"]);
    proxy.line_with("ready");

    let allowed = get(local(http), "/checked/a");
    assert!(allowed.starts_with("HTTP/1.1 200") && allowed.contains("x-user: alice\r\n"), "{allowed}");
    let check = checks.recv().unwrap();
    assert!(check.starts_with("GET /auth/checked/a HTTP/1.1\r\n") && check.contains("x-from: mesh\r\n"), "{check}");

    let unchecked = get(local(http), "/open");
    assert!(unchecked.starts_with("HTTP/1.1 200") && !unchecked.contains("x-user"), "{unchecked}");
    assert!(checks.try_recv().is_err(), "the service was asked about a request that no rule matches");

    // The path is the one that the program would get.
    for path in ["/checked/deny", "/open/../checked/deny"] {
        let denied = get(local(http), path);
        assert!(denied.starts_with("HTTP/1.1 401") && denied.ends_with("no"), "{denied}");
        assert!(denied.contains("x-reason: no\r\n"), "{denied}");
        checks.recv().unwrap();
    }

    // Connections cannot be checked.
    let mut stream = connect(local(tcp));
    let mut answer = String::new();
    let _ = stream.write_all(b"GET / HTTP/1.0\r\n\r\n").and_then(|()| stream.read_to_string(&mut answer));
    assert_eq!(answer, "");

    assert!(checks.recv().is_err(), "the service is down");
    let failed = get(local(http), "/checked/a");
    assert!(failed.starts_with("HTTP/1.1 403") && failed.contains("content-length: 0\r\n"), "{failed}");
    assert!(get(local(http), "/open").starts_with("HTTP/1.1 200"));

    directory.write("mesh.yaml", &mesh("unknown"));
    eventually("HTTP/1.1 403", "RBAC: access denied", local(http), "/checked/a");
    assert!(get(local(http), "/open").starts_with("HTTP/1.1 200"));
}

#[test]
fn a_gateway_asks_a_service_over_grpc() {
    let authz = serve(|request| {
        assert!(request.path.starts_with("/checked"), "{}", request.path);
        let code = if request.path == "/checked/deny" { 7 } else { 0 };
        CheckResponse { status: Some(Status { code, ..Status::default() }), ..CheckResponse::default() }
    });
    let port = free_port();
    let edge = format!(
        "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge}}
spec:
  selector: {{istio: ingressgateway}}
  servers: [{{port: {{number: {port}, name: http, protocol: HTTP}}, bind: 127.0.0.1, hosts: ['*']}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: ratings}}
spec:
  hosts: ['*']
  gateways: [edge]
  http: [{{route: [{{destination: {{host: ratings.default.svc.cluster.local}}}}]}}]
---
"
    );
    let directory = Directory::new("custom-gateway");
    let provider = provider("envoyExtAuthzGrpc", "GRPC", authz, ", timeout: 5s");
    // The workload is not a proxy but the program itself.
    let program = echo();
    let mesh = [
        provider,
        policy("{istio: ingressgateway}", "authz"),
        edge,
        ratings(program.port(), program, &sidecar_of_ratings(1, program)),
    ];
    directory.write("mesh.yaml", &mesh.concat());
    let path = directory.0.to_str().unwrap();
    let labels = ["--label", "istio=ingressgateway"];
    let proxy = Proxy::start(&["--istio", path, "--role", "gateway", labels[0], labels[1]]);
    proxy.line_with("ready");
    for (path, status) in [("/checked/a", "200"), ("/checked/deny", "403"), ("/open", "200")] {
        let answer = get(local(port), path);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer}");
    }
}
