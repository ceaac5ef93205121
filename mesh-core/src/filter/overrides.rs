//! Overrides of filters by parts of a route configuration, and the result of several of them.

use std::{collections::BTreeMap, sync::Arc};

use super::{Filter, PerRouteConfig};

/// The overrides that a route configuration, virtual host, route or weighted cluster has, by the name that a filter has in
/// its chain. A name that the chain does not have is without effect. Envoy `typed_per_filter_config`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FilterOverrides(BTreeMap<Arc<str>, FilterOverride>);

/// The override of one filter. Each of them decides whether the filter runs, over less specific parts of the route
/// configuration and over [`HttpFilter::disabled`](super::HttpFilter::disabled). Envoy `route.v3.FilterConfig`.
#[derive(Clone, Debug, PartialEq)]
pub enum FilterOverride {
    /// The filter does not run.
    Disabled,
    /// The filter runs, with the configuration of less specific parts.
    Enabled,
    /// The filter runs with this configuration. A configuration of another kind of filter is without effect, as in Envoy.
    Config(PerRouteConfig),
}

impl FilterOverrides {
    /// No overrides.
    #[must_use]
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Sets the override of the filter `name`.
    pub fn insert(&mut self, name: impl Into<Arc<str>>, with: FilterOverride) {
        self.0.insert(name.into(), with);
    }

    /// The override of the filter `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&FilterOverride> {
        self.0.get(name)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, by the name of the filter.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &FilterOverride)> {
        self.0.iter()
    }
}

impl<N: Into<Arc<str>>> FromIterator<(N, FilterOverride)> for FilterOverrides {
    fn from_iter<I: IntoIterator<Item = (N, FilterOverride)>>(overrides: I) -> Self {
        Self(overrides.into_iter().map(|(name, with)| (name.into(), with)).collect())
    }
}

/// The result of all overrides of one filter.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedOverride {
    /// Whether the most specific override disables the filter.
    pub disabled: bool,
    /// Most specific first.
    configs: Box<[PerRouteConfig]>,
}

impl ResolvedOverride {
    /// The configurations of the filter `F`, most specific first: weighted cluster, route, virtual host, route
    /// configuration.
    pub fn configs<F: Filter>(&self) -> impl DoubleEndedIterator<Item = &Arc<F::PerRoute>> + Clone {
        self.configs.iter().filter_map(F::per_route)
    }

    /// The most specific configuration of the filter `F`.
    #[must_use]
    pub fn most_specific<F: Filter>(&self) -> Option<&Arc<F::PerRoute>> {
        self.configs::<F>().next()
    }
}

/// The results for all filters that have an override, by name. They are few, so that a scan is faster than an index.
#[derive(Debug, PartialEq)]
pub(crate) struct ResolvedOverrides(Box<[(Arc<str>, ResolvedOverride)]>);

impl ResolvedOverrides {
    /// Resolves `levels`, the most specific first.
    pub(crate) fn new(levels: &[&FilterOverrides]) -> Self {
        let mut names: Vec<&Arc<str>> = levels.iter().flat_map(|level| level.0.keys()).collect();
        names.sort_unstable();
        names.dedup();
        let resolve = |name: &Arc<str>| {
            let overrides = || levels.iter().filter_map(|level| level.get(name));
            let configs = overrides().filter_map(|with| match with {
                FilterOverride::Config(config) => Some(config.clone()),
                FilterOverride::Disabled | FilterOverride::Enabled => None,
            });
            let disabled = overrides().next() == Some(&FilterOverride::Disabled);
            (Arc::clone(name), ResolvedOverride { disabled, configs: configs.collect() })
        };
        Self(names.into_iter().map(resolve).collect())
    }

    /// The result for the filter `name`; `None` if it has no override.
    pub(crate) fn get(&self, name: &str) -> Option<&ResolvedOverride> {
        self.0.iter().find(|(other, _)| **other == *name).map(|(_, resolved)| resolved)
    }
}
