//! Reading of valid and invalid bootstraps.

use mesh_core::model::{Discovery, ListenerAddress, RouteSource};

use super::*;
use crate::json;

fn read(text: &str) -> Result<Bootstrap, String> {
    let message = json::from_text(text, "envoy.yaml").map_err(|error| error.to_string())?;
    from_proto(&message).map_err(|error| error.to_string())
}

const PROXY: &str = r#"
node: {id: test, cluster: c}
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}
layered_runtime: {layers: [{name: static, static_layer: {envoy.reloadable_features.x: true, re2: {max_program_size: {error_level: 100}}}}]}
static_resources:
  listeners:
  - name: ingress
    address: {socket_address: {address: 127.0.0.1, port_value: 10000}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: ingress
          tracing: {}
          route_config:
            name: local
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{match: {prefix: /}, route: {cluster: echo, timeout: 3s}}]
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
  - name: echo
    connect_timeout: 0.25s
    load_assignment:
      cluster_name: echo
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 9000}}}}]}]
"#;

#[test]
fn a_static_proxy_becomes_clusters_then_listeners() {
    let bootstrap = read(PROXY).unwrap();
    assert_eq!(bootstrap.node.id, "test");
    assert_eq!(bootstrap.admin.unwrap().address, "127.0.0.1:0".parse().unwrap());
    let [Resource::Cluster(cluster), Resource::Listener(listener)] = &bootstrap.resources[..] else {
        panic!("{:?}", bootstrap.resources)
    };
    let Discovery::Static(assignment) = &cluster.discovery else { panic!("{cluster:?}") };
    assert_eq!(assignment.localities[0].endpoints.len(), 1);
    assert_eq!(listener.address, ListenerAddress::Socket("127.0.0.1:10000".parse().unwrap()));
    let http = listener.http_connection_manager().unwrap();
    let RouteSource::Inline(routes) = &http.routes else { panic!("{listener:?}") };
    assert_eq!(routes.virtual_hosts[0].routes.len(), 1);
    let ignored: Vec<String> = bootstrap.ignored.iter().map(|(place, note)| format!("{place}: {note}")).collect();
    assert_eq!(ignored.len(), 3, "{ignored:?}");
    assert!(ignored[2].starts_with("listener ingress: filter_chains[0].filters[0].typed_config.tracing: "));
}

#[test]
fn unsupported_fields_are_refused_with_their_path() {
    let check = |from: &str, to: &str, expected: &str| {
        let text = PROXY.replacen(from, to, 1);
        assert_ne!(text, PROXY, "{from:?} is not in the text");
        assert_eq!(read(&text).unwrap_err(), expected);
    };
    check(
        "static_resources:",
        "dynamic_resources: {ads_config: {api_type: GRPC}}\nstatic_resources:",
        "dynamic_resources: not supported",
    );
    check(
        "envoy.reloadable_features.x",
        "upstream.healthy_panic_threshold",
        "layered_runtime.layers[0].static_layer.upstream.healthy_panic_threshold: not supported",
    );
    check(
        "  - name: echo\n    connect_timeout: 0.25s",
        "  - name: echo\n    outlier_detection: {max_ejection_percent: 120, enforcing_success_rate: 0}",
        "cluster echo: outlier_detection.max_ejection_percent: 120 is not in 0..=100",
    );
    check(
        "address: 127.0.0.1, port_value: 9000",
        "address: localhost, port_value: 9000",
        "cluster echo: load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address\
         .address: \"localhost\" is not an IP address (the cluster's type does not resolve names)",
    );
    check(
        "prefix: /}",
        "prefix: /, cookies: [{name: a}]}",
        "listener ingress: filter_chains[0]\
         .filters[0].typed_config.route_config.virtual_hosts[0].routes[0].match.cookies: not supported",
    );
    check(
        "          - name: envoy.filters.http.router",
        "          - name: envoy.filters.http.rbac\n            typed_config: {\"@type\": \
         type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC}\n          - name: envoy.filters.http.router",
        "listener ingress: filter_chains[0].filters[0].typed_config.http_filters[0]: http filter \
         envoy.filters.http.rbac: not supported",
    );
    check(
        "  clusters:\n",
        "  clusters: [{name: a}, {name: a}]\nx:\n",
        "envoy.yaml:26:1: x: unknown field of envoy.config.bootstrap.v3.Bootstrap",
    );
}

#[test]
fn a_name_that_is_used_twice_is_refused() {
    let message = json::from_text("static_resources: {clusters: [{name: a}, {name: a}]}", "x").unwrap();
    let error = from_proto(&message).unwrap_err();
    assert_eq!(error.to_string(), "cluster a: name: duplicate: a name stands for one resource");
    assert_eq!(error.faults[0].path(), "static_resources.clusters[1].name");
}
