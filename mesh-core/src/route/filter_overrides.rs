//! The overrides of filters that apply to a route.

use crate::{
    filter::{ResolvedOverride, ResolvedOverrides},
    model::{Action, ClusterSpecifier, Route, RouteConfiguration, VirtualHost, WeightedCluster},
};

/// The overrides of a route, its virtual host and its configuration, and of each of its weighted clusters.
#[derive(Debug, PartialEq)]
pub(super) struct RouteOverrides {
    route: ResolvedOverrides,
    /// One per weighted cluster; none if no weighted cluster has an override of its own.
    weighted: Box<[ResolvedOverrides]>,
}

impl RouteOverrides {
    /// `None` if there are no overrides.
    pub(super) fn new(config: &RouteConfiguration, host: &VirtualHost, route: &Route) -> Option<Self> {
        let of_route = [&route.typed_per_filter_config, &host.typed_per_filter_config, &config.typed_per_filter_config];
        let clusters = weighted_clusters(route);
        let by_cluster = clusters.iter().any(|cluster| !cluster.typed_per_filter_config.is_empty());
        if !by_cluster && of_route.iter().all(|level| level.is_empty()) {
            return None;
        }
        let weighted = clusters.iter().filter(|_| by_cluster).map(|cluster| {
            let [route, host, config] = of_route;
            ResolvedOverrides::new(&[&cluster.typed_per_filter_config, route, host, config])
        });
        Some(Self { weighted: weighted.collect(), route: ResolvedOverrides::new(&of_route) })
    }

    /// The result for the filter `name`, if the weighted cluster at `weighted` is chosen.
    pub(super) fn get(&self, weighted: Option<usize>, name: &str) -> Option<&ResolvedOverride> {
        let of_cluster = weighted.and_then(|position| self.weighted.get(position));
        of_cluster.unwrap_or(&self.route).get(name)
    }
}

fn weighted_clusters(route: &Route) -> &[WeightedCluster] {
    match &route.action {
        Action::Route(action) => match &action.cluster {
            ClusterSpecifier::Weighted(split) => &split.clusters,
            ClusterSpecifier::Cluster(_) | ClusterSpecifier::ClusterHeader(_) => &[],
        },
        Action::Redirect(_) | Action::DirectResponse(_) | Action::NonForwarding => &[],
    }
}
