//! Compares the resources of one node.

use std::collections::BTreeMap;

use mesh_control::translate::{Node, Role};
use serde_json::Value;

use crate::normalize;
use crate::recorded::Answers;

/// The outcome for a resource.
#[derive(Debug)]
pub(crate) enum Outcome {
    Equal,
    Different(Vec<String>),
    /// istiod has it and we do not.
    Missing,
    /// We have it and istiod does not.
    Extra,
    /// It requires features that are not supported.
    NotCovered(&'static str),
}

/// A service that requires features that are not supported, so the loader has left it out with a warning.
const LEFT_OUT: &str = "its service is left out of the configuration";

type Outcomes = BTreeMap<String, Outcome>;

/// Every type, with an outcome for every resource of either side.
pub(crate) fn all(node: &Node, theirs: &Answers, ours: &Answers) -> [(&'static str, Outcomes); 4] {
    [
        ("lds", listeners(node, theirs, ours)),
        ("rds", routes(node, theirs, ours)),
        ("cds", clusters(node, theirs, ours)),
        ("eds", endpoints(theirs, ours)),
    ]
}

fn endpoints(theirs: &Answers, ours: &Answers) -> Outcomes {
    let compare = |(name, value): (&String, &Value)| {
        let outcome = match ours.endpoints.get(name) {
            Some(own) => differences(value, own, Match::Whole),
            None if ours.is_left_out(name.rsplit('|').next()) => Outcome::NotCovered(LEFT_OUT),
            None => Outcome::Missing,
        };
        (name.clone(), outcome)
    };
    theirs.endpoints.iter().map(compare).collect()
}

fn clusters(node: &Node, theirs: &Answers, ours: &Answers) -> Outcomes {
    let mut outcomes = Outcomes::new();
    for (name, value) in &theirs.clusters {
        let (mut theirs, own) = (normalize::cluster(value), ours.clusters.get(name));
        let is_hashed = matches!(value["lb_policy"].as_str(), Some("MAGLEV" | "RING_HASH"));
        let outcome = match own {
            None if value["type"] == "ORIGINAL_DST" => Outcome::NotCovered("original destination"),
            Some(_) if name == "PassthroughCluster" => Outcome::NotCovered("original destination"),
            None if ours.is_left_out(name.rsplit('|').next()) => Outcome::NotCovered(LEFT_OUT),
            None => Outcome::Missing,
            Some(own) => {
                let own = normalize::cluster(own);
                if is_hashed {
                    theirs["lb_policy"] = own["lb_policy"].clone();
                }
                // Proxyless clusters have few fields; only those are compared.
                let matching = if node.role == Role::Library { Match::Part } else { Match::Whole };
                differences(&theirs, &own, matching)
            }
        };
        outcomes.insert(name.clone(), outcome);
    }
    if node.role != Role::Library {
        let extra = ours.clusters.keys().filter(|name| !theirs.clusters.contains_key(*name));
        outcomes.extend(extra.map(|name| (name.clone(), Outcome::Extra)));
    }
    outcomes
}

/// One outcome for each virtual host's domains and for each of its routes.
fn routes(node: &Node, theirs: &Answers, ours: &Answers) -> Outcomes {
    let mut outcomes = Outcomes::new();
    for (config, value) in &theirs.routes {
        for host in value["virtual_hosts"].as_array().into_iter().flatten() {
            let name = host["name"].as_str().unwrap_or_default();
            // A library requests its routes by service; the other hosts of the port have no effect.
            if node.role == Role::Library && name != normalize::virtual_host_of_cluster(config) {
                continue;
            }
            let own = ours.routes.get(config).and_then(|own| find(&own["virtual_hosts"], name));
            if own.is_none() && ours.is_left_out(name.rsplit_once(':').map(|(host, _)| host)) {
                outcomes.insert(format!("{config} {name}"), Outcome::NotCovered(LEFT_OUT));
                continue;
            }
            virtual_host(&format!("{config} {name}"), host, own, theirs, &mut outcomes);
        }
    }
    outcomes
}

fn find<'a>(hosts: &'a Value, name: &str) -> Option<&'a Value> {
    hosts.as_array()?.iter().find(|host| host["name"] == name)
}

