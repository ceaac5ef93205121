//! Configuration from a directory of Istio resources.

use std::{net::SocketAddr, time::Duration};

use mesh::{ConfigEvent, ConfigEvents, Mesh};
use tokio::time::timeout;
use tower::ServiceExt as _;

use crate::support::{ConfigDir, get, serve};

fn services(v1: SocketAddr, v2: SocketAddr) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: shop}}
spec:
  hosts: [shop.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  endpoints:
  - {{address: 127.0.0.1, ports: {{http: {}}}, labels: {{version: v1}}}}
  - {{address: 127.0.0.1, ports: {{http: {}}}, labels: {{version: v2}}}}
",
        v1.port(),
        v2.port()
    )
}

fn rules(v1: &str, v2: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: shop}}
spec:
  host: shop
  subsets:
  - {{name: v1, labels: {{version: v1}}}}
  - {{name: v2, labels: {{version: v2}}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: shop}}
spec:
  hosts: [shop]
  http:
  - route:
    - {{destination: {{host: shop, subset: v1}}, weight: {v1}}}
    - {{destination: {{host: shop, subset: v2}}, weight: {v2}}}
"
    )
}

/// The next event with the outcome of an edit.
async fn outcome(events: &mut ConfigEvents) -> ConfigEvent {
    let outcome = async {
        loop {
            let event = events.next().await.unwrap();
            if !matches!(event, ConfigEvent::Accepted(_)) {
                return event;
            }
        }
    };
    timeout(Duration::from_secs(20), outcome).await.unwrap()
}

#[tokio::test]
async fn edits_are_applied_and_invalid_ones_change_nothing() {
    let servers = Mesh::builder().service("shop").build().await.unwrap();
    let (v1, v2) = (serve(&servers, "v1").await, serve(&servers, "v2").await);
    let dir = ConfigDir::new();
    dir.write("services.yaml", &services(v1, v2));
    dir.write("shop.yaml", &rules("100", "0"));

    let mesh = Mesh::builder().config_dir(dir.path()).service("client").build().await.unwrap();
    let mut events = mesh.events();
    for name in ["shop", "shop:80", "shop.default", "shop.default.svc.cluster.local:80", "xds:///shop:80"] {
        assert_eq!(get(&mesh.channel(name).unwrap(), "/").await, (200, "v1 /".to_owned()), "{name}");
    }
    assert!(mesh.channel("shopp").unwrap_err().is_unknown_target(), "a misspelt name is an error at once");
    let channel = mesh.channel("shop").unwrap();

    dir.write("shop.yaml", &rules("0", "100"));
    let event = outcome(&mut events).await;
    assert!(matches!(event, ConfigEvent::Applied(_)), "{event}");
    assert_eq!(get(&channel, "/").await, (200, "v2 /".to_owned()));

    dir.write("shop.yaml", &rules("some", "100"));
    let ConfigEvent::Rejected(rejected) = outcome(&mut events).await else { panic!("an invalid edit was accepted") };
    let [error] = rejected.errors.try_into().unwrap();
    assert!(error.contains("shop.yaml:17:55: ") && error.contains("weight") && error.contains("some"), "{error}");
    assert_eq!(get(&channel, "/").await, (200, "v2 /".to_owned()));

    let labels = "source_canonical_service=\"client\"";
    assert!(mesh.metrics().lines().any(|line| line.starts_with("istio_requests_total{") && line.contains(labels)));
}

