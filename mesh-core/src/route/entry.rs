//! One compiled route.

use std::{num::NonZeroU32, sync::Arc};

use super::{
    RequestCounters, RequestPart, RequestScope, RequestStats, RequestStatsRegistry, RouteTableError,
    table::total_weight,
};
use crate::{
    model::{
        Action, ClusterName, ClusterSpecifier, Fault, HeaderKey, HeaderMutations, RetryPolicy, Route, RouteAction,
        RouteConfiguration, VirtualCluster, VirtualHost, WeightedCluster, WeightedClusters,
    },
    policy::header_mutation::Changes,
    request::RequestHead,
};

/// A route with its virtual host and its clusters resolved.
///
/// Methods take `weighted`, the position that [`RouteEntry::select_cluster`] chose, where a weighted cluster may say
/// something of its own.
#[derive(Debug)]
pub struct RouteEntry<C> {
    config: Arc<RouteConfiguration>,
    virtual_host: usize,
    route: usize,
    clusters: Clusters<C>,
    request_changes: Changes,
    response_changes: Changes,
    stats: Option<Arc<RequestStats>>,
    /// Of the virtual host's virtual clusters, in their order, and of `other`; none if it has none.
    virtual_clusters: Arc<[Arc<RequestStats>]>,
}

#[derive(Debug)]
enum Clusters<C> {
    /// The action needs none.
    None,
    One(C),
    Weighted {
        clusters: Box<[C]>,
        /// Sum of the weights up to and including each cluster.
        cumulative: Box<[u32]>,
        total: NonZeroU32,
    },
    FromHeader,
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

impl<C> RouteEntry<C> {
    pub(super) fn compile(
        config: &Arc<RouteConfiguration>,
        (virtual_host, route): (usize, usize),
        resolve: &mut dyn FnMut(&ClusterName) -> C,
    ) -> Result<Self, RouteTableError> {
        let host = &config.virtual_hosts[virtual_host];
        let clusters = match &host.routes[route].action {
            Action::Route(action) => match &action.cluster {
                ClusterSpecifier::Cluster(name) => Clusters::One(resolve(name)),
                ClusterSpecifier::Weighted(split) => Clusters::Weighted {
                    clusters: split.clusters.iter().map(|cluster| resolve(&cluster.name)).collect(),
                    total: total_weight(host, route, split.total_weight())?,
                    cumulative: cumulative(split),
                },
                ClusterSpecifier::ClusterHeader(_) => Clusters::FromHeader,
            },
            Action::Redirect(_) | Action::DirectResponse(_) | Action::NonForwarding => Clusters::None,
        };
        let (request_changes, response_changes) = Default::default();
        let config = config.clone();
        let (stats, virtual_clusters) = (None, Arc::default());
        let mut entry =
            Self { config, virtual_host, route, clusters, request_changes, response_changes, stats, virtual_clusters };
        entry.request_changes = Changes::of(entry.choices().flat_map(|weighted| entry.request_headers(weighted)));
        entry.response_changes = Changes::of(entry.choices().flat_map(|weighted| entry.response_headers(weighted)));
        Ok(entry)
    }

    /// The same, with its requests counted.
    pub(super) fn counted(self, registry: &RequestStatsRegistry, virtual_clusters: &Arc<[Arc<RequestStats>]>) -> Self {
        let (host, prefix) = (self.virtual_host(), &self.route().stat_prefix);
        let part = || RequestPart::Route(Arc::clone(prefix));
        let scope = || RequestScope { virtual_host: Arc::clone(&host.name), part: part() };
        let stats = (!prefix.is_empty()).then(|| registry.intern(scope()));
        Self { stats, virtual_clusters: Arc::clone(virtual_clusters), ..self }
    }

