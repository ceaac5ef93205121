use http::{HeaderMap, Method};

use super::*;
use crate::model::{Action, ClusterName, HeaderMutations, Route, RouteAction, RouteMatch};

#[test]
fn the_first_matching_route_decides() {
    let route = |path: PathMatcher, cluster: &str| Route {
        name: cluster.into(),
        matches: RouteMatch::path(path),
        action: Action::Route(Box::new(RouteAction::to_cluster(cluster))),
        request_headers: HeaderMutations::default(),
        response_headers: HeaderMutations::default(),
        fault: None,
        operation: "".into(),
        origin: "".into(),
    };
    let host = VirtualHost {
        name: "v".into(),
        domains: vec!["*".into()],
        routes: vec![route(PathMatcher::Prefix("/a/b".into()), "ab"), route(PathMatcher::Prefix("/".into()), "all")],
        request_headers: HeaderMutations::default(),
        response_headers: HeaderMutations::default(),
        retry_policy: None,
        include_request_attempt_count: false,
        include_attempt_count_in_response: false,
        require_tls: false,
        fault: None,
    };
    let config = RouteConfiguration {
        name: "r".into(),
        virtual_hosts: vec![host],
        request_headers: HeaderMutations::default(),
        response_headers: HeaderMutations::default(),
        ignore_port_in_host_matching: false,
        most_specific_header_mutations_wins: false,
    };
    let table = RouteTable::compile(config.into(), &mut ClusterName::clone).unwrap();
    let headers = HeaderMap::new();
    for (path, expected) in [("/a/b/c", "ab"), ("/a", "all")] {
        let (method, scheme, authority) = (&Method::GET, "http", "x");
        let head = RequestHead { method, scheme, authority, path_and_query: path, headers: &headers };
        match table.route(&head, 0) {
            RouteResult::Matched(entry) => assert_eq!(&*entry.route().name, expected),
            other => panic!("{path}: {other:?}"),
        }
    }
}
