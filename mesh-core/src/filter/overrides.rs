//! What the parts of a route configuration say about filters, and what comes of it for each route.

use std::{collections::BTreeMap, sync::Arc};

use super::{Filter, PerRouteConfig};
use crate::model::{Action, ClusterSpecifier, Route, RouteConfiguration, VirtualHost};

/// What a route configuration, virtual host, route or weighted cluster says about filters, by the name that a filter has in
/// its chain. A name that the chain does not have is without effect. Envoy `typed_per_filter_config`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FilterOverrides(BTreeMap<Arc<str>, FilterOverride>);

/// What is said about one filter. Any of them decides whether the filter runs, over less specific parts and over
/// [`HttpFilter::disabled`](super::HttpFilter::disabled).
#[derive(Clone, Debug, PartialEq)]
pub enum FilterOverride {
    /// It does not run.
    Disabled,
    /// It runs, configured as less specific parts say.
    Enabled,
    /// It runs with this configuration. A configuration of another kind of filter is without effect, as in Envoy.
    Config(PerRouteConfig),
}

impl FilterOverrides {
    /// Nothing about any filter.
    #[must_use]
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Says something about the filter `name`, instead of what was said before.
    pub fn insert(&mut self, name: impl Into<Arc<str>>, what: FilterOverride) {
        self.0.insert(name.into(), what);
    }

    /// What is said about the filter `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&FilterOverride> {
        self.0.get(name)
    }

    /// Whether nothing is said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Everything that is said, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &FilterOverride)> {
        self.0.iter()
    }
}

impl<N: Into<Arc<str>>> FromIterator<(N, FilterOverride)> for FilterOverrides {
    fn from_iter<I: IntoIterator<Item = (N, FilterOverride)>>(overrides: I) -> Self {
        Self(overrides.into_iter().map(|(name, what)| (name.into(), what)).collect())
    }
}

/// What all parts of a route configuration together say about one filter.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedOverride {
    /// Whether the most specific part that mentions the filter turns it off.
    pub disabled: bool,
    /// Most specific first.
    configs: Box<[PerRouteConfig]>,
}

impl ResolvedOverride {
    /// The configurations of the filter `F`, the most specific first: weighted cluster, route, virtual host, route
    /// configuration.
    pub fn configs<F: Filter>(&self) -> impl DoubleEndedIterator<Item = &Arc<F::PerRoute>> {
        self.configs.iter().filter_map(F::per_route)
    }

    /// The most specific configuration of the filter `F`.
    #[must_use]
    pub fn most_specific<F: Filter>(&self) -> Option<&Arc<F::PerRoute>> {
        self.configs::<F>().next()
    }
}

/// What a route says about filters, whichever of its clusters is chosen.
#[derive(Debug, PartialEq)]
pub(crate) struct RouteOverrides {
    route: Overrides,
    /// Of each weighted cluster, with what the route says; empty if none of them says anything.
    weighted: Box<[Overrides]>,
}

/// Few, so a scan finds one sooner than an index.
type Overrides = Box<[(Arc<str>, ResolvedOverride)]>;

impl RouteOverrides {
    /// `None` if nothing is said about any filter.
    pub(crate) fn resolve(config: &RouteConfiguration, host: &VirtualHost, route: &Route) -> Option<Self> {
        let (of_config, of_host) = (&config.typed_per_filter_config, &host.typed_per_filter_config);
        let levels = [&route.typed_per_filter_config, of_host, of_config];
        let split = match &route.action {
            Action::Route(action) => match &action.cluster {
                ClusterSpecifier::Weighted(split) => &split.clusters[..],
                ClusterSpecifier::Cluster(_) | ClusterSpecifier::ClusterHeader(_) => &[],
            },
            Action::Redirect(_) | Action::DirectResponse(_) | Action::NonForwarding => &[],
        };
        let by_cluster = split.iter().any(|cluster| !cluster.typed_per_filter_config.is_empty());
        if !by_cluster && levels.iter().all(|level| level.is_empty()) {
            return None;
        }
        let weighted = split.iter().filter(|_| by_cluster);
        let weighted = weighted.map(|cluster| {
            merge(&[&cluster.typed_per_filter_config, &route.typed_per_filter_config, of_host, of_config])
        });
        Some(Self { route: merge(&levels), weighted: weighted.collect() })
    }

    /// What is said about the filter `name` if the weighted cluster at `weighted` is chosen.
    pub(crate) fn get(&self, weighted: Option<usize>, name: &str) -> Option<&ResolvedOverride> {
        let of_cluster = weighted.and_then(|position| self.weighted.get(position));
        let overrides = of_cluster.unwrap_or(&self.route);
        overrides.iter().find(|(other, _)| **other == *name).map(|(_, resolved)| resolved)
    }
}

/// Puts together what `levels`, the most specific first, say about each filter.
fn merge(levels: &[&FilterOverrides]) -> Overrides {
    let mut names: Vec<&Arc<str>> = levels.iter().flat_map(|level| level.0.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let resolve = |name: &Arc<str>| {
        let said = || levels.iter().filter_map(|level| level.get(name));
        let configs = said().filter_map(|what| match what {
            FilterOverride::Config(config) => Some(config.clone()),
            FilterOverride::Disabled | FilterOverride::Enabled => None,
        });
        let disabled = said().next() == Some(&FilterOverride::Disabled);
        (Arc::clone(name), ResolvedOverride { disabled, configs: configs.collect() })
    };
    names.into_iter().map(resolve).collect()
}
