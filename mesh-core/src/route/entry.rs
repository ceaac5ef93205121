//! One compiled route.

use std::{collections::HashMap, num::NonZeroU32, sync::Arc, time::Duration};

use super::{
    RequestCounters, RequestPart, RequestScope, RequestStats, RequestStatsRegistry, RouteTableError,
    filter_overrides::RouteOverrides, table::total_weight,
};
use crate::{
    filter::ResolvedOverride,
    model::{
        Action, ClusterName, ClusterSpecifier, HeaderKey, HeaderMutations, HostRewrite, PathRewrite, RetryPolicy,
        Route, RouteAction, RouteConfiguration, RoutingPriority, VirtualCluster, VirtualHost, WeightedCluster,
        WeightedClusters,
    },
    policy::header_mutation::Changes,
    request::RequestHead,
    resilience::timeout::RouteLimits,
};

/// A route with its virtual host and its clusters resolved.
///
/// Methods take `weighted`, the position that [`RouteEntry::select_cluster`] chose, where a weighted cluster may say
/// something of its own.
///
/// Of 100,000 routes a request finds none in a cache. So an entry is small, and all that every request asks for lies in its
/// plan, which routes that say the same have in common.
#[derive(Debug)]
pub struct RouteEntry<C> {
    plan: Arc<Plan<C>>,
    route: u32,
}

/// What routes of a virtual host say about every request.
#[derive(Debug)]
struct Plan<C> {
    config: Arc<RouteConfiguration>,
    virtual_host: u32,
    clusters: Clusters<C>,
    /// The route's, else the virtual host's.
    retry_policy: Option<Arc<RetryPolicy>>,
    filter_overrides: Option<Box<RouteOverrides>>,
    essentials: Essentials,
    /// The virtual host's.
    include_request_attempt_count: bool,
    /// The virtual host's.
    include_attempt_count_in_response: bool,
    counters: Option<Counters>,
}

/// The plans of a virtual host, by what their routes say.
#[derive(Debug)]
pub(super) struct Plans<C>(HashMap<Said, Vec<Arc<Plan<C>>>>);

/// What routes with the same plan have said, beside their retry policy and filter overrides.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Said {
    cluster: Option<ClusterName>,
    essentials: Essentials,
    stat_prefix: Arc<str>,
}

/// What a forwarding action says, as far as every request asks, and what it asks for rarely, as a note that there is some.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Essentials {
    timeout: Duration,
    priority: RoutingPriority,
    has_stream_limits: bool,
    rewrites_path: bool,
    rewrites_authority: bool,
    request_changes: Changes,
    response_changes: Changes,
}

/// Counters of a route's requests.
#[derive(Debug)]
struct Counters {
    route: Option<Arc<RequestStats>>,
    /// Of the virtual host's virtual clusters, in their order, and of `other`; none if it has none.
    virtual_clusters: Arc<[Arc<RequestStats>]>,
}

#[derive(Debug)]
enum Clusters<C> {
    /// The action needs none.
    None,
    One(C),
    Weighted(Box<Split<C>>),
    FromHeader,
}

/// Clusters by weight.
#[derive(Debug)]
struct Split<C> {
    clusters: Box<[C]>,
    /// Sum of the weights up to and including each cluster.
    cumulative: Box<[u32]>,
    total: NonZeroU32,
}

impl Essentials {
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

/// The cluster a request goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterChoice<'e, C> {
    /// Which cluster.
    pub cluster: ChosenCluster<'e, C>,
    /// Position in the route's weighted clusters; `None` if the route has none.
    pub weighted: Option<usize>,
}

