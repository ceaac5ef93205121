//! The compiled route configuration.

use std::{num::NonZeroU32, ops::Deref, sync::Arc};

use thiserror::Error;

use super::{
    RequestPart, RequestScope, RequestStats, RequestStatsRegistry, RouteEntry, domain_index, domain_index::DomainIndex,
    entry::Plans, matcher, path_index::PathIndex,
};
use crate::{
    model::{ClusterName, RouteConfiguration, VirtualHost},
    request::RequestHead,
};

/// A route configuration, compiled. `C` is what stands for a cluster: resolved once here, so that a request looks up
/// no name.
#[derive(Debug)]
pub struct RouteTable<C> {
    config: Arc<RouteConfiguration>,
    domains: DomainIndex,
    hosts: Box<[Arc<Host<C>>]>,
}

/// A virtual host's routes, side by side: one look further for each request would be one that no cache answers.
#[derive(Debug)]
struct Host<C> {
    paths: PathIndex,
    entries: Box<[RouteEntry<C>]>,
}

/// A route of a table, which stays as it is while somebody has a handle on it. Clones are handles on the same.
#[derive(Debug)]
pub struct RouteHandle<C> {
    host: Arc<Host<C>>,
    route: u32,
}

impl<C> Deref for RouteHandle<C> {
    type Target = RouteEntry<C>;

    fn deref(&self) -> &RouteEntry<C> {
        &self.host.entries[self.route as usize]
    }
}

impl<C> Clone for RouteHandle<C> {
    fn clone(&self) -> Self {
        Self { host: Arc::clone(&self.host), route: self.route }
    }
}

/// A route as a table finds it; becomes a [`RouteHandle`] where it has to outlive the table.
#[derive(Debug)]
pub struct RouteRef<'t, C> {
    host: &'t Arc<Host<C>>,
    route: u32,
}

impl<C> RouteRef<'_, C> {
    /// A handle on the route.
    #[must_use]
    pub fn to_handle(self) -> RouteHandle<C> {
        RouteHandle { host: Arc::clone(self.host), route: self.route }
    }
}

impl<'t, C> From<&'t RouteHandle<C>> for RouteRef<'t, C> {
    fn from(handle: &'t RouteHandle<C>) -> Self {
        Self { host: &handle.host, route: handle.route }
    }
}

impl<C> Deref for RouteRef<'_, C> {
    type Target = RouteEntry<C>;

    fn deref(&self) -> &RouteEntry<C> {
        &self.host.entries[self.route as usize]
    }
}

impl<C> Clone for RouteRef<'_, C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C> Copy for RouteRef<'_, C> {}

/// What a table says about a request.
#[derive(Debug)]
pub enum RouteResult<'t, C> {
    /// No virtual host serves the authority: 404, flag NR.
    NoVirtualHost,
    /// The virtual host has no route for the request: 404, flag NR.
    NoRoute(&'t VirtualHost),
    /// The virtual host wants TLS and the request came without: 301 to [`https_location`](super::https_location).
    TlsRequired(&'t VirtualHost),
    /// This route decides.
    Matched(RouteRef<'t, C>),
}

/// A route configuration that cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RouteTableError {
    /// Two virtual hosts, or one twice, claim the same authority.
    #[error(
        "domain {domain:?} of virtual host {second:?} is already claimed by virtual host {first:?}; domains must be unique"
    )]
    DuplicateDomain {
        /// The domain as configured second.
        domain: Box<str>,
        /// The virtual host that has it.
        first: Arc<str>,
        /// The virtual host that wants it too.
        second: Arc<str>,
    },
    /// A domain without a name.
    #[error("virtual host {virtual_host:?} has an empty domain")]
    EmptyDomain {
        /// The virtual host.
        virtual_host: Arc<str>,
    },
    /// A weighted route whose weights sum to nothing, or to more than 4294967295.
    #[error("route {route:?} of virtual host {virtual_host:?}: the sum of weights is not in 1..=4294967295")]
    TotalWeight {
        /// The virtual host.
        virtual_host: Arc<str>,
        /// The route's name, or its position.
        route: Box<str>,
    },
}

