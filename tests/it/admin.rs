//! The admin endpoint of a program.

use axum::Router;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use mesh::{Admin, ConfigEvent, Mesh};
use tower::ServiceExt as _;

use crate::support::{ConfigDir, get, shop};

async fn send(admin: &Admin, method: Method, target: &str) -> (StatusCode, String) {
    let request = Request::builder().method(method).uri(target).body(String::new()).unwrap();
    let response = admin.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn a_member_serves_envoys_admin_paths() {
    let dir = ConfigDir::new();
    dir.write("shop.yaml", &shop(7));
    let mesh = Mesh::builder().config_dir(dir.path()).service("client").build().await.unwrap();
    let admin = mesh.admin();
    let (_, unused) = send(&admin, Method::GET, "/stats").await;
    assert!(unused.contains("cluster_manager.active_clusters: 0"), "there is no channel to it: {unused}");
    let channel = mesh.channel("shop").unwrap();
    assert_eq!(get(&channel, "/").await.0, 503, "nothing listens there");
    // axum accepts it as a fallback service.
    let _: Router = Router::new().fallback_service(admin.clone());
    for (target, part) in [
        ("/ready", "LIVE"),
        ("/server_info", "\"user_agent_name\": \"mesh\""),
        ("/clusters?format=json", "\"port_value\": 7"),
        ("/config_dump", "outbound|80||shop.default.svc.cluster.local"),
        ("/config_dump?include_eds", "EndpointsConfigDump"),
        ("/stats", "cluster_manager.active_clusters: 1"),
        ("/help", "/stats/prometheus: "),
    ] {
        let (status, body) = send(&admin, Method::GET, target).await;
        assert!(status == StatusCode::OK && body.contains(part), "{target}: {status} {body}");
    }
    let (_, metrics) = send(&admin, Method::GET, "/stats/prometheus").await;
    assert!(mesh.metrics().lines().all(|line| metrics.lines().any(|other| other == line)), "{metrics}");
    for part in ["galley_validation_passed{", "mesh_config_last_reload_successful{} 1"] {
        assert!(mesh.metrics().contains(part), "{part} is not in\n{}", mesh.metrics());
    }

    let mut events = mesh.events();
    dir.write("shop.yaml", &shop("some"));
    while !matches!(events.next().await.unwrap(), ConfigEvent::Rejected(_)) {}
    let (status, ready) = send(&admin, Method::GET, "/ready").await;
    assert!(status == StatusCode::OK && ready.starts_with("LIVE\nthe configuration is "), "{ready}");
    let (_, dump) = send(&admin, Method::GET, "/config_dump?resource=generic_xds_configs").await;
    assert!(dump.contains("error_state") && dump.contains("ServiceEntry"), "{dump}");
    assert!(mesh.metrics().contains("mesh_config_last_reload_successful{} 0"), "{}", mesh.metrics());

    assert_eq!(send(&admin, Method::GET, "/reset_counters").await.0, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(send(&admin, Method::POST, "/reset_counters").await.0, StatusCode::OK);
    assert_eq!(send(&admin, Method::POST, "/quitquitquit").await.0, StatusCode::NOT_FOUND);
}