    /// The counters of a request, as it is before its headers are changed.
    #[must_use]
    pub fn counters(&self, request: &RequestHead<'_>) -> RequestCounters<'_> {
        RequestCounters { virtual_cluster: self.virtual_cluster(request), route: self.stats.as_deref() }
    }

    /// Whether a request has counters, which saves looking for them.
    #[must_use]
    pub fn has_counters(&self) -> bool {
        self.stats.is_some() || !self.virtual_clusters.is_empty()
    }

    fn virtual_cluster(&self, request: &RequestHead<'_>) -> Option<&RequestStats> {
        if self.virtual_clusters.is_empty() {
            return None;
        }
        let virtual_clusters = &self.virtual_host().virtual_clusters;
        let takes = |cluster: &VirtualCluster| cluster.headers.iter().all(|header| header.matches(request));
        let position = virtual_clusters.iter().position(takes).unwrap_or(virtual_clusters.len());
        self.virtual_clusters.get(position).map(|stats| &**stats)
    }

    /// The route as configured.
    #[must_use]
    pub fn route(&self) -> &Route {
        &self.virtual_host().routes[self.route]
    }

    /// The virtual host of the route.
    #[must_use]
    pub fn virtual_host(&self) -> &VirtualHost {
        &self.config.virtual_hosts[self.virtual_host]
    }

    /// The configuration of the route.
    #[must_use]
    pub fn config(&self) -> &Arc<RouteConfiguration> {
        &self.config
    }

    /// The route's forwarding action, if it has one.
    #[must_use]
    pub fn action(&self) -> Option<&RouteAction> {
        match &self.route().action {
            Action::Route(action) => Some(action),
            Action::Redirect(_) | Action::DirectResponse(_) | Action::NonForwarding => None,
        }
    }

    /// Chooses the cluster; `None` if the action is not to forward. `random` is the request's one random number, so
    /// that retries stay in the chosen cluster (E3).
    #[must_use]
    pub fn select_cluster<'e>(&'e self, request: &RequestHead<'e>, random: u64) -> Option<ClusterChoice<'e, C>> {
        match &self.clusters {
            Clusters::None => None,
            Clusters::One(cluster) => Some(ClusterChoice { cluster: ChosenCluster::Resolved(cluster), weighted: None }),
            Clusters::Weighted { clusters, cumulative, total } => {
                let number = self.selecting_header(request).unwrap_or(random) % u64::from(total.get());
                let position = cumulative.partition_point(|&sum| u64::from(sum) <= number);
                Some(ClusterChoice { cluster: ChosenCluster::Resolved(&clusters[position]), weighted: Some(position) })
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
        match &self.clusters {
            Clusters::One(cluster) => Some(cluster),
            Clusters::None | Clusters::Weighted { .. } | Clusters::FromHeader => None,
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
        self.action()?.retry_policy.as_ref().or_else(|| self.virtual_host().retry_policy.as_ref())
    }

    /// The fault configuration in force: the weighted cluster's, else the route's, the virtual host's, the filter's.
    #[must_use]
    pub fn fault<'e>(&'e self, weighted: Option<usize>, filter: Option<&'e Arc<Fault>>) -> Option<&'e Arc<Fault>> {
        let of_cluster = self.weighted_cluster(weighted).and_then(|cluster| cluster.fault.as_ref());
        let of_route = || self.route().fault.as_ref();
        let of_virtual_host = || self.virtual_host().fault.as_ref();
        of_cluster.or_else(of_route).or_else(of_virtual_host).or(filter)
    }

    /// What the changes of request headers take, whichever cluster is chosen.
    #[must_use]
    pub fn request_changes(&self) -> Changes {
        self.request_changes
    }

    /// What the changes of response headers take, whichever cluster is chosen.
    #[must_use]
    pub fn response_changes(&self) -> Changes {
        self.response_changes
    }

    /// Whether values of changed headers tell of the request.
    #[must_use]
    pub fn changes_headers_by_attributes(&self) -> bool {
        [self.request_changes, self.response_changes].contains(&Changes::Evaluated)
    }

    /// Changes of request headers, in the order in which they apply (E8).
    pub fn request_headers(&self, weighted: Option<usize>) -> impl Iterator<Item = &HeaderMutations> {
        let of_cluster = self.weighted_cluster(weighted).map(|cluster| &cluster.request_headers);
        self.in_order([
            of_cluster,
            Some(&self.route().request_headers),
            Some(&self.virtual_host().request_headers),
            Some(&self.config.request_headers),
        ])
    }

    /// Changes of response headers, in the order in which they apply (E8).
    pub fn response_headers(&self, weighted: Option<usize>) -> impl Iterator<Item = &HeaderMutations> {
        let of_cluster = self.weighted_cluster(weighted).map(|cluster| &cluster.response_headers);
        self.in_order([
            of_cluster,
            Some(&self.route().response_headers),
            Some(&self.virtual_host().response_headers),
            Some(&self.config.response_headers),
        ])
    }

    /// Most specific first, so that the least specific has the last word, unless configured the other way round.
    fn in_order<'e>(&self, mut levels: [Option<&'e HeaderMutations>; 4]) -> impl Iterator<Item = &'e HeaderMutations> {
        if self.config.most_specific_header_mutations_wins {
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