#[tokio::test]
async fn a_request_gets_its_configuration_although_its_channel_has_been_dropped() {
    let servers = Mesh::builder().service("shop").build().await.unwrap();
    let address = serve(&servers, "v1").await;
    let dir = ConfigDir::new();
    dir.write("services.yaml", &services(address, address));
    let mesh = Mesh::builder().config_dir(dir.path()).build().await.unwrap();
    let request = http::Request::get("/").body(String::new()).unwrap();
    let answer = mesh.channel("shop").unwrap().oneshot(request).await.unwrap_or_else(|never| match never {});
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn the_first_request_waits_for_the_addresses_of_host_names() {
    let servers = Mesh::builder().service("shop").build().await.unwrap();
    let address = serve(&servers, "v1").await;
    let dir = ConfigDir::new();
    let services =
        services(address, address).replace("STATIC", "DNS").replace("address: 127.0.0.1", "address: localhost");
    dir.write("services.yaml", &services);
    let mesh = Mesh::builder().config_dir(dir.path()).build().await.unwrap();
    assert_eq!(get(&mesh.channel("shop").unwrap(), "/").await, (200, "v1 /".to_owned()));
}

#[tokio::test]
async fn a_directory_that_cannot_be_used_is_an_error_with_place_and_cause() {
    let dir = ConfigDir::new();
    dir.write("shop.yaml", &rules("50", "50"));
    for (path, expected) in [(dir.path().to_owned(), "shop.yaml:"), (dir.path().join("absent"), "absent")] {
        let error = Mesh::builder().config_dir(path).build().await.unwrap_err();
        assert!(error.is_config());
        let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        assert!(format!("{error} {source}").contains(expected), "{error} {source}");
    }
}

#[tokio::test]
async fn an_error_is_printed_with_the_invalid_lines() {
    let dir = ConfigDir::new();
    dir.write("services.yaml", &services(([127, 0, 0, 1], 1).into(), ([127, 0, 0, 1], 2).into()));
    dir.write("shop.yaml", &rules("some", "100"));
    let error = Mesh::builder().config_dir(dir.path()).build().await.unwrap_err();
    let report = error.report();
    let start =
        format!("cannot use the configuration in {}: the configuration has errors\n\nerror[", dir.path().display());
    assert!(report.starts_with(&start), "{report}");
    let line = "17 |     - {destination: {host: shop, subset: v1}, weight: some}\n";
    let caret = format!("   | {}^^^^ ", " ".repeat(54));
    assert!(report.contains("shop.yaml:17:55\n") && report.contains(line) && report.contains(&caret), "{report}");
    assert_eq!(format!("{error:?}"), report, "it is what `main` prints");
    assert!(!error.to_string().contains('\n'), "{error}");

    let error = Mesh::builder().config_dir(dir.path().join("absent")).build().await.unwrap_err();
    assert!(error.report().ends_with("(os error 2)"), "{error:?}");
}

#[tokio::test]
async fn an_unknown_target_is_an_error_with_suggestions() {
    let dir = ConfigDir::new();
    dir.write("services.yaml", &services(([127, 0, 0, 1], 1).into(), ([127, 0, 0, 1], 2).into()));
    let mesh = Mesh::builder().config_dir(dir.path()).build().await.unwrap();
    for (target, expected) in [
        ("shop:81", "the service shop has no port 81; it has 80"),
        ("shopp", "the mesh has no service shopp; did you mean shop:80?"),
        ("cart", "the mesh has no service cart; known services: shop:80"),
        (
            "http://shop:80",
            "invalid target \"http://shop:80\": a target is not a URL; expected HOST[:PORT], such as \"shop:80\"",
        ),
    ] {
        assert_eq!(mesh.channel(target).unwrap_err().to_string(), expected);
    }
}

#[tokio::test]
async fn a_channel_keeps_following_when_the_mesh_is_dropped() {
    let servers = Mesh::builder().service("shop").build().await.unwrap();
    let (v1, v2) = (serve(&servers, "v1").await, serve(&servers, "v2").await);
    let dir = ConfigDir::new();
    dir.write("services.yaml", &services(v1, v2));
    dir.write("shop.yaml", &rules("100", "0"));
    let mesh = Mesh::builder().config_dir(dir.path()).build().await.unwrap();
    let (channel, mut events) = (mesh.channel("shop").unwrap(), mesh.events());
    drop(mesh);
    dir.write("shop.yaml", &rules("0", "100"));
    outcome(&mut events).await;
    assert_eq!(get(&channel, "/").await.1, "v2 /");
    drop(channel);
    let ended = async { while events.next().await.is_some() {} };
    timeout(Duration::from_secs(20), ended).await.unwrap();
}
