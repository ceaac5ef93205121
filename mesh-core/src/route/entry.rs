//! Compiled routes.

use std::{sync::Arc, time::Duration};

use super::{
    RequestCounters, RequestStats, RouteTableError,
    shared::{Clusters, HostContext, RequestSettings, SharedRoute, SharedRoutes},
};
use crate::{
    filter::ResolvedOverride,
    model::{
        Action, ClusterName, ClusterSpecifier, HeaderKey, HeaderMutations, RetryPolicy, Route, RouteAction,
        RouteConfiguration, RoutingPriority, VirtualCluster, VirtualHost, WeightedCluster, WeightedClusters,
    },
    policy::header_mutation::Changes,
    request::RequestHead,
    resilience::timeout::RouteLimits,
};

/// A compiled route, with its virtual host and its resolved clusters.
///
/// Methods whose result may depend on the weighted cluster take `weighted`, the position that
/// [`RouteEntry::select_cluster`] has returned.
///
/// With 100,000 routes, no route is in a CPU cache. An entry is therefore small, and everything that each request reads is
/// in one value, which routes with equal settings share.
#[derive(Debug)]
pub struct RouteEntry<C> {
    shared: Arc<SharedRoute<C>>,
    route: u32,
}

/// The cluster that a request is routed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterChoice<'e, C> {
    /// The cluster.
    pub cluster: ChosenCluster<'e, C>,
    /// Position in the route's weighted clusters; `None` if the route has none.
    pub weighted: Option<usize>,
}

