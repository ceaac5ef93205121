//! AuthorizationPolicies of a directory, enforced by a program's own server.

use http::Request;
use http_body_util::BodyExt as _;
use mesh::Mesh;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tower::ServiceExt as _;

use crate::support::{ConfigDir, get, named, shop};

const POLICIES: &str = "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: read-only}
spec:
  selector: {matchLabels: {app: shop}}
  rules: [{to: [{operation: {methods: [GET], paths: [/items/*]}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-secrets, namespace: istio-system}
spec: {action: DENY, rules: [{to: [{operation: {paths: ['*/secret']}}]}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: another}
spec: {selector: {matchLabels: {app: other}}, action: DENY, rules: [{}]}
";

#[tokio::test]
async fn a_server_of_a_program_denies_what_policies_deny() {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dir = ConfigDir::new();
    dir.write("services.yaml", &shop(socket.local_addr().unwrap().port()));
    dir.write("policies.yaml", POLICIES);
    let mesh = Mesh::builder().config_dir(dir.path()).service("shop").build().await.unwrap();
    let server = mesh.server("shop").unwrap();
    tokio::spawn(async move { server.serve(socket, named("shop")).await });

    let client = Mesh::builder().config_dir(dir.path()).service("client").build().await.unwrap();
    let channel = client.channel("shop").unwrap();
    let denied = (403, "RBAC: access denied".to_owned());
    assert_eq!(get(&channel, "/items/1").await, (200, "shop /items/1".to_owned()));
    assert_eq!(get(&channel, "/items/secret").await, denied);
    assert_eq!(get(&channel, "/orders").await, denied);
    let request = Request::post("/items/1").body(String::new()).unwrap();
    let response = channel.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
    assert_eq!(response.status(), 403);
    let call = Request::post("/a.B/C").header("content-type", "application/grpc").body(String::new()).unwrap();
    let response = channel.clone().oneshot(call).await.unwrap_or_else(|never| match never {});
    let (head, body) = response.into_parts();
    let trailers = body.collect().await.unwrap().trailers().cloned().unwrap_or_default();
    let status = head.headers.get("grpc-status").or_else(|| trailers.get("grpc-status"));
    assert_eq!((head.status.as_u16(), status.unwrap().to_str().unwrap()), (200, "7"));
}

/// The MeshConfig with a provider, its service, and a policy about what is below `/orders`.
fn custom(port: u16) -> String {
    format!(
        "apiVersion: v1
kind: ConfigMap
metadata: {{name: istio, namespace: istio-system}}
data:
  mesh: 'extensionProviders: [{{name: p, envoyExtAuthzHttp: {{service: authz.example, port: 80, timeout: 5s}}}}]'
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: authz, namespace: auth}}
spec:
  hosts: [authz.example]
  exportTo: ['.']
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  endpoints: [{{address: 127.0.0.1, ports: {{http: {port}}}}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: ask}}
spec:
  selector: {{matchLabels: {{app: shop}}}}
  action: CUSTOM
  provider: {{name: p}}
  rules: [{{to: [{{operation: {{paths: [/orders*]}}}}]}}]
"
    )
}

#[tokio::test]
async fn a_server_of_a_program_asks_a_service_that_the_mesh_names() {
    let authz = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (socket, dir) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), ConfigDir::new());
    dir.write("services.yaml", &shop(socket.local_addr().unwrap().port()));
    dir.write("custom.yaml", &custom(authz.local_addr().unwrap().port()));
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = authz.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let status = if head.starts_with(b"GET /orders/1 ") { "200 OK" } else { "401 Unauthorized" };
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let mesh = Mesh::builder().config_dir(dir.path()).service("shop").build().await.unwrap();
    let server = mesh.server("shop").unwrap();
    tokio::spawn(async move { server.serve(socket, named("shop")).await });

    let client = Mesh::builder().config_dir(dir.path()).service("client").build().await.unwrap();
    let channel = client.channel("shop").unwrap();
    assert_eq!(get(&channel, "/orders/1").await, (200, "shop /orders/1".to_owned()));
    assert_eq!(get(&channel, "/orders/2").await, (401, String::new()));
    assert_eq!(get(&channel, "/items/2").await, (200, "shop /items/2".to_owned()), "it is not asked about others");
}
