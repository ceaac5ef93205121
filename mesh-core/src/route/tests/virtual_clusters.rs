//! Tests of the statistics of virtual clusters and routes.

use std::collections::BTreeMap;

use super::*;
use crate::model::VirtualCluster;

/// `upstream_rq_total` by scope, as text, after one try of each of `requests`.
fn counted(host: VirtualHost, requests: &[Request]) -> BTreeMap<String, u64> {
    let registry = RequestStatsRegistry::default();
    let resolve = &mut ClusterName::clone;
    let table = RouteTable::compile_counted(Arc::new(config(vec![host])), resolve, &registry).unwrap();
    for request in requests {
        let entry = matched(&table, request);
        assert_eq!(entry.has_counters(), entry.counters(&request.head()).virtual_cluster.is_some());
        entry.counters(&request.head()).handle_try();
    }
    let mut totals = BTreeMap::new();
    registry.for_each(&mut |scope, name, _, value| {
        if name == "upstream_rq_total" {
            totals.insert(format!("{scope:?}"), value);
        }
    });
    totals
}

fn scope(part: RequestPart) -> String {
    format!("{:?}", RequestScope { virtual_host: "all".into(), part })
}

fn path_begins(name: &str, path: &str) -> VirtualCluster {
    let path = header(":path", string(StringPattern::Prefix(path.into())));
    VirtualCluster { name: name.into(), headers: vec![path] }
}

#[test]
fn a_request_belongs_to_the_first_virtual_cluster_that_matches_or_to_other() {
    let post = header(":method", string(StringPattern::Exact("POST".into())));
    let mut posts = path_begins("posts", "/a");
    posts.headers.push(post);
    let mut named = forward(prefix("/a/named"), RouteAction::new(ClusterSpecifier::Cluster("c".into())));
    named.stat_prefix = "rt".into();
    let rest = forward(prefix("/"), RouteAction::new(ClusterSpecifier::Cluster("c".into())));
    let virtual_host = VirtualHost {
        virtual_clusters: vec![posts, path_begins("a", "/a"), path_begins("never", "/a/")],
        ..host("all", &["*"], vec![named, rest])
    };
    let requests = [
        Request::get("/a/x").method(Method::POST),
        Request::get("/a/x"),
        Request::get("/a/named"),
        Request::get("/b").method(Method::POST),
    ];
    let cluster = |name: &str| scope(RequestPart::VirtualCluster(name.into()));
    let expected = [
        (cluster("posts"), 1),
        (cluster("a"), 2),
        (cluster("never"), 0),
        (cluster("other"), 1),
        (scope(RequestPart::Route("rt".into())), 1),
    ];
    assert_eq!(counted(virtual_host, &requests), expected.into());
}

#[test]
fn without_virtual_clusters_nothing_is_counted() {
    let rest = forward(prefix("/"), RouteAction::new(ClusterSpecifier::Cluster("c".into())));
    assert_eq!(counted(host("all", &["*"], vec![rest]), &[Request::get("/")]), BTreeMap::new());
}
