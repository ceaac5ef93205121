//! Removes from a resource what is not supported, and what has no meaning.

use serde_json::{Map, Value, json};

/// Names of a gRPC route configuration and a cluster are the same; a virtual host's is `HOST:PORT`.
pub(crate) fn virtual_host_of_cluster(name: &str) -> String {
    let mut parts = name.split('|');
    let (port, host) = (parts.nth(1).unwrap_or_default(), parts.nth(1).unwrap_or_default());
    format!("{host}:{port}")
}

/// A route without mirroring, hashing and what only tracing reads.
pub(crate) fn route(route: &Value) -> Value {
    let mut route = route.clone();
    remove(&mut route, &["decorator"]);
    // Its value is the default.
    if route["match"]["case_sensitive"] == true {
        remove(&mut route["match"], &["case_sensitive"]);
    }
    let action = &mut route["route"];
    if action.is_object() {
        // Session affinity comes with a retry policy of its own.
        if !action["hash_policy"].is_null() {
            remove(&mut action["retry_policy"], &["retry_host_predicate"]);
        }
        remove(action, &["request_mirror_policies", "hash_policy"]);
        let stream = action["max_stream_duration"]["max_stream_duration"].clone();
        if !stream.is_null() {
            // What gRPC reads instead.
            action["max_grpc_timeout"] = stream;
        }
        remove(action, &["max_stream_duration"]);
    } else {
        remove(&mut route, &["route"]);
    }
    if route["typed_per_filter_config"].as_object().is_none_or(Map::is_empty) {
        remove(&mut route, &["typed_per_filter_config"]);
    }
    route
}

/// A cluster without session affinity, slow start and Istio's own filters.
pub(crate) fn cluster(cluster: &Value) -> Value {
    let mut kept = select(
        cluster,
        &[
            "circuit_breakers",
            "common_lb_config",
            "connect_timeout",
            "dns_lookup_family",
            "dns_refresh_rate",
            "eds_cluster_config",
            "lb_policy",
            "load_assignment",
            "metadata",
            "outlier_detection",
            "respect_dns_ttl",
            "transport_socket",
            "transport_socket_matches",
            "type",
            "typed_extension_protocol_options",
            "upstream_connection_options",
        ],
    );
    prune(&mut kept);
    tls(&mut kept["transport_socket"]);
    tls(&mut kept["transport_socket_matches"]);
    if kept["transport_socket"].is_null() {
        remove(&mut kept, &["transport_socket"]);
    }
    if kept["transport_socket_matches"].is_null() {
        remove(&mut kept, &["transport_socket_matches"]);
    }
    kept
}

/// TLS whose secrets come from the stream of the other resources, and not from an agent or a plug-in of gRPC, and with only
/// one of the two fields for names.
fn tls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| name != "match_typed_subject_alt_names" && !name.ends_with("_provider_instance"));
            if fields.remove("api_config_source").is_some() {
                fields.insert("ads".to_owned(), json!({}));
            }
            fields.values_mut().for_each(tls);
        }
        Value::Array(items) => items.iter_mut().for_each(tls),
        _ => {}
    }
}

/// The outer settings of a listener and of its only HTTP connection manager; `None` if it has none.
pub(crate) fn listener(listener: &Value) -> Option<Value> {
    let manager = match &listener["api_listener"]["api_listener"] {
        Value::Null => {
            let [chain] = listener["filter_chains"].as_array()?.as_slice() else { return None };
            http_connection_manager(chain)?
        }
        manager => manager,
    };
    let (exchange, filters) = (config_of(manager, "istio.metadata_exchange"), http_filters(manager));
    let jwt = config_of(manager, "envoy.filters.http.jwt_authn");
    let mut manager = select(
        manager,
        &["normalize_path", "rds", "server_name", "stream_idle_timeout", "upgrade_configs", "use_remote_address"],
    );
    if !exchange.is_null() {
        manager["metadata_exchange"] = exchange;
        manager["jwt_authn"] = jwt;
    }
    manager["http_filters"] = filters;
    let mut kept = select(listener, &["address", "bind_to_port", "traffic_direction"]);
    kept["manager"] = manager;
    let chain = &listener["filter_chains"][0];
    if !chain["transport_socket"].is_null() {
        kept["chain"] = select(chain, &["filter_chain_match", "transport_socket", "transport_socket_connect_timeout"]);
        tls(&mut kept["chain"]);
    }
    Some(kept)
}

