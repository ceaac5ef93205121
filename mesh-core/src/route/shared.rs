//! The settings of compiled routes, shared by the routes of a virtual host that have the same ones.

use std::{collections::HashMap, num::NonZeroU32, sync::Arc, time::Duration};

use super::{
    RequestPart, RequestScope, RequestStats, RequestStatsRegistry, RouteTableError, filter_overrides::RouteOverrides,
    table::total_weight,
};
use crate::{
    model::{
        Action, ClusterName, ClusterSpecifier, HostRewrite, PathRewrite, RetryPolicy, Route, RouteAction,
        RouteConfiguration, RoutingPriority, VirtualHost, WeightedClusters,
    },
    policy::header_mutation::Changes,
};

/// The virtual host whose routes are compiled.
#[derive(Clone, Copy, Debug)]
pub(super) struct HostContext<'a> {
    pub(super) config: &'a Arc<RouteConfiguration>,
    /// Position of the virtual host in `config`.
    pub(super) virtual_host: u32,
    pub(super) registry: &'a RequestStatsRegistry,
    /// Statistics of the virtual clusters in order, followed by those of the other requests; empty without virtual
    /// clusters.
    pub(super) virtual_clusters: &'a Arc<[Arc<RequestStats>]>,
}

/// The settings of a route that every request reads.
#[derive(Debug)]
pub(super) struct SharedRoute<C> {
    pub(super) config: Arc<RouteConfiguration>,
    pub(super) virtual_host: u32,
    pub(super) clusters: Clusters<C>,
    /// The route's retry policy, or else the virtual host's.
    pub(super) retry_policy: Option<Arc<RetryPolicy>>,
    pub(super) filter_overrides: Option<Box<RouteOverrides>>,
    pub(super) request: RequestSettings,
    pub(super) include_request_attempt_count: bool,
    pub(super) include_attempt_count_in_response: bool,
    pub(super) stats: Option<RouteStats>,
}

/// Settings of requests, and whether there are settings that few requests need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct RequestSettings {
    pub(super) timeout: Duration,
    pub(super) priority: RoutingPriority,
    pub(super) has_stream_limits: bool,
    pub(super) rewrites_path: bool,
    pub(super) rewrites_authority: bool,
    pub(super) request_changes: Changes,
    pub(super) response_changes: Changes,
}

/// Statistics of a route's requests.
#[derive(Debug)]
pub(super) struct RouteStats {
    pub(super) route: Option<Arc<RequestStats>>,
    /// As in [`HostContext::virtual_clusters`].
    pub(super) virtual_clusters: Arc<[Arc<RequestStats>]>,
}

/// The resolved clusters of a route.
#[derive(Debug)]
pub(super) enum Clusters<C> {
    /// The route does not forward.
    None,
    One(C),
    Weighted(Box<Split<C>>),
    FromHeader,
}

/// Clusters by weight.
#[derive(Debug)]
pub(super) struct Split<C> {
    pub(super) clusters: Box<[C]>,
    /// Sum of the weights up to and including each cluster.
    pub(super) cumulative: Box<[u32]>,
    pub(super) total: NonZeroU32,
}

/// The shared settings of a virtual host's routes.
#[derive(Debug)]
pub(super) struct SharedRoutes<C>(HashMap<SharedKey, Vec<Arc<SharedRoute<C>>>>);

/// The settings that are compared by their hash.
#[derive(Debug, PartialEq, Eq, Hash)]
struct SharedKey {
    cluster: Option<ClusterName>,
    request: RequestSettings,
    stat_prefix: Arc<str>,
}

