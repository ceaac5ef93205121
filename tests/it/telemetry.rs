//! What is counted about a request at both of its ends.

use std::convert::Infallible;

use http::{Request, Response};
use mesh::{Body, Mesh};
use tokio::net::TcpListener;
use tower::service_fn;

use crate::support::{ConfigDir, get};

const SERVICES: &str = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: shop}
spec:
  hosts: [shop.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints:
  - {address: 127.0.0.1, ports: {http: PORT}, labels: {app: shop, version: v1}}
";

/// The labels of the only `istio_requests_total` of this reporter.
fn labels(mesh: &Mesh, reporter: &str) -> String {
    let metrics = mesh.metrics();
    let start = format!("istio_requests_total{{reporter=\"{reporter}\",");
    let mut series = metrics.lines().filter_map(|line| line.strip_prefix(&start));
    let (Some(only), None) = (series.next(), series.next()) else { panic!("not one series in {metrics}") };
    only.to_owned()
}

fn label<'a>(labels: &'a str, name: &str) -> &'a str {
    let start = format!("{name}=\"");
    let at = labels.find(&start).unwrap_or_else(|| panic!("no {name} in {labels}")) + start.len();
    labels[at..].split('"').next().unwrap()
}

#[tokio::test]
async fn both_ends_of_a_request_tell_the_same() {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dir = ConfigDir::new();
    dir.write("services.yaml", &SERVICES.replace("PORT", &socket.local_addr().unwrap().port().to_string()));
    let shop = Mesh::builder().config_dir(dir.path()).service("shop").build().await.unwrap();
    let server = shop.server("shop").unwrap();
    let service = service_fn(|_: Request<Body>| async { Ok::<_, Infallible>(Response::new(String::new())) });
    tokio::spawn(async move { server.serve(socket, service).await });

    let client = Mesh::builder().config_dir(dir.path()).service("client").label("version", "v2").build().await.unwrap();
    assert_eq!(get(&client.channel("shop").unwrap(), "/").await.0, 200);

    let (source, destination) = (labels(&client, "source"), labels(&shop, "destination"));
    for (name, value) in [
        ("destination_service", "shop.default.svc.cluster.local"),
        // Istio's name for a service of a ServiceEntry.
        ("destination_service_name", "shop.default.svc.cluster.local"),
        ("destination_service_namespace", "default"),
        ("destination_canonical_service", "shop"),
        ("destination_canonical_revision", "v1"),
        ("destination_cluster", "Kubernetes"),
    ] {
        assert_eq!((label(&source, name), label(&destination, name)), (value, value), "{name}");
    }
    assert_eq!(label(&source, "source_workload"), "client-v2");
    assert_eq!(label(&destination, "destination_workload"), "shop-v1");
}