fn virtual_host(path: &str, theirs: &Value, own: Option<&Value>, answers: &Answers, outcomes: &mut Outcomes) {
    let Some(own) = own else {
        outcomes.insert(path.to_owned(), Outcome::Missing);
        return;
    };
    outcomes.insert(
        format!("{path} domains"),
        differences(&sorted(&theirs["domains"]), &sorted(&own["domains"]), Match::Whole),
    );
    let routes = |host: &Value| host["routes"].as_array().cloned().unwrap_or_default();
    let (theirs, own) = (routes(theirs), routes(own));
    for (i, route) in theirs.iter().enumerate() {
        let outcome = match own.get(i) {
            _ if is_dangling(route, answers) => Outcome::NotCovered("istiod names a cluster that it does not define"),
            None => Outcome::Missing,
            Some(own) => {
                let mut own = own.clone();
                if !route["route"]["hash_policy"].is_null() {
                    own["route"]["hash_policy"] = route["route"]["hash_policy"].clone();
                }
                differences(&normalize::route(route), &normalize::route(&own), Match::Whole)
            }
        };
        outcomes.insert(format!("{path} [{i}]"), outcome);
    }
    for i in theirs.len()..own.len() {
        outcomes.insert(format!("{path} [{i}]"), Outcome::Extra);
    }
}

/// The order of domains has no meaning.
fn sorted(domains: &Value) -> Value {
    let mut domains: Vec<_> = domains.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    domains.sort_unstable();
    domains.into()
}

/// A destination without port on a port that its service does not have: istiod takes the port of the listener.
fn is_dangling(route: &Value, answers: &Answers) -> bool {
    let action = &route["route"];
    let weighted = action["weighted_clusters"]["clusters"].as_array().into_iter().flatten().map(|it| &it["name"]);
    let mut names = std::iter::once(&action["cluster"]).chain(weighted).filter_map(Value::as_str);
    names.any(|name| !answers.clusters.contains_key(name))
}

fn listeners(node: &Node, theirs: &Answers, ours: &Answers) -> Outcomes {
    let mut outcomes = Outcomes::new();
    for (name, value) in &theirs.listeners {
        if name == "virtualInbound" {
            let own = ours.listeners.get(name).map(normalize::inbound).unwrap_or_default();
            for (port, routes) in normalize::inbound(value) {
                let own = own.get(&port).unwrap_or(&Value::Null);
                outcomes.insert(format!("{name} {port}"), differences(&routes, own, Match::Whole));
            }
            continue;
        }
        let matching = if node.role == Role::Library { Match::Part } else { Match::Whole };
        let own = listener_called(name, ours);
        let of_requests = normalize::listener(value).map(|it| (it, own.and_then(normalize::listener)));
        let of_connections = normalize::connections(value).map(|it| (it, own.and_then(normalize::connections)));
        let outcome = match of_requests.or(of_connections) {
            None => Outcome::NotCovered("TLS, original destination or several filter chains"),
            Some(_) if own.is_none() && serves_only_what_is_left_out(value, ours) => Outcome::NotCovered(LEFT_OUT),
            Some(_) if own.is_none() => Outcome::Missing,
            Some((theirs, own)) => differences(&theirs, &own.unwrap_or_default(), matching),
        };
        outcomes.insert(name.clone(), outcome);
    }
    outcomes
}

/// Whether our configuration has none of the services that a listener passes connections on to.
fn serves_only_what_is_left_out(listener: &Value, ours: &Answers) -> bool {
    let mut chains = listener["filter_chains"].as_array().into_iter().flatten();
    chains.all(|chain| {
        let clusters =
            chain["filters"].as_array().into_iter().flatten().map(|filter| &filter["typed_config"]["cluster"]);
        clusters.filter_map(Value::as_str).all(|cluster| ours.is_left_out(cluster.rsplit('|').next()))
    })
}

/// Our listener; istiod responds with the requested name, which may be a short one.
fn listener_called<'a>(name: &str, ours: &'a Answers) -> Option<&'a Value> {
    let full = |suffix: &str| {
        let (host, port) = name.rsplit_once(':')?;
        ours.listeners.get(&format!("{host}.{suffix}:{port}"))
    };
    ours.listeners.get(name).or_else(|| full("svc.cluster.local")).or_else(|| full("default.svc.cluster.local"))
}

/// How much of a value must be equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Match {
    /// All of it.
    Whole,
    /// The fields that istiod sets; we may set more.
    Part,
}

fn differences(theirs: &Value, ours: &Value, matching: Match) -> Outcome {
    let mut all = Vec::new();
    walk("", theirs, ours, matching, &mut all);
    if all.is_empty() { Outcome::Equal } else { Outcome::Different(all) }
}

fn walk(path: &str, theirs: &Value, ours: &Value, matching: Match, out: &mut Vec<String>) {
    match (theirs, ours) {
        (Value::Object(a), Value::Object(b)) => {
            let extra = b.keys().filter(|key| matching == Match::Whole && !a.contains_key(*key));
            for key in a.keys().chain(extra) {
                let value = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                walk(&format!("{path}.{key}"), &value(a), &value(b), matching, out);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                walk(&format!("{path}[{i}]"), a, b, matching, out);
            }
        }
        _ if theirs == ours => {}
        _ => out.push(format!("{path}: istiod {theirs}, ours {ours}")),
    }
}
