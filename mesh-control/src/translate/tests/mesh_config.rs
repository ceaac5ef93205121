//! What MeshConfig changes.

use mesh_xds::proto::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use mesh_xds::proto::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::PathWithEscapedSlashesAction as Escaped;
use prost::{Message as _, Name as _};

use super::*;

/// The ConfigMap with this MeshConfig, after `rest`.
fn with(mesh: &str, rest: &str) -> String {
    format!(
        "{rest}---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\n\
         data: {{mesh: '{mesh}'}}\n"
    )
}

/// The connection managers of a gateway.
fn managers(mesh: &str) -> Vec<HttpConnectionManager> {
    let servers =
        "{selector: {app: edge}, servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: ['*']}]}";
    let node = Node::new(Role::Gateway, None, None, Labels::from([("app".into(), "edge".into())])).unwrap();
    let listeners = resources(&with(mesh, &resource("Gateway", "edge", servers)), &node).listeners;
    let chains = listeners.iter().flat_map(|listener| &listener.filter_chains);
    let filters = chains.flat_map(|chain| &chain.filters).filter_map(|filter| match filter.config_type.as_ref()? {
        mesh_xds::proto::envoy::config::listener::v3::filter::ConfigType::TypedConfig(any) => Some(any),
        _ => None,
    });
    let of_http = filters.filter(|any| any.type_url.ends_with(&HttpConnectionManager::full_name()));
    of_http.map(|any| HttpConnectionManager::decode(&*any.value).unwrap()).collect()
}

#[test]
fn paths_are_normalized_as_configured() {
    for (normalization, expected) in [
        ("NONE", (false, false, Escaped::default())),
        ("DEFAULT", (true, false, Escaped::default())),
        ("BASE", (true, false, Escaped::default())),
        ("MERGE_SLASHES", (true, true, Escaped::default())),
        ("DECODE_AND_MERGE_SLASHES", (true, true, Escaped::UnescapeAndForward)),
    ] {
        let found = managers(&format!("pathNormalization: {{normalization: {normalization}}}"));
        assert!(!found.is_empty());
        for http in found {
            let escaped = http.path_with_escaped_slashes_action();
            assert_eq!((http.normalize_path.unwrap(), http.merge_slashes, escaped), expected, "{normalization}");
        }
    }
}

#[test]
fn rules_of_the_root_namespace_are_for_the_whole_mesh() {
    let rule = resource(
        "DestinationRule",
        "a",
        "{host: a.default.svc.cluster.local, trafficPolicy: {connectionPool: {http: {http1MaxPendingRequests: 7}}}}",
    );
    let rule = rule.replace("{name: a}", "{name: a, namespace: root}");
    let pending = |text: &str| {
        let clusters = resources(text, &client()).clusters;
        let cluster =
            clusters.iter().find(|cluster| cluster.name == "outbound|80||a.default.svc.cluster.local").unwrap();
        cluster.circuit_breakers.as_ref().unwrap().thresholds[0].max_pending_requests
    };
    assert_eq!(pending(&with("rootNamespace: root", &rule)), Some(7));
    assert_ne!(pending(&with("trustDomain: a", &rule)), Some(7));
}
