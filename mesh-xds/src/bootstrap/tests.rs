//! Reading of valid and invalid bootstraps.

use std::time::Duration;

use mesh_core::model::{Discovery, ListenerAddress, RouteSource};

use super::*;
use crate::json;
use crate::resource::{ApiSource, Source};

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
        "dynamic_resources: {ads_config: {api_type: REST}}\nstatic_resources:",
        "dynamic_resources.ads_config.api_type: REST: not supported, GRPC and DELTA_GRPC are",
    );
    check(
        "envoy.reloadable_features.x",
        "upstream.healthy_panic_threshold",
        "layered_runtime.layers[0].static_layer.upstream.healthy_panic_threshold: runtime key \
         upstream.healthy_panic_threshold: not supported",
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
        "prefix: /, cookies: [{name: a, string_match: {exact: b}}]}",
        "listener ingress: filter_chains[0]\
         .filters[0].typed_config.route_config.virtual_hosts[0].routes[0].match.cookies: not supported",
    );
    check(
        "          - name: envoy.filters.http.router",
        "          - name: envoy.filters.http.buffer\n            typed_config: {\"@type\": \
         type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer}\n          - name: envoy.filters.http.router",
        "listener ingress: filter_chains[0].filters[0].typed_config.http_filters[0]: http filter \
         envoy.filters.http.buffer: not supported",
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

#[test]
fn listeners_without_a_name_are_called_by_their_address() {
    let listener = |name: &str, port: u16| {
        let text = format!(
            "{{name: '{name}', address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}, filter_chains: \
             [{{filters: [{{name: t, typed_config: {{'@type': \
             type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: t, cluster: a}}}}]}}]}}"
        );
        text
    };
    let all = [listener("127.0.0.1:1", 9), listener("", 80), listener("", 0), listener("", 1), listener("", 0)];
    let bootstrap = read(&format!("static_resources: {{listeners: [{}]}}", all.join(", "))).unwrap();
    let names: Vec<&str> = bootstrap.resources.iter().map(Resource::name).collect();
    assert_eq!(names, ["127.0.0.1:1", "127.0.0.1:80", "127.0.0.1:0", "127.0.0.1:1 (2)", "127.0.0.1:0 (2)"]);
}

#[test]
fn all_that_is_not_supported_is_reported_at_once() {
    let text = "
stats_sinks: [{name: envoy.stat_sinks.statsd}]
layered_runtime: {layers: [{name: a, static_layer: {x.y: 1, z: 2}}, {name: b, disk_layer: {symlink_root: /a}}]}
static_resources:
  clusters:
  - {name: a, type: STATIC, lb_policy: MAGLEV, health_checks: [{timeout: 1s, interval: 1s, unhealthy_threshold: 1, healthy_threshold: 1, tcp_health_check: {}}]}
  - {connect_timeout: 0s, upstream_config: {name: x}}
  listeners:
  - address: {socket_address: {address: 127.0.0.1, port_value: 80}}
    filter_chains:
    - transport_socket: {name: envoy.transport_sockets.quic, typed_config: {'@type': type.googleapis.com/envoy.extensions.transport_sockets.quic.v3.QuicDownstreamTransport}}
      filters:
      - name: hcm
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          local_reply_config: {body_format: {text_format: x}}
          route_config: {virtual_hosts: [{name: v, domains: ['*'], rate_limits: [{actions: [{source_cluster: {}}]}]}]}
          http_filters:
          - {name: lua, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua}}
          - {name: envoy.filters.http.wasm, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm}}
";
    let errors = read(text).unwrap_err();
    let typed_config = "listener 127.0.0.1:80: filter_chains[0].filters[0].typed_config";
    let expected = [
        "stats_sinks: not supported".to_owned(),
        "layered_runtime.layers[0].static_layer.x.y: runtime key x.y: not supported".to_owned(),
        "layered_runtime.layers[0].static_layer.z: runtime key z: not supported".to_owned(),
        "layered_runtime.layers[1].disk_layer: not supported".to_owned(),
        "cluster a: health_checks: not supported".to_owned(),
        "cluster a: lb_policy: MAGLEV: not supported".to_owned(),
        "cluster (unnamed): name: must have at least 1 character".to_owned(),
        "cluster (unnamed): connect_timeout: 0s is not greater than 0s".to_owned(),
        "cluster (unnamed): upstream_config: not supported".to_owned(),
        format!("{typed_config}.stat_prefix: must have at least 1 character"),
        format!("{typed_config}.local_reply_config: not supported"),
        format!("{typed_config}.http_filters[0]: http filter lua (envoy.filters.http.lua): not supported"),
        format!("{typed_config}.http_filters[1]: http filter envoy.filters.http.wasm: not supported"),
        format!("{typed_config}.route_config.virtual_hosts[0].rate_limits: not supported"),
        "listener 127.0.0.1:80: filter_chains[0].transport_socket: transport socket envoy.transport_sockets.quic: not supported"
            .to_owned(),
    ];
    for expected in &expected {
        assert!(errors.lines().any(|line| line == expected), "{expected:?} is not in {errors}");
    }
    assert_eq!(errors.lines().count(), expected.len(), "{errors}");
}

const API: &str = "api_type: GRPC, transport_api_version: V3, grpc_services: [{envoy_grpc: {cluster_name: echo}}]";

