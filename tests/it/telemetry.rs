//! The metrics of a request at both of its ends.

use std::convert::Infallible;

use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt as _;
use mesh::{Body, Mesh};
use tokio::net::TcpListener;
use tower::{ServiceExt as _, service_fn};

use crate::support::{ConfigDir, get, shop};

/// The labels of the only `istio_requests_total` of this reporter.
fn labels(mesh: &Mesh, reporter: &str) -> String {
    let metrics = mesh.metrics();
    let start = format!("istio_requests_total{{reporter=\"{reporter}\",");
    let mut series = metrics.lines().filter_map(|line| line.strip_prefix(&start));
    let (Some(only), None) = (series.next(), series.next()) else { panic!("expected one series in {metrics}") };
    only.to_owned()
}

fn has_peer_metadata(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| name.as_str().starts_with("x-envoy-peer-metadata"))
}

fn label<'a>(labels: &'a str, name: &str) -> &'a str {
    let start = format!("{name}=\"");
    let at = labels.find(&start).unwrap_or_else(|| panic!("no {name} in {labels}")) + start.len();
    labels[at..].split('"').next().unwrap()
}

#[tokio::test]
async fn both_ends_of_a_request_report_the_same_labels() {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dir = ConfigDir::new();
    dir.write("services.yaml", &shop(socket.local_addr().unwrap().port()));
    let shop = Mesh::builder().config_dir(dir.path()).service("shop").build().await.unwrap();
    let server = shop.server("shop").unwrap();
    let service = service_fn(|request: Request<Body>| async move {
        let seen = if has_peer_metadata(request.headers()) { "peer metadata" } else { "none" };
        Ok::<_, Infallible>(Response::new(seen.to_owned()))
    });
    tokio::spawn(async move { server.serve(socket, service).await });

    let client = Mesh::builder().config_dir(dir.path()).service("client").label("version", "v2").build().await.unwrap();
    let channel = client.channel("shop").unwrap();
    assert_eq!(get(&channel, "/").await, (200, "none".to_owned()), "the service does not see peer metadata");
    let forged = Request::get("/").header("x-envoy-peer-metadata", "forged").body(String::new()).unwrap();
    let response = channel.oneshot(forged).await.unwrap_or_else(|never| match never {});
    assert!(!has_peer_metadata(response.headers()), "{response:?}");
    response.into_body().collect().await.unwrap();

    let (source, destination) = (labels(&client, "source"), labels(&shop, "destination"));
    for (name, value) in [
        ("source_workload", "client-v2"),
        ("source_workload_namespace", "default"),
        ("source_canonical_service", "client"),
        ("source_canonical_revision", "v2"),
        ("source_version", "v2"),
        ("source_cluster", "Kubernetes"),
        ("destination_workload", "shop-v1"),
        ("destination_workload_namespace", "default"),
        ("destination_app", "shop"),
        ("destination_version", "v1"),
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
}