impl<C> RouteTable<C> {
    /// Compiles `config`; `resolve` is asked once per mention of a cluster. Nothing is counted.
    ///
    /// # Errors
    /// If domains are not unique or weights sum to nothing.
    pub fn compile(
        config: Arc<RouteConfiguration>,
        resolve: &mut dyn FnMut(&ClusterName) -> C,
    ) -> Result<Self, RouteTableError> {
        Self::compile_counted(config, resolve, &RequestStatsRegistry::default())
    }

    /// Compiles `config`; what its virtual clusters and routes count is found in `registry`.
    ///
    /// # Errors
    /// If domains are not unique or weights sum to nothing.
    pub fn compile_counted(
        config: Arc<RouteConfiguration>,
        resolve: &mut dyn FnMut(&ClusterName) -> C,
        registry: &RequestStatsRegistry,
    ) -> Result<Self, RouteTableError> {
        let domains = DomainIndex::new(&config.virtual_hosts)?;
        let hosts = (config.virtual_hosts.iter().zip(0..))
            .map(|(virtual_host, host)| {
                let virtual_clusters = virtual_cluster_stats(virtual_host, registry);
                let mut plans = Plans::default();
                let entries = (virtual_host.routes.iter().zip(0..))
                    .map(|(_, route)| {
                        let stats = (registry, &virtual_clusters);
                        Ok(plans.share(RouteEntry::compile(&config, (host, route), resolve, stats)?))
                    })
                    .collect::<Result<_, _>>()?;
                Ok(Arc::new(Host { paths: PathIndex::new(&virtual_host.routes), entries }))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { config, domains, hosts })
    }

    /// What was compiled.
    #[must_use]
    pub fn config(&self) -> &Arc<RouteConfiguration> {
        &self.config
    }

    /// The number of routes of all virtual hosts.
    #[must_use]
    pub fn route_count(&self) -> usize {
        self.hosts.iter().map(|host| host.entries.len()).sum()
    }

    /// Finds the route for `request`. `random` is the request's one random number: the same value selects among
    /// weighted clusters later, and a second call with it gives the same answer.
    #[must_use]
    pub fn route(&self, request: &RequestHead<'_>, random: u64) -> RouteResult<'_, C> {
        let authority = match self.config.ignore_port_in_host_matching {
            true => domain_index::without_port(request.authority),
            false => request.authority,
        };
        let Some(number) = self.domains.find(authority) else { return RouteResult::NoVirtualHost };
        let (host, virtual_host) = (&self.hosts[number as usize], &self.config.virtual_hosts[number as usize]);
        if virtual_host.require_tls && request.forwarded_scheme() != "https" {
            return RouteResult::TlsRequired(virtual_host);
        }
        let accept = |route: u32| matcher::holds(&virtual_host.routes[route as usize].matches, request, random);
        match host.paths.first(request, accept) {
            Some(route) => RouteResult::Matched(RouteRef { host, route }),
            None => RouteResult::NoRoute(virtual_host),
        }
    }
}

/// Counters of the virtual clusters, in their order, and of what none of them takes; none without virtual clusters.
fn virtual_cluster_stats(host: &VirtualHost, registry: &RequestStatsRegistry) -> Arc<[Arc<RequestStats>]> {
    let stats = |name: &Arc<str>| {
        let part = RequestPart::VirtualCluster(Arc::clone(name));
        registry.intern(RequestScope { virtual_host: Arc::clone(&host.name), part })
    };
    if host.virtual_clusters.is_empty() {
        return Arc::default();
    }
    let other = Arc::from(OTHER_VIRTUAL_CLUSTER);
    host.virtual_clusters.iter().map(|cluster| &cluster.name).chain([&other]).map(stats).collect()
}

/// Envoy's name for the requests that no virtual cluster takes.
const OTHER_VIRTUAL_CLUSTER: &str = "other";

/// The sum of weights of route number `route`, or an error that names it.
pub(super) fn total_weight(
    host: &VirtualHost,
    route: usize,
    total: Option<NonZeroU32>,
) -> Result<NonZeroU32, RouteTableError> {
    total.ok_or_else(|| {
        let name = &host.routes[route].name;
        let name = if name.is_empty() { format!("#{route}") } else { name.as_ref().to_owned() };
        RouteTableError::TotalWeight { virtual_host: host.name.clone(), route: name.into() }
    })
}
