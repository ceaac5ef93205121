use clap::Parser;
use http::Method;
use mesh_admin::Phase;
use mesh_core::model::{Cluster, Discovery, LoadAssignment};
use mesh_core::rng::SplitMix64;
use mesh_tower::telemetry::Telemetry;

use super::*;
use crate::{
    args::{Args, LogLevel},
    logging,
    state::{Node, Request as StateRequest},
};

fn state() -> (Arc<State>, tokio::sync::mpsc::UnboundedReceiver<StateRequest>) {
    let args = Args::parse_from(["mesh-proxy", "--config-yaml", "{}", "--concurrency", "1"]);
    let (state, requests) = State::new(args, Node::default(), logging::start(LogLevel::Off), Telemetry::default());
    let cluster = Cluster::new("up", Discovery::Static(LoadAssignment::default()));
    state.store.set_cluster(Arc::new(cluster), std::time::Instant::now(), &mut SplitMix64::new(1));
    (Arc::new(state), requests)
}

fn admin(state: &Arc<State>) -> Admin<State> {
    Admin::new(Arc::clone(state), commands::all())
}

fn get(state: &Arc<State>, target: &str) -> (u16, String) {
    ask(state, &Method::GET, target)
}

fn ask(state: &Arc<State>, method: &Method, target: &str) -> (u16, String) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let answer = admin(state).answer(method, path, query);
    (answer.status().as_u16(), answer.body().to_owned())
}

#[test]
fn readiness_follows_the_process() {
    let (state, _requests) = state();
    assert_eq!(get(&state, "/ready"), (503, "PRE_INITIALIZING\n".into()));
    state.lifecycle.enter(Phase::Live);
    assert_eq!(get(&state, "/ready"), (200, "LIVE\n".into()));
    assert_eq!(ask(&state, &Method::POST, "/healthcheck/fail"), (200, "OK\n".into()));
    assert_eq!(get(&state, "/ready"), (503, "DRAINING\n".into()));
    assert_eq!(ask(&state, &Method::POST, "/healthcheck/ok").0, 200);
    assert_eq!(get(&state, "/ready").0, 200);
    state.lifecycle.enter(Phase::Draining);
    assert_eq!(get(&state, "/ready").0, 503);
}

#[test]
fn commands_that_change_something_need_post() {
    let (state, mut requests) = state();
    for command in admin(&state).commands().iter().filter(|command| command.needs_post()) {
        assert_eq!(get(&state, command.path()).0, 405, "{}", command.path());
    }
    assert!(requests.try_recv().is_err());
    assert_eq!(ask(&state, &Method::POST, "/quitquitquit"), (200, "OK\n".into()));
    assert_eq!(requests.try_recv(), Ok(StateRequest::Quit));
    let (status, body) = get(&state, "/nothing-here");
    assert!(status == 404 && body.starts_with("invalid path. admin commands are:\n") && body.contains("  /stats: "));
}

#[test]
fn statistics_come_in_three_forms_and_can_be_filtered_and_reset() {
    let (state, _requests) = state();
    state.telemetry.stats.http(&"in".into()).downstream_rq_total.add(3);
    let filter = "filter=^http%5C.in%5C.downstream_rq_(total|2xx)$";
    assert_eq!(
        get(&state, &format!("/stats?{filter}")).1,
        "http.in.downstream_rq_2xx: 0\nhttp.in.downstream_rq_total: 3\n"
    );
    assert_eq!(get(&state, &format!("/stats?usedonly&{filter}")).1, "http.in.downstream_rq_total: 3\n");
    let json: serde_json::Value =
        serde_json::from_str(&get(&state, &format!("/stats?format=json&{filter}")).1).unwrap();
    assert_eq!(json["stats"][1], serde_json::json!({ "name": "http.in.downstream_rq_total", "value": 3 }));
    let prometheus = get(&state, &format!("/stats/prometheus?{filter}")).1;
    assert!(prometheus.contains("envoy_http_downstream_rq_total{envoy_http_conn_manager_prefix=\"in\"} 3"));
    assert_eq!(get(&state, "/stats?filter=(").0, 400);
    assert_eq!(ask(&state, &Method::POST, "/reset_counters").0, 200);
    assert!(get(&state, &format!("/stats?{filter}")).1.contains("downstream_rq_total: 0\n"));
    assert!(get(&state, "/stats").1.contains("cluster.up.membership_total: 0\n"));
}

#[test]
fn the_dump_of_an_empty_process_has_every_section() {
    let (state, _requests) = state();
    let dump: serde_json::Value = serde_json::from_str(&get(&state, "/config_dump").1).unwrap();
    let types: Vec<_> =
        dump["configs"].as_array().unwrap().iter().map(|section| section["@type"].as_str().unwrap()).collect();
    let expected = ["Bootstrap", "Clusters", "Listeners", "ScopedRoutes", "Routes", "Secrets"];
    assert_eq!(types, expected.map(|name| format!("type.googleapis.com/envoy.admin.v3.{name}ConfigDump")));
    assert_eq!(get(&state, "/config_dump?resource=nothing").0, 404);
}

#[test]
fn clusters_are_listed_as_text_and_as_json() {
    let (state, _requests) = state();
    assert!(get(&state, "/clusters").1.contains("up::default_priority::max_connections::1024\n"));
    let json: serde_json::Value = serde_json::from_str(&get(&state, "/clusters?format=json").1).unwrap();
    assert_eq!(json["cluster_statuses"][0]["name"], "up");
    let info: serde_json::Value = serde_json::from_str(&get(&state, "/server_info").1).unwrap();
    assert_eq!(info["command_line_options"]["concurrency"], 1);
}