/// How a chosen cluster is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChosenCluster<'e, C> {
    /// By the configuration.
    Resolved(&'e C),
    /// By a request header; it may not exist.
    Named(&'e str),
    /// The header that should name it is missing: as if it did not exist.
    Unnamed,
}

impl<C> Plans<C> {
    /// Plans that a plan is compared with; to compare it with all would take more than linear time.
    const MAX_COMPARED: usize = 8;

    /// The same entry, with the plan of one that says the same, if there is one.
    pub(super) fn share(&mut self, entry: RouteEntry<C>) -> RouteEntry<C> {
        let cluster = match (&entry.plan.clusters, entry.action().map(|action| &action.cluster)) {
            (Clusters::None, _) => None,
            (Clusters::One(_), Some(ClusterSpecifier::Cluster(name))) => Some(name.clone()),
            (Clusters::One(_) | Clusters::Weighted(_) | Clusters::FromHeader, _) => return entry,
        };
        let stat_prefix = Arc::clone(&entry.route().stat_prefix);
        let alike = self.0.entry(Said { cluster, essentials: entry.plan.essentials, stat_prefix }).or_default();
        let compared = alike.iter().rev().take(Self::MAX_COMPARED);
        let is_same = |plan: &Plan<C>| {
            plan.retry_policy == entry.plan.retry_policy && plan.filter_overrides == entry.plan.filter_overrides
        };
        match compared.into_iter().find(|plan| is_same(plan)) {
            Some(plan) => RouteEntry { plan: Arc::clone(plan), ..entry },
            None => {
                alike.push(Arc::clone(&entry.plan));
                entry
            }
        }
    }
}

impl<C> Default for Plans<C> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<C> Plan<C> {
    /// Of the route at `route` of the virtual host at `virtual_host`.
    fn new(
        config: &Arc<RouteConfiguration>,
        (virtual_host, route): (u32, u32),
        resolve: &mut dyn FnMut(&ClusterName) -> C,
        (registry, virtual_clusters): (&RequestStatsRegistry, &Arc<[Arc<RequestStats>]>),
    ) -> Result<Self, RouteTableError> {
        let host = &config.virtual_hosts[virtual_host as usize];
        let said = &host.routes[route as usize];
        let mut plan = Self {
            config: Arc::clone(config),
            virtual_host,
            clusters: Clusters::None,
            retry_policy: None,
            filter_overrides: RouteOverrides::new(config, host, said).map(Box::new),
            essentials: Essentials::default(),
            include_request_attempt_count: host.include_request_attempt_count,
            include_attempt_count_in_response: host.include_attempt_count_in_response,
            counters: Counters::new(host, said, registry, virtual_clusters),
        };
        if let Action::Route(action) = &said.action {
            plan.essentials = Essentials::of(action);
            plan.retry_policy = action.retry_policy.clone().or_else(|| host.retry_policy.clone());
            plan.clusters = match &action.cluster {
                ClusterSpecifier::Cluster(name) => Clusters::One(resolve(name)),
                ClusterSpecifier::Weighted(split) => Clusters::Weighted(Box::new(Split {
                    clusters: split.clusters.iter().map(|cluster| resolve(&cluster.name)).collect(),
                    total: total_weight(host, route as usize, split.total_weight())?,
                    cumulative: cumulative(split),
                })),
                ClusterSpecifier::ClusterHeader(_) => Clusters::FromHeader,
            };
        }
        Ok(plan)
    }
}

impl Counters {
    /// `None` if nothing is counted.
    fn new(
        host: &VirtualHost,
        route: &Route,
        registry: &RequestStatsRegistry,
        virtual_clusters: &Arc<[Arc<RequestStats>]>,
    ) -> Option<Self> {
        let prefix = &route.stat_prefix;
        let part = || RequestPart::Route(Arc::clone(prefix));
        let scope = || RequestScope { virtual_host: Arc::clone(&host.name), part: part() };
        let route = (!prefix.is_empty()).then(|| registry.intern(scope()));
        let counts = route.is_some() || !virtual_clusters.is_empty();
        counts.then(|| Self { route, virtual_clusters: Arc::clone(virtual_clusters) })
    }
}

impl<C> RouteEntry<C> {
    pub(super) fn compile(
        config: &Arc<RouteConfiguration>,
        (virtual_host, route): (u32, u32),
        resolve: &mut dyn FnMut(&ClusterName) -> C,
        stats: (&RequestStatsRegistry, &Arc<[Arc<RequestStats>]>),
    ) -> Result<Self, RouteTableError> {
        let mut entry = Self { plan: Arc::new(Plan::new(config, (virtual_host, route), resolve, stats)?), route };
        let request_changes = entry.changes(|entry, weighted| Changes::of(entry.request_headers(weighted)));
        let response_changes = entry.changes(|entry, weighted| Changes::of(entry.response_headers(weighted)));
        let plan = Arc::get_mut(&mut entry.plan).expect("nobody else has it yet");
        plan.essentials = Essentials { request_changes, response_changes, ..plan.essentials };
        Ok(entry)
    }

    /// What the changes of headers take at most, whichever cluster is chosen.
    fn changes(&self, of_choice: impl Fn(&Self, Option<usize>) -> Changes) -> Changes {
        self.choices().map(|weighted| of_choice(self, weighted)).max().unwrap_or_default()
    }

    /// The counters of a request, as it is before its headers are changed.
    #[must_use]
    pub fn counters(&self, request: &RequestHead<'_>) -> RequestCounters<'_> {
        let Some(counters) = &self.plan.counters else { return RequestCounters::default() };
        let virtual_cluster = self.virtual_cluster(&counters.virtual_clusters, request);
        RequestCounters { virtual_cluster, route: counters.route.as_deref() }
    }

    /// Whether a request has counters, which saves looking for them.
    #[must_use]
    pub fn has_counters(&self) -> bool {
        self.plan.counters.is_some()
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
        &self.plan.config.virtual_hosts[self.plan.virtual_host as usize]
    }

    /// The configuration of the route.
    #[must_use]
    pub fn config(&self) -> &Arc<RouteConfiguration> {
        &self.plan.config
    }

    /// The route's forwarding action, if it has one.
    #[must_use]
    pub fn action(&self) -> Option<&RouteAction> {
        match &self.route().action {
            Action::Route(action) => Some(action),
            Action::Redirect(_) | Action::DirectResponse(_) | Action::NonForwarding => None,
        }
    }

    /// Whether the action is to forward: only then there is an [`RouteEntry::action`].
    #[must_use]
    pub fn is_forwarding(&self) -> bool {
        !matches!(self.plan.clusters, Clusters::None)
    }

    /// Whether the route gives the response itself: a redirect, or a direct response.
    #[must_use]
    pub fn responds_directly(&self) -> bool {
        !self.is_forwarding() && matches!(self.route().action, Action::Redirect(_) | Action::DirectResponse(_))
    }

    /// The route's limit for silence on a stream; `None` = the connection manager's.
    #[must_use]
    pub fn idle_timeout(&self) -> Option<Duration> {
        if self.plan.essentials.has_stream_limits { self.action().and_then(|action| action.idle_timeout) } else { None }
    }

    /// What the forwarding action says about time.
    #[must_use]
    pub fn limits(&self) -> RouteLimits<'_> {
        let action = if self.plan.essentials.has_stream_limits { self.action() } else { None };
        let max_stream_duration = action.and_then(|action| action.max_stream_duration.as_ref());
        RouteLimits { timeout: self.plan.essentials.timeout, max_stream_duration }
    }

    /// Which thresholds of the circuit breaker apply.
    #[must_use]
    pub fn priority(&self) -> RoutingPriority {
        self.plan.essentials.priority
    }

    /// Whether requests may be changed beyond what every try writes: headers, path, authority. Saves asking how.
    #[must_use]
    pub fn changes_requests(&self) -> bool {
        self.rewrites_path() || self.rewrites_authority() || self.request_changes() != Changes::None
    }

    /// Whether the path may be rewritten, which saves asking how.
    pub(super) fn rewrites_path(&self) -> bool {
        self.plan.essentials.rewrites_path
    }

    /// Whether the authority may be rewritten, which saves asking how.
    #[must_use]
    pub fn rewrites_authority(&self) -> bool {
        self.plan.essentials.rewrites_authority
    }

    /// Chooses the cluster; `None` if the action is not to forward. `random` is the request's one random number, so
    /// that retries stay in the chosen cluster (E3).
    #[must_use]
    pub fn select_cluster<'e>(&'e self, request: &RequestHead<'e>, random: u64) -> Option<ClusterChoice<'e, C>> {
        match &self.plan.clusters {
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

    /// The cluster that every request of the route goes to, if there is one such.
    #[must_use]
    pub fn only_cluster(&self) -> Option<&C> {
        match &self.plan.clusters {
            Clusters::One(cluster) => Some(cluster),
            Clusters::None | Clusters::Weighted(_) | Clusters::FromHeader => None,
        }
    }

    /// The weighted cluster at `weighted`.
    #[must_use]
    pub fn weighted_cluster(&self, weighted: Option<usize>) -> Option<&WeightedCluster> {
        self.split()?.clusters.get(weighted?)
    }

    /// The retry policy in force: the route's, else the virtual host's.
    #[must_use]
    pub fn retry_policy(&self) -> Option<&Arc<RetryPolicy>> {
        self.plan.retry_policy.as_ref()
    }

    /// Whether any filter has an override here, which saves a look-up for each filter.
    #[must_use]
    pub fn has_filter_overrides(&self) -> bool {
        self.plan.filter_overrides.is_some()
    }

    /// The overrides by the weighted cluster, the route, its virtual host and its configuration of the filter that is called
    /// `name` in its chain; `None` if there are none.
    #[must_use]
    pub fn filter_override(&self, weighted: Option<usize>, name: &str) -> Option<&ResolvedOverride> {
        self.plan.filter_overrides.as_ref()?.get(weighted, name)
    }

    /// What the changes of request headers take, whichever cluster is chosen.
    #[must_use]
    pub fn request_changes(&self) -> Changes {
        self.plan.essentials.request_changes
    }

    /// What the changes of response headers take, whichever cluster is chosen.
    #[must_use]
    pub fn response_changes(&self) -> Changes {
        self.plan.essentials.response_changes
    }

    /// Whether each try tells its number.
    #[must_use]
    pub fn include_request_attempt_count(&self) -> bool {
        self.plan.include_request_attempt_count
    }

    /// Whether responses tell how many tries there were.
    #[must_use]
    pub fn include_attempt_count_in_response(&self) -> bool {
        self.plan.include_attempt_count_in_response
    }

    /// Whether values of changed headers tell of the request.
    #[must_use]
    pub fn changes_headers_by_attributes(&self) -> bool {
        [self.request_changes(), self.response_changes()].contains(&Changes::Evaluated)
    }

    /// Changes of request headers, in the order in which they apply (E8).
    pub fn request_headers(&self, weighted: Option<usize>) -> impl Iterator<Item = &HeaderMutations> {
        let of_cluster = self.weighted_cluster(weighted).map(|cluster| &cluster.request_headers);
        self.in_order([
            of_cluster,
            Some(&self.route().request_headers),
            Some(&self.virtual_host().request_headers),
            Some(&self.plan.config.request_headers),
        ])
    }

    /// Changes of response headers, in the order in which they apply (E8).
    pub fn response_headers(&self, weighted: Option<usize>) -> impl Iterator<Item = &HeaderMutations> {
        let of_cluster = self.weighted_cluster(weighted).map(|cluster| &cluster.response_headers);
        self.in_order([
            of_cluster,
            Some(&self.route().response_headers),
            Some(&self.virtual_host().response_headers),
            Some(&self.plan.config.response_headers),
        ])
    }

    /// Most specific first, so that the least specific has the last word, unless configured the other way round.
    fn in_order<'e>(&self, mut levels: [Option<&'e HeaderMutations>; 4]) -> impl Iterator<Item = &'e HeaderMutations> {
        if self.plan.config.most_specific_header_mutations_wins {
            levels.reverse();
        }
        levels.into_iter().flatten().filter(|mutations| !mutations.is_empty())
    }

    /// Every value that `weighted` may have.
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

    /// The number in the header that selects among weighted clusters; several lines or anything else count as none.
    fn selecting_header(&self, request: &RequestHead<'_>) -> Option<u64> {
        let mut lines = request.headers.get_all(self.split()?.header_name.as_ref()?).iter();
        let number = lines.next()?.to_str().ok()?.parse().ok()?;
        lines.next().is_none().then_some(number)
    }
}

fn cumulative(split: &WeightedClusters) -> Box<[u32]> {
    let sums = split.clusters.iter().scan(0u32, |sum, cluster| {
        *sum = sum.saturating_add(cluster.weight);
        Some(*sum)
    });
    sums.collect()
}