#[test]
fn listeners_and_clusters_may_come_from_a_stream_for_all_types_one_of_their_own_and_a_file() {
    let dynamic = |text: &str| {
        let text = format!("dynamic_resources: {{{text}}}\nstatic_resources:");
        read(&PROXY.replacen("static_resources:", &text, 1)).map(|bootstrap| bootstrap.dynamic_resources)
    };
    let metadata = API.replace("}}]", "}, initial_metadata: [{key: Token, value: t}]}]");
    let all = dynamic(&format!(
        "ads_config: {{{metadata}}}, lds_config: {{ads: {{}}, initial_fetch_timeout: 0s}}, \
         cds_config: {{path_config_source: {{path: /cds.yaml}}}}"
    ))
    .unwrap();
    let ads = all.ads_config.unwrap();
    assert_eq!((&*ads.cluster, ads.initial_metadata[0].0.as_str()), ("echo", "token"));
    assert_eq!(all.lds_config, Some(TypeSource { source: Source::Aggregated, initial_fetch_timeout: None }));
    let clusters = all.cds_config.unwrap();
    assert_eq!(clusters.source, Source::File("/cds.yaml".into()));
    assert_eq!(clusters.initial_fetch_timeout, Some(Duration::from_secs(15)));
    let own = dynamic(&format!("lds_config: {{api_config_source: {{{API}}}}}")).unwrap();
    assert_eq!(own.lds_config.unwrap().source, Source::Grpc(ApiSource::at_cluster("echo")));
    for (text, expected) in [
        ("lds_config: {ads: {}}".to_owned(), "dynamic_resources.lds_config.ads: there is no ads_config"),
        (
            format!("ads_config: {{{}}}", API.replace("echo", "other")),
            "dynamic_resources.ads_config.grpc_services[0].envoy_grpc.cluster_name: there is no cluster \"other\" in \
             the bootstrap",
        ),
        (
            format!("cds_config: {{api_config_source: {{{}}}}}", API.replace("echo", "other")),
            "dynamic_resources.cds_config.api_config_source.grpc_services[0].envoy_grpc.cluster_name: there is no \
             cluster \"other\" in the bootstrap",
        ),
        (
            "ads_config: {api_type: GRPC, transport_api_version: V3}".to_owned(),
            "dynamic_resources.ads_config.grpc_services: there must be one service, not 0",
        ),
        ("lds_resources_locator: 'xdstp://a/b'".to_owned(), "dynamic_resources.lds_resources_locator: not supported"),
    ] {
        assert_eq!(dynamic(&text).unwrap_err(), expected, "{text}");
    }
}

#[test]
fn empty_sections_are_taken() {
    for text in ["{}", "admin:", "admin: {}", "static_resources:", "static_resources: {clusters:, listeners: []}"] {
        assert_eq!(read(text).map(|bootstrap| bootstrap.resources.len()), Ok(0), "{text}");
    }
    for section in ["dynamic_resources", "tracing", "layered_runtime", "cluster_manager", "node"] {
        let bootstrap = read(&format!("{section}: {{}}"));
        assert!(bootstrap.is_ok(), "{section}: {bootstrap:?}");
    }
}

#[test]
fn the_access_log_of_the_admin_endpoint_may_be_given_in_two_ways() {
    let logs = |fields: &str| {
        let address = "address: {socket_address: {address: 127.0.0.1, port_value: 0}}";
        read(&format!("admin: {{{address}, {fields}}}")).map(|bootstrap| bootstrap.admin.unwrap().access_log)
    };
    let typed = "access_log: [{name: f, typed_config: {'@type': \
                 type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: /dev/null}}]";
    assert_eq!(logs(typed), logs("access_log_path: /dev/null"));
    assert_eq!(logs("access_log_path: /dev/null").unwrap().len(), 1);
    assert_eq!(logs("access_log_path: ''"), Ok(vec![]));
}

#[test]
fn extensions_in_fields_without_effect_are_taken() {
    let zipkin = "tracing: {provider: {name: envoy.tracers.zipkin, typed_config: {'@type': type.googleapis.com/\
                  envoy.config.trace.v3.ZipkinConfig, collector_cluster: z, collector_endpoint: /}}}";
    let text = PROXY.replacen("tracing: {}", zipkin, 1);
    let process = "
overload_manager: {resource_monitors: [{name: envoy.resource_monitors.fixed_heap, typed_config: {'@type': type.googleapis.com/envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig, max_heap_size_bytes: 1}}]}
default_regex_engine: {name: envoy.regex_engines.google_re2, typed_config: {'@type': type.googleapis.com/envoy.extensions.regex_engines.v3.GoogleRE2}}
watchdogs: {worker_watchdog: {actions: [{config: {name: envoy.watchdog.profile_action, typed_config: {'@type': type.googleapis.com/envoy.extensions.watchdog.profile_action.v3.ProfileActionConfig, profile_path: /tmp}}, event: MISS}]}}
";
    let ignored = read(&format!("{text}{process}")).unwrap().ignored;
    for path in
        ["overload_manager", "default_regex_engine", "watchdogs", "filter_chains[0].filters[0].typed_config.tracing"]
    {
        assert!(ignored.iter().any(|(_, note)| note.path == path), "{path} is not in {ignored:?}");
    }
}