/// A reference to the cluster that a request is routed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChosenCluster<'e, C> {
    /// A cluster of the configuration.
    Resolved(&'e C),
    /// The name of a cluster from a request header. The cluster may not exist.
    Named(&'e str),
    /// The header with the name of the cluster is missing. Treated as a cluster that does not exist.
    Unnamed,
}

impl<C> RouteEntry<C> {
    /// Compiles the route at position `route`.
    pub(super) fn compile(
        context: HostContext<'_>,
        route: u32,
        resolve: &mut dyn FnMut(&ClusterName) -> C,
    ) -> Result<Self, RouteTableError> {
        let mut entry = Self { shared: Arc::new(SharedRoute::new(context, route, resolve)?), route };
        let request_changes = entry.changes(|entry, weighted| Changes::of(entry.request_headers(weighted)));
        let response_changes = entry.changes(|entry, weighted| Changes::of(entry.response_headers(weighted)));
        let shared = Arc::get_mut(&mut entry.shared).expect("it is not shared yet");
        shared.request = RequestSettings { request_changes, response_changes, ..shared.request };
        Ok(entry)
    }

    /// Replaces the settings by equal ones of another route, if there are any.
    pub(super) fn share(self, shared: &mut SharedRoutes<C>) -> Self {
        Self { shared: shared.share(&self.shared, self.route()), ..self }
    }

    /// The kind of header changes over all weighted clusters.
    fn changes(&self, of_choice: impl Fn(&Self, Option<usize>) -> Changes) -> Changes {
        self.choices().map(|weighted| of_choice(self, weighted)).max().unwrap_or_default()
    }

    /// The counters of a request, whose headers have not been changed yet.
    #[must_use]
    pub fn counters(&self, request: &RequestHead<'_>) -> RequestCounters<'_> {
        let Some(stats) = &self.shared.stats else { return RequestCounters::default() };
        let virtual_cluster = self.virtual_cluster(&stats.virtual_clusters, request);
        RequestCounters { virtual_cluster, route: stats.route.as_deref() }
    }

    /// Whether [`RouteEntry::counters`] may return any.
    #[must_use]
    pub fn has_counters(&self) -> bool {
        self.shared.stats.is_some()
    }

    fn virtual_cluster<'s>(
        &self,
        stats: &'s [Arc<RequestStats>],
        request: &RequestHead<'_>,
    ) -> Option<&'s RequestStats> {
        if stats.is_empty() {
            return None;
        }
        let virtual_clusters = &self.virtual_host().virtual_clusters;
        let takes = |cluster: &VirtualCluster| cluster.headers.iter().all(|header| header.matches(request));
        let position = virtual_clusters.iter().position(takes).unwrap_or(virtual_clusters.len());
        stats.get(position).map(|stats| &**stats)
    }

    /// The route as configured.
    #[must_use]
    pub fn route(&self) -> &Route {
        &self.virtual_host().routes[self.route as usize]
    }

    /// The virtual host of the route.
    #[must_use]
    pub fn virtual_host(&self) -> &VirtualHost {
        &self.shared.config.virtual_hosts[self.shared.virtual_host as usize]
    }

    /// The configuration of the route.
    #[must_use]
    pub fn config(&self) -> &Arc<RouteConfiguration> {
        &self.shared.config
    }

    /// The route's forwarding action, if it has one.
    #[must_use]
    pub fn action(&self) -> Option<&RouteAction> {
        match &self.route().action {
            Action::Route(action) => Some(action),
            Action::Redirect(_) | Action::DirectResponse(_) | Action::NonForwarding => None,
        }
    }

    /// Whether the route has a forwarding action.
    #[must_use]
    pub fn is_forwarding(&self) -> bool {
        !matches!(self.shared.clusters, Clusters::None)
    }

    /// Whether the action is a redirect or a direct response.
    #[must_use]
    pub fn responds_directly(&self) -> bool {
        !self.is_forwarding() && matches!(self.route().action, Action::Redirect(_) | Action::DirectResponse(_))
    }

    /// The idle timeout of streams; `None` = the connection manager's.
    #[must_use]
    pub fn idle_timeout(&self) -> Option<Duration> {
        if self.shared.request.has_stream_limits { self.action().and_then(|action| action.idle_timeout) } else { None }
    }

    /// The timeouts of the forwarding action.
    #[must_use]
    pub fn limits(&self) -> RouteLimits<'_> {
        let action = if self.shared.request.has_stream_limits { self.action() } else { None };
        let max_stream_duration = action.and_then(|action| action.max_stream_duration.as_ref());
        RouteLimits { timeout: self.shared.request.timeout, max_stream_duration }
    }

    /// The priority, which selects circuit breaker thresholds.
    #[must_use]
    pub fn priority(&self) -> RoutingPriority {
        self.shared.request.priority
    }

    /// Whether the headers, the path or the authority of requests may be changed.
    #[must_use]
    pub fn changes_requests(&self) -> bool {
        self.rewrites_path() || self.rewrites_authority() || self.request_changes() != Changes::None
    }

    /// Whether the path may be rewritten.
    pub(super) fn rewrites_path(&self) -> bool {
        self.shared.request.rewrites_path
    }

    /// Whether the authority may be rewritten.
    #[must_use]
    pub fn rewrites_authority(&self) -> bool {
        self.shared.request.rewrites_authority
    }

    /// Selects the cluster of a request; `None` if the route has no forwarding action. `random` is the random number of the
    /// request, by which a weighted cluster is selected.
    #[must_use]
    pub fn select_cluster<'e>(&'e self, request: &RequestHead<'e>, random: u64) -> Option<ClusterChoice<'e, C>> {
        match &self.shared.clusters {
            Clusters::None => None,
            Clusters::One(cluster) => Some(ClusterChoice { cluster: ChosenCluster::Resolved(cluster), weighted: None }),
            Clusters::Weighted(split) => {
                let number = self.selecting_header(request).unwrap_or(random) % u64::from(split.total.get());
                let position = split.cumulative.partition_point(|&sum| u64::from(sum) <= number);
                let cluster = ChosenCluster::Resolved(&split.clusters[position]);
                Some(ClusterChoice { cluster, weighted: Some(position) })
            }
            Clusters::FromHeader => {
                let key = self.cluster_header()?;
                let name = request.values(key).next().and_then(|name| std::str::from_utf8(name).ok());
                let cluster = match name {
                    Some(name) if !name.is_empty() => ChosenCluster::Named(name),
                    _ => ChosenCluster::Unnamed,
                };
                Some(ClusterChoice { cluster, weighted: None })
            }
        }
    }

    /// The cluster of the route, if it has exactly one.
    #[must_use]
    pub fn only_cluster(&self) -> Option<&C> {
        match &self.shared.clusters {
            Clusters::One(cluster) => Some(cluster),
            Clusters::None | Clusters::Weighted(_) | Clusters::FromHeader => None,
        }
    }

    /// The weighted cluster at `weighted`.
    #[must_use]
    pub fn weighted_cluster(&self, weighted: Option<usize>) -> Option<&WeightedCluster> {
        self.split()?.clusters.get(weighted?)
    }

    /// The retry policy: the route's, or else the virtual host's.
    #[must_use]
    pub fn retry_policy(&self) -> Option<&Arc<RetryPolicy>> {
        self.shared.retry_policy.as_ref()
    }

    /// Whether there are overrides of any filter.
    #[must_use]
    pub fn has_filter_overrides(&self) -> bool {
        self.shared.filter_overrides.is_some()
    }

    /// The overrides of the filter `name`, by the weighted cluster, the route, the virtual host and the route configuration;
    /// `None` if there are none.
    #[must_use]
    pub fn filter_override(&self, weighted: Option<usize>, name: &str) -> Option<&ResolvedOverride> {
        self.shared.filter_overrides.as_ref()?.get(weighted, name)
    }

    /// The kind of request header changes, over all weighted clusters.
    #[must_use]
    pub fn request_changes(&self) -> Changes {
        self.shared.request.request_changes
    }

    /// The kind of response header changes, over all weighted clusters.
    #[must_use]
    pub fn response_changes(&self) -> Changes {
        self.shared.request.response_changes
    }

    /// Whether upstream requests have `x-envoy-attempt-count`.
    #[must_use]
    pub fn include_request_attempt_count(&self) -> bool {
        self.shared.include_request_attempt_count
    }

    /// Whether responses have `x-envoy-attempt-count`.
    #[must_use]
    pub fn include_attempt_count_in_response(&self) -> bool {
        self.shared.include_attempt_count_in_response
    }

    /// Whether header changes need attributes of the request or response.
    #[must_use]
    pub fn changes_headers_by_attributes(&self) -> bool {
        [self.request_changes(), self.response_changes()].contains(&Changes::Evaluated)
    }

    /// The changes of request headers, in the order in which they are applied.
    pub fn request_headers(&self, weighted: Option<usize>) -> impl Iterator<Item = &HeaderMutations> {
        let of_cluster = self.weighted_cluster(weighted).map(|cluster| &cluster.request_headers);
        self.in_order([
            of_cluster,
            Some(&self.route().request_headers),
            Some(&self.virtual_host().request_headers),
            Some(&self.shared.config.request_headers),
        ])
    }

    /// The changes of response headers, in the order in which they are applied.
    pub fn response_headers(&self, weighted: Option<usize>) -> impl Iterator<Item = &HeaderMutations> {
        let of_cluster = self.weighted_cluster(weighted).map(|cluster| &cluster.response_headers);
        self.in_order([
            of_cluster,
            Some(&self.route().response_headers),
            Some(&self.virtual_host().response_headers),
            Some(&self.shared.config.response_headers),
        ])
    }

    /// Orders levels from the most specific to the least specific, which is applied last, unless
    /// `most_specific_header_mutations_wins` is set.
    fn in_order<'e>(&self, mut levels: [Option<&'e HeaderMutations>; 4]) -> impl Iterator<Item = &'e HeaderMutations> {
        if self.shared.config.most_specific_header_mutations_wins {
            levels.reverse();
        }
        levels.into_iter().flatten().filter(|mutations| !mutations.is_empty())
    }

    /// All values of `weighted`.
    fn choices(&self) -> impl Iterator<Item = Option<usize>> + use<C> {
        let clusters = self.split().map_or(0, |split| split.clusters.len());
        std::iter::once(None).chain((0..clusters).map(Some))
    }

    fn split(&self) -> Option<&WeightedClusters> {
        match &self.action()?.cluster {
            ClusterSpecifier::Weighted(split) => Some(split),
            ClusterSpecifier::Cluster(_) | ClusterSpecifier::ClusterHeader(_) => None,
        }
    }

    fn cluster_header(&self) -> Option<&HeaderKey> {
        match &self.action()?.cluster {
            ClusterSpecifier::ClusterHeader(key) => Some(key),
            ClusterSpecifier::Cluster(_) | ClusterSpecifier::Weighted(_) => None,
        }
    }

    /// The number in the header that selects a weighted cluster. A header with several lines is ignored.
    fn selecting_header(&self, request: &RequestHead<'_>) -> Option<u64> {
        let mut lines = request.headers.get_all(self.split()?.header_name.as_ref()?).iter();
        let number = lines.next()?.to_str().ok()?.parse().ok()?;
        lines.next().is_none().then_some(number)
    }
}
