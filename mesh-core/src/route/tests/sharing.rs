//! Routes with equal settings share them, and no route has the settings of another.

use std::{mem::size_of, time::Duration};

use super::*;
use crate::model::{RetryPolicy, RoutingPriority};

/// Pairs of equal routes; the pairs differ in one setting each.
fn different() -> Vec<Route> {
    let retries = |num_retries| Some(Arc::new(RetryPolicy { num_retries, ..RetryPolicy::default() }));
    let plain = RouteAction::to_cluster("a");
    let actions = [
        plain.clone(),
        RouteAction::to_cluster("b"),
        RouteAction { timeout: Duration::from_secs(3), ..plain.clone() },
        RouteAction { priority: RoutingPriority::High, ..plain.clone() },
        RouteAction { retry_policy: retries(1), ..plain.clone() },
        RouteAction { retry_policy: retries(2), ..plain.clone() },
        RouteAction { append_x_forwarded_host: true, ..plain },
    ];
    let mut routes = Vec::new();
    for action in actions {
        for _ in 0..2 {
            let path = PathMatcher::Exact(format!("/{}", routes.len()).into());
            routes.push(forward(path, action.clone()));
        }
    }
    let counted = Route { stat_prefix: "counted".into(), ..routes[0].clone() };
    routes.push(Route { matches: RouteMatch::path(PathMatcher::Exact("/counted".into())), ..counted });
    routes.push(answer("", RouteMatch::path(PathMatcher::Exact("/answered".into()))));
    routes
}

#[test]
fn every_route_has_its_configured_settings() {
    let routes = different();
    let table = table(routes.clone());
    for route in &routes {
        let PathMatcher::Exact(path) = &route.matches.path else { unreachable!("as made above") };
        let entry = matched(&table, &Request::get(path));
        assert_eq!(entry.route(), route);
        assert_eq!(entry.has_counters(), !route.stat_prefix.is_empty(), "{path}");
        let Action::Route(action) = &route.action else { continue };
        assert_eq!(
            entry.only_cluster().map(|name| ClusterSpecifier::Cluster(name.clone())),
            Some(action.cluster.clone())
        );
        assert_eq!((entry.limits().timeout, entry.priority()), (action.timeout, action.priority), "{path}");
        assert_eq!(entry.retry_policy(), action.retry_policy.as_ref(), "{path}");
    }
}

#[test]
fn routes_with_equal_settings_share_them() {
    let table = table(different());
    let cluster = |number: usize| {
        let handle = matched(&table, &Request::get(&format!("/{number}")));
        handle.only_cluster().map(std::ptr::from_ref)
    };
    let pairs = (0..14).step_by(2).map(|number| (cluster(number), cluster(number + 1)));
    assert!(pairs.clone().all(|(one, other)| one == other), "equal routes share");
    let distinct: std::collections::HashSet<_> = pairs.map(|(one, _)| one).collect();
    // Settings that few requests need are read from the route itself.
    assert_eq!(distinct.len(), 6, "the last pair differs in such a setting only");
    assert!(size_of::<RouteEntry<ClusterName>>() <= 16);
}
