//! The filter overrides of the parts of a route configuration, resolved for each route.

use std::time::Duration;

use super::*;
use crate::filter::{
    FilterOverride, FilterOverrides, HttpFilter,
    fault::{Delay, Fault},
};
use crate::model::FractionalPercent;

/// A configuration that contains `number`.
fn numbered(number: u64) -> FilterOverride {
    let delay = Delay { fixed_delay: Some(Duration::from_secs(number)), percentage: FractionalPercent::ALWAYS };
    FilterOverride::Config(Arc::new(Fault::default().with_delay(delay)).into())
}

fn overrides(entries: &[(&str, FilterOverride)]) -> FilterOverrides {
    entries.iter().cloned().collect()
}

/// The resolved override of a filter in an entry: whether it is disabled, and the numbers of the configurations.
fn resolved(entry: &RouteEntry<ClusterName>, weighted: Option<usize>, name: &str) -> Option<(bool, Vec<u64>)> {
    let resolved = entry.filter_override(weighted, name)?;
    let number = |fault: &Arc<Fault>| fault.delay.unwrap().fixed_delay.unwrap().as_secs();
    let numbers: Vec<_> = resolved.configs::<Fault>().map(number).collect();
    assert_eq!(resolved.most_specific::<Fault>().map(number), numbers.first().copied());
    Some((resolved.disabled, numbers))
}

/// A split whose second cluster speaks about filters, under a route, a virtual host and a configuration that do.
fn all_levels() -> RouteConfiguration {
    let mut second = WeightedCluster::new("up2", 1);
    second.typed_per_filter_config = overrides(&[("one", numbered(4)), ("off", FilterOverride::Enabled)]);
    let mut route = forward(prefix("/"), split(vec![WeightedCluster::new("up1", 1), second], None));
    route.typed_per_filter_config = overrides(&[("one", numbered(3)), ("off", FilterOverride::Disabled)]);
    let mut host = VirtualHost::new("host", vec![route]);
    host.typed_per_filter_config = overrides(&[("one", FilterOverride::Disabled), ("off", numbered(2))]);
    let mut config = RouteConfiguration::new("r", vec![host]);
    config.typed_per_filter_config = overrides(&[("one", numbered(1)), ("two", numbered(11))]);
    config
}

#[test]
fn the_most_specific_part_that_mentions_a_filter_comes_first() {
    let table = compile(all_levels()).unwrap();
    let entry = matched(&table, &Request::get("/"));
    assert!(entry.has_filter_overrides());
    for (weighted, name, expected) in [
        (None, "one", Some((false, vec![3, 1]))),
        (Some(0), "one", Some((false, vec![3, 1]))),
        (Some(1), "one", Some((false, vec![4, 3, 1]))),
        (Some(0), "off", Some((true, vec![2]))),
        (Some(1), "off", Some((false, vec![2]))),
        (Some(1), "two", Some((false, vec![11]))),
        (Some(1), "envoy.filters.http.fault", None),
    ] {
        assert_eq!(resolved(&entry, weighted, name), expected, "{name} at {weighted:?}");
    }
}

#[test]
fn a_filter_runs_as_its_route_says_and_else_as_its_chain_says() {
    let table = compile(all_levels()).unwrap();
    let entry = matched(&table, &Request::get("/"));
    for (name, disabled, expected) in
        [("one", false, true), ("one", true, true), ("off", false, false), ("none", false, true), ("none", true, false)]
    {
        let filter = HttpFilter { disabled, ..HttpFilter::new(Fault::default()).with_name(name) };
        assert_eq!(filter.runs(entry.filter_override(None, name)), expected, "{name} {disabled}");
    }
}

#[test]
fn routes_share_equal_filter_overrides() {
    let route = |path: &str, number| {
        let mut route = forward(PathMatcher::Exact(path.into()), RouteAction::to_cluster("a"));
        if let Some(number) = number {
            route.typed_per_filter_config = overrides(&[("one", numbered(number))]);
        }
        route
    };
    let table = table(vec![route("/1", Some(1)), route("/none", None), route("/2", Some(2)), route("/1b", Some(1))]);
    let entries = ["/1", "/none", "/2", "/1b"].map(|path| matched(&table, &Request::get(path)));
    let numbers = entries.each_ref().map(|entry| resolved(entry, None, "one").map(|(_, numbers)| numbers));
    assert_eq!(numbers, [Some(vec![1]), None, Some(vec![2]), Some(vec![1])]);
    assert!(!entries[1].has_filter_overrides());
    let addresses = entries.each_ref().map(|entry| entry.filter_override(None, "one").map(std::ptr::from_ref));
    assert_eq!(addresses[0], addresses[3], "equal overrides are shared");
}