impl<C> SharedRoute<C> {
    /// Compiles the settings of the route at position `route`.
    pub(super) fn new(
        context: HostContext<'_>,
        route: u32,
        resolve: &mut dyn FnMut(&ClusterName) -> C,
    ) -> Result<Self, RouteTableError> {
        let HostContext { config, virtual_host, .. } = context;
        let host = &config.virtual_hosts[virtual_host as usize];
        let route_config = &host.routes[route as usize];
        let mut shared = Self {
            config: Arc::clone(config),
            virtual_host,
            clusters: Clusters::None,
            retry_policy: None,
            filter_overrides: RouteOverrides::new(config, host, route_config).map(Box::new),
            request: RequestSettings::default(),
            include_request_attempt_count: host.include_request_attempt_count,
            include_attempt_count_in_response: host.include_attempt_count_in_response,
            stats: RouteStats::new(context, host, route_config),
        };
        if let Action::Route(action) = &route_config.action {
            shared.request = RequestSettings::of(action);
            shared.retry_policy = action.retry_policy.clone().or_else(|| host.retry_policy.clone());
            shared.clusters = match &action.cluster {
                ClusterSpecifier::Cluster(name) => Clusters::One(resolve(name)),
                ClusterSpecifier::Weighted(split) => Clusters::Weighted(Box::new(Split {
                    clusters: split.clusters.iter().map(|cluster| resolve(&cluster.name)).collect(),
                    total: total_weight(host, route as usize, split.total_weight())?,
                    cumulative: cumulative(split),
                })),
                ClusterSpecifier::ClusterHeader(_) => Clusters::FromHeader,
            };
        }
        Ok(shared)
    }
}

impl RequestSettings {
    /// The settings of an action; header changes are added later.
    fn of(action: &RouteAction) -> Self {
        let split = match &action.cluster {
            ClusterSpecifier::Weighted(split) => &split.clusters[..],
            ClusterSpecifier::Cluster(_) | ClusterSpecifier::ClusterHeader(_) => &[],
        };
        let rewritten_by_cluster = split.iter().any(|cluster| cluster.host_rewrite_literal.is_some());
        Self {
            timeout: action.timeout,
            priority: action.priority,
            has_stream_limits: action.max_stream_duration.is_some() || action.idle_timeout.is_some(),
            rewrites_path: action.path_rewrite != PathRewrite::None,
            rewrites_authority: action.host_rewrite != HostRewrite::None || rewritten_by_cluster,
            ..Self::default()
        }
    }
}

impl RouteStats {
    /// `None` if the route's requests have no statistics.
    fn new(context: HostContext<'_>, host: &VirtualHost, route: &Route) -> Option<Self> {
        let HostContext { registry, virtual_clusters, .. } = context;
        let prefix = &route.stat_prefix;
        let part = || RequestPart::Route(Arc::clone(prefix));
        let scope = || RequestScope { virtual_host: Arc::clone(&host.name), part: part() };
        let route = (!prefix.is_empty()).then(|| registry.intern(scope()));
        let has_stats = route.is_some() || !virtual_clusters.is_empty();
        has_stats.then(|| Self { route, virtual_clusters: Arc::clone(virtual_clusters) })
    }
}

impl<C> SharedRoutes<C> {
    /// Number of settings with the same key that new ones are compared with. Comparing with all would take quadratic time.
    const MAX_COMPARED: usize = 8;

    /// Returns settings of another route that equal those of `route`, or `new` if there are none.
    pub(super) fn share(&mut self, new: &Arc<SharedRoute<C>>, route: &Route) -> Arc<SharedRoute<C>> {
        let cluster = match (&new.clusters, &route.action) {
            (Clusters::None, _) => None,
            (Clusters::One(_), Action::Route(action)) => match &action.cluster {
                ClusterSpecifier::Cluster(name) => Some(name.clone()),
                ClusterSpecifier::Weighted(_) | ClusterSpecifier::ClusterHeader(_) => return Arc::clone(new),
            },
            (Clusters::One(_) | Clusters::Weighted(_) | Clusters::FromHeader, _) => return Arc::clone(new),
        };
        let key = SharedKey { cluster, request: new.request, stat_prefix: Arc::clone(&route.stat_prefix) };
        let candidates = self.0.entry(key).or_default();
        let is_equal = |other: &&Arc<SharedRoute<C>>| {
            other.retry_policy == new.retry_policy && other.filter_overrides == new.filter_overrides
        };
        if let Some(equal) = candidates.iter().rev().take(Self::MAX_COMPARED).find(is_equal) {
            return Arc::clone(equal);
        }
        candidates.push(Arc::clone(new));
        Arc::clone(new)
    }
}

impl<C> Default for SharedRoutes<C> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

fn cumulative(split: &WeightedClusters) -> Box<[u32]> {
    let sums = split.clusters.iter().scan(0u32, |sum, cluster| {
        *sum = sum.saturating_add(cluster.weight);
        Some(*sum)
    });
    sums.collect()
}