/// A listener whose chains all pass connections on in plain text; `None` if it is another, or finds out the destination by
/// the kernel.
pub(crate) fn connections(listener: &Value) -> Option<Value> {
    let chains = listener["filter_chains"].as_array()?.iter().map(connection_chain).collect::<Option<Vec<_>>>()?;
    if listener["use_original_dst"] == true {
        return None;
    }
    let fields = [
        "address",
        "bind_to_port",
        "continue_on_listener_filters_timeout",
        "listener_filters",
        "listener_filters_timeout",
        "traffic_direction",
    ];
    let mut kept = select(listener, &fields);
    kept["filter_chains"] = chains.into();
    // istiod sends what is for no service on, even where every connection is for the only one.
    if let Some(default) = connection_chain(&listener["default_filter_chain"]) {
        kept["default_filter_chain"] = default;
    }
    Some(kept)
}

fn connection_chain(chain: &Value) -> Option<Value> {
    let is_tcp = |filter: &Value| {
        let name = filter["name"].as_str().unwrap_or_default();
        matches!(name, "envoy.filters.network.mongo_proxy" | "envoy.filters.network.tcp_proxy")
    };
    let is_plain = chain["transport_socket"].is_null() && chain["filters"].as_array()?.iter().all(is_tcp);
    is_plain.then(|| select(chain, &["filters", "filter_chain_match"]))
}

/// The routes of a captured listener's chains, by port, with how TLS ends and which application protocols it is for.
pub(crate) fn inbound(listener: &Value) -> Map<String, Value> {
    let mut ports = Map::new();
    for chain in listener["filter_chains"].as_array().into_iter().flatten() {
        let matcher = &chain["filter_chain_match"];
        let is_own = !matcher["destination_port"].is_null();
        if let (true, Some(manager)) = (is_own, http_connection_manager(chain)) {
            let mut routes = manager["route_config"].clone();
            for host in routes["virtual_hosts"].as_array_mut().into_iter().flatten() {
                for one in host["routes"].as_array_mut().into_iter().flatten() {
                    remove(&mut one["route"], &["max_stream_duration"]);
                    *one = route(one);
                }
            }
            routes["metadata_exchange"] = config_of(manager, "istio.metadata_exchange");
            routes["jwt_authn"] = config_of(manager, "envoy.filters.http.jwt_authn");
            routes["http_filters"] = http_filters(manager);
            routes["transport_socket"] = chain["transport_socket"].clone();
            tls(&mut routes["transport_socket"]);
            routes["filter_chain_match"] = matcher.clone();
            let transport = matcher["transport_protocol"].as_str().unwrap_or_default();
            ports.insert(format!("{} {transport}", matcher["destination_port"]), routes);
        }
    }
    ports
}

/// Names of the filters in order, without those that this version does not cover and those that clients may pass over.
fn http_filters(manager: &Value) -> Value {
    const NOT_COVERED: [&str; 3] = ["envoy.filters.http.grpc_stats", "envoy.filters.http.rbac", "istio.alpn"];
    let filters = manager["http_filters"].as_array().into_iter().flatten();
    let required = filters.filter(|filter| filter["is_optional"] != true).map(|filter| &filter["name"]);
    required.filter(|name| !NOT_COVERED.iter().any(|other| *name == other)).cloned().collect()
}

/// The configuration of a filter.
fn config_of(manager: &Value, name: &str) -> Value {
    let mut filters = manager["http_filters"].as_array().into_iter().flatten();
    let filter = filters.find(|filter| filter["name"] == name);
    filter.map(|filter| filter["typed_config"].clone()).unwrap_or_default()
}

fn http_connection_manager(chain: &Value) -> Option<&Value> {
    let mut filters = chain["filters"].as_array()?.iter();
    filters
        .find(|filter| filter["name"] == "envoy.filters.network.http_connection_manager")
        .map(|it| &it["typed_config"])
}

fn remove(value: &mut Value, keys: &[&str]) {
    if let Some(fields) = value.as_object_mut() {
        for key in keys {
            fields.remove(*key);
        }
    }
}

fn select(value: &Value, keys: &[&str]) -> Value {
    let fields = keys.iter().filter(|key| !value[**key].is_null());
    fields.map(|key| ((*key).to_owned(), value[*key].clone())).collect::<Map<_, _>>().into()
}

/// Indexing for removal leaves empty objects and nulls behind.
fn prune(value: &mut Value) {
    if let Some(fields) = value.as_object_mut() {
        fields.values_mut().for_each(prune);
        fields.retain(|_, value| !value.is_null());
    }
    if *value == json!({"filter_metadata": {"istio": {}}}) {
        *value = Value::Null;
    }
}
