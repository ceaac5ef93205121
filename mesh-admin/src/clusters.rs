//! `/clusters`: clusters and their endpoints with statistics, as text and as JSON. Envoy `admin.v3.Clusters`.

use std::fmt::Write as _;

use mesh_core::{
    cluster::{ClusterState, EndpointState, Health},
    model::{HealthStatus, Thresholds},
};
use serde_json::{Value, json};

use crate::{Answer, Process, Query, listeners::address};

pub(crate) fn clusters(process: &impl Process, query: &Query<'_>) -> Answer {
    let mut clusters = process.store().clusters();
    clusters.sort_by(|a, b| a.config().name.cmp(&b.config().name));
    let dump = process.config_dump();
    let statics = dump.static_clusters();
    let is_static = |cluster: &ClusterState| statics.contains(cluster.config().name.as_str());
    if query.is("format", "json") {
        let statuses: Vec<_> = clusters.iter().map(|cluster| cluster_json(cluster, is_static(cluster))).collect();
        return Answer::json(&json!({ "cluster_statuses": statuses }));
    }
    let mut text = String::new();
    for cluster in &clusters {
        write_cluster(&mut text, cluster, is_static(cluster));
    }
    Answer::text(text)
}

/// The statistics of an endpoint with Envoy's names and types.
fn counts(endpoint: &EndpointState) -> [(&'static str, &'static str, u64); 8] {
    let stats = endpoint.stats();
    [
        ("cx_active", "GAUGE", stats.cx_active.get()),
        ("cx_connect_fail", "COUNTER", stats.cx_connect_fail.get()),
        ("cx_total", "COUNTER", stats.cx_total.get()),
        ("rq_active", "GAUGE", stats.rq_active()),
        ("rq_error", "COUNTER", stats.rq_error.get()),
        ("rq_success", "COUNTER", stats.rq_success.get()),
        ("rq_timeout", "COUNTER", stats.rq_timeout.get()),
        ("rq_total", "COUNTER", stats.rq_total()),
    ]
}

fn write_cluster(text: &mut String, cluster: &ClusterState, from_bootstrap: bool) {
    let config = cluster.config();
    let name = &config.name;
    let mut line = |what: &str, value: &dyn std::fmt::Display| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name}::{what}::{value}");
    };
    line("observability_name", &config.stat_name);
    for (priority, thresholds) in
        [("default_priority", &config.circuit_breakers.default), ("high_priority", &config.circuit_breakers.high)]
    {
        for (limit, value) in limits(thresholds) {
            line(&format!("{priority}::{limit}"), &value);
        }
    }
    line("added_via_api", &!from_bootstrap);
    for endpoint in cluster.endpoints().endpoints() {
        let address = endpoint.address();
        let mut line = |what: &str, value: &dyn std::fmt::Display| line(&format!("{address}::{what}"), value);
        for (count, _, value) in counts(endpoint) {
            line(count, &value);
        }
        let placement = endpoint.placement();
        line("hostname", &endpoint.hostname().map_or("", |hostname| hostname));
        line("health_flags", &health_flags(endpoint));
        line("weight", &endpoint.weight());
        line("region", &placement.locality.region);
        line("zone", &placement.locality.zone);
        line("sub_zone", &placement.locality.sub_zone);
        line("canary", &false);
        line("priority", &placement.priority);
        // Success rates are not measured, which Envoy writes as -1.
        line("success_rate", &-1);
        line("local_origin_success_rate", &-1);
    }
}

fn limits(thresholds: &Thresholds) -> [(&'static str, u32); 4] {
    [
        ("max_connections", thresholds.max_connections),
        ("max_pending_requests", thresholds.max_pending_requests),
        ("max_requests", thresholds.max_requests),
        ("max_retries", thresholds.max_retries),
    ]
}

fn health_flags(endpoint: &EndpointState) -> String {
    let mut flags = String::new();
    if endpoint.is_ejected() {
        flags.push_str("/failed_outlier_check");
    }
    if !endpoint.health_status().is_usable() && endpoint.health_status() != HealthStatus::Degraded {
        flags.push_str("/failed_eds_health");
    }
    if endpoint.health() == Health::Degraded {
        flags.push_str("/degraded_eds_health");
    }
    if flags.is_empty() { "healthy".to_owned() } else { flags }
}

fn cluster_json(cluster: &ClusterState, from_bootstrap: bool) -> Value {
    let config = cluster.config();
    let thresholds = |thresholds: &Thresholds, priority: Option<&str>| {
        let mut value: serde_json::Map<_, _> =
            limits(thresholds).into_iter().map(|(limit, value)| (limit.to_owned(), value.into())).collect();
        value.extend(priority.map(|priority| ("priority".to_owned(), priority.into())));
        Value::Object(value)
    };
    let hosts: Vec<_> = cluster.endpoints().endpoints().iter().map(|endpoint| endpoint_json(endpoint)).collect();
    json!({
        "name": config.name.as_str(),
        "added_via_api": !from_bootstrap,
        "observability_name": &*config.stat_name,
        "circuit_breakers": { "thresholds": [
            thresholds(&config.circuit_breakers.default, None),
            thresholds(&config.circuit_breakers.high, Some("HIGH")),
        ] },
        "host_statuses": hosts,
    })
}

fn endpoint_json(endpoint: &EndpointState) -> Value {
    let stats: Vec<_> = counts(endpoint)
        .into_iter()
        .map(|(name, kind, value)| {
            let mut stat = json!({ "name": name });
            if value != 0 {
                stat["value"] = value.to_string().into();
            }
            if kind != "COUNTER" {
                stat["type"] = kind.into();
            }
            stat
        })
        .collect();
    let placement = endpoint.placement();
    let mut health = json!({ "eds_health_status": eds_health_status(endpoint) });
    if endpoint.is_ejected() {
        health["failed_outlier_check"] = true.into();
    }
    json!({
        "address": address(endpoint.address()),
        "stats": stats,
        "health_status": health,
        "weight": endpoint.weight(),
        "hostname": endpoint.hostname().map_or("", |hostname| &**hostname),
        "priority": placement.priority,
        "locality": {
            "region": &*placement.locality.region,
            "zone": &*placement.locality.zone,
            "sub_zone": &*placement.locality.sub_zone,
        },
    })
}

fn eds_health_status(endpoint: &EndpointState) -> &'static str {
    match endpoint.health_status() {
        HealthStatus::Unknown | HealthStatus::Healthy => "HEALTHY",
        HealthStatus::Unhealthy => "UNHEALTHY",
        HealthStatus::Draining => "DRAINING",
        HealthStatus::Timeout => "TIMEOUT",
        HealthStatus::Degraded => "DEGRADED",
    }
}
