//! What an operator sees of a refused configuration without the log.

use std::net::SocketAddr;

use serde_json::Value;

use crate::process::{Directory, Proxy, Upstream, bootstrap, get};

/// A gateway that responds itself with this status.
fn mesh(status: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge}}
spec:
  selector: {{istio: ingressgateway}}
  servers: [{{port: {{number: {}, name: http, protocol: HTTP}}, bind: 127.0.0.1, hosts: ['*']}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: all}}
spec:
  hosts: ['*']
  gateways: [edge]
  http: [{{directResponse: {{status: {status}}}}}]
",
        Upstream::new().address().port()
    )
}

/// The body of the response to a GET.
fn body(admin: SocketAddr, path: &str) -> String {
    let response = get(admin, path);
    response.split_once("\r\n\r\n").unwrap().1.to_owned()
}

fn dump(admin: SocketAddr, resource: &str) -> Value {
    serde_json::from_str(&body(admin, &format!("/config_dump?resource={resource}"))).unwrap()
}

#[test]
fn a_refused_directory_is_in_the_dump_the_readiness_and_the_metrics_until_it_is_mended() {
    let directory = Directory::new("operator");
    let good = mesh("200");
    directory.write("mesh.yaml", &good);
    let proxy = Proxy::start(&["--istio", directory.0.to_str().unwrap(), "--role", "gateway"]);
    let admin = proxy.address_in("admin endpoint: listening");
    let applied = proxy.line_with("applied ");
    assert!(applied.contains("INFO applied 1 listener, 1 cluster, 1 route in "), "{applied}");
    proxy.line_with("ready");
    assert_eq!(body(admin, "/ready"), "LIVE\n");
    assert!(!body(admin, "/config_dump").contains("error_state"));
    let listeners = dump(admin, "dynamic_listeners");
    assert!(!listeners["configs"][0]["active_state"]["version_info"].as_str().unwrap().is_empty(), "{listeners:#}");

    let bad = good.replace("status: 200", "status: soon");
    directory.write("mesh.yaml", &bad);
    proxy.line_with("the last good one stays");
    let dumped = dump(admin, "generic_xds_configs");
    let refused = &dumped["configs"][0];
    assert_eq!(refused["type_url"], "networking.istio.io/v1/VirtualService", "{dumped:#}");
    assert_eq!((&refused["name"], &refused["client_status"]), (&"default/all".into(), &"NACKED".into()));
    let state = &refused["error_state"];
    assert_eq!(state["version_info"], "2");
    assert!(state["details"].as_str().unwrap().contains("mesh.yaml:14:"), "{state:#}");
    let text = state["failed_configuration"]["value"].as_str().unwrap();
    assert!(text.contains("kind: VirtualService") && text.contains("soon") && !text.contains("Gateway"), "{text}");
    assert!(state["last_update_attempt"].is_string(), "{state:#}");

    let response = get(admin, "/ready");
    let ready = body(admin, "/ready");
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    let mut lines = ready.lines();
    assert_eq!(lines.next(), Some("LIVE"));
    let detail = lines.next().unwrap();
    assert!(
        detail.starts_with("the configuration is ") && detail.contains(" old: the last change was refused "),
        "{ready}"
    );
    assert!(detail.contains(" ago with 1 error: ") && detail.contains("spec.http[0].directResponse.status"), "{ready}");

    let metrics = body(admin, "/stats/prometheus");
    let labels = |resource| format!("{{group=\"networking.istio.io\",version=\"v1\",resource=\"{resource}\"");
    for line in [
        format!("galley_validation_failed{},reason=\"invalid_resource\"}} 1", labels("virtualservices")),
        format!("galley_validation_passed{}}} 1", labels("virtualservices")),
        "pilot_total_xds_rejects{type=\"rds\"} 0".to_owned(),
        "mesh_config_last_reload_successful{} 0".to_owned(),
        "envoy_listener_manager_lds_update_rejected{} 0".to_owned(),
        "envoy_listener_manager_lds_update_success{} 1".to_owned(),
        "envoy_cluster_manager_cds_update_rejected{} 0".to_owned(),
    ] {
        assert!(metrics.lines().any(|other| other == line), "{line} is not in\n{metrics}");
    }
    let stats = body(admin, "/stats");
    let clusters = dump(admin, "dynamic_active_clusters");
    let version = clusters["configs"][0]["version_info"].as_str().unwrap();
    let hash = mesh_core::xxhash::xxh64(version.as_bytes());
    assert!(stats.contains(&format!("cluster_manager.cds.version: {hash}\n")), "Envoy's hash of {version}: {stats}");
    assert!(stats.contains(&format!("cluster_manager.cds.version_text: \"{version}\"\n")), "{stats}");
    assert!(stats.lines().any(|line| line.contains(".rds.") && line.ends_with(".update_success: 1")), "{stats}");

    directory.write("mesh.yaml", &good.replace("status: 200", "status: 201"));
    proxy.line_with("configuration 2 is valid");
    let applied = proxy.line_with("applied ");
    assert!(applied.contains("INFO applied 1 route in "), "{applied}");
    assert_eq!(body(admin, "/ready"), "LIVE\n");
    assert!(!body(admin, "/config_dump").contains("error_state"));
    assert!(body(admin, "/stats/prometheus").contains("mesh_config_last_reload_successful{} 1\n"));
}

#[test]
fn a_bootstrap_is_summarized_in_numbers() {
    let proxy = Proxy::start(&["--config-yaml", &bootstrap(Upstream::new().address())]);
    let applied = proxy.line_with("applied ");
    assert!(applied.contains("INFO applied 1 listener, 1 cluster in "), "{applied}");
    proxy.line_with("listener main: listening on 127.0.0.1");
    proxy.line_with("ready");
}
