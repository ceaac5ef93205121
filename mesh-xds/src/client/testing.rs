//! Resources and responses of control planes for tests of the client.

use prost_types::Any;

use crate::json::from_text;
use crate::proto::envoy::config::bootstrap::v3::bootstrap::StaticResources;
use crate::proto::envoy::config::endpoint::v3::ClusterLoadAssignment;
use crate::proto::envoy::config::listener::v3::Listener;
use crate::proto::envoy::config::route::v3::RouteConfiguration;
use crate::proto::envoy::service::discovery::v3::DiscoveryResponse;
use crate::resource::{ResourceType, pack};

/// A cluster as it stands.
pub(super) fn cluster(yaml: &str) -> Any {
    let resources: StaticResources = from_text(&format!("clusters: [{yaml}]"), "test").unwrap();
    pack(&resources.clusters[0])
}

/// A cluster that takes its endpoints from the resource of its name.
pub(super) fn eds_cluster(name: &str) -> Any {
    cluster(&format!("{{name: {name}, type: EDS, eds_cluster_config: {{eds_config: {{ads: {{}}}}}}}}"))
}

/// One endpoint on loopback.
pub(super) fn endpoints(name: &str, port: u16) -> Any {
    let text = format!(
        "{{cluster_name: {name}, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: \
         {{address: 127.0.0.1, port_value: {port}}}}}}}}}]}}]}}"
    );
    pack(&from_text::<ClusterLoadAssignment>(&text, "").unwrap())
}

/// Routes of all requests to `cluster`.
pub(super) fn routes(name: &str, cluster: &str) -> Any {
    let text = format!(
        "{{name: {name}, virtual_hosts: [{{name: all, domains: ['*'], routes: [{{match: {{prefix: /}}, \
         route: {{cluster: {cluster}}}}}]}}]}}"
    );
    pack(&from_text::<RouteConfiguration>(&text, "").unwrap())
}

/// An API listener with the routes of this name.
pub(super) fn listener(name: &str, routes: &str) -> Any {
    let text = format!("{{name: {name}, api_listener: {{api_listener: {}}}}}", http_connection_manager(routes));
    pack(&from_text::<Listener>(&text, "").unwrap())
}

/// A listener on a socket with the routes of this name.
pub(super) fn socket_listener(name: &str, routes: &str) -> Any {
    let text = format!(
        "{{name: {name}, address: {{socket_address: {{address: 127.0.0.1, port_value: 80}}}}, filter_chains: \
         [{{filters: [{{name: http, typed_config: {}}}]}}]}}",
        http_connection_manager(routes)
    );
    pack(&from_text::<Listener>(&text, "").unwrap())
}

fn http_connection_manager(routes: &str) -> String {
    format!(
        "{{'@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3\
         .HttpConnectionManager, stat_prefix: test, rds: {{route_config_name: {routes}, config_source: \
         {{ads: {{}}}}}}, http_filters: [{{name: router, typed_config: {{'@type': \
         type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}}}]}}"
    )
}

/// A response with the nonce `nonce-VERSION`.
pub(super) fn response(kind: ResourceType, version: &str, resources: Vec<Any>) -> DiscoveryResponse {
    DiscoveryResponse {
        version_info: version.to_owned(),
        nonce: format!("nonce-{version}"),
        type_url: kind.type_url(),
        resources,
        ..DiscoveryResponse::default()
    }
}
