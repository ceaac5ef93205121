//! Compiled route configurations.

use std::{num::NonZeroU32, ops::Deref, sync::Arc};

use thiserror::Error;

use super::{
    RequestPart, RequestScope, RequestStats, RequestStatsRegistry, RouteEntry, domain_index,
    domain_index::DomainIndex,
    matcher,
    path_index::PathIndex,
    shared::{HostContext, SharedRoutes},
};
use crate::{
    model::{ClusterName, Metadata, RouteConfiguration, VirtualHost},
    request::RequestHead,
};

/// A compiled route configuration. `C` is a reference to a cluster, resolved when the table is compiled so that requests
/// do not look up names.
#[derive(Debug)]
pub struct RouteTable<C> {
    config: Arc<RouteConfiguration>,
    domains: DomainIndex,
    hosts: Box<[Arc<Host<C>>]>,
}

/// The routes of a virtual host. They are stored next to each other to save each request a cache miss.
#[derive(Debug)]
struct Host<C> {
    paths: PathIndex,
    entries: Box<[RouteEntry<C>]>,
}

/// An owned reference to a route of a table. The route is kept as long as a handle exists.
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

/// A borrowed reference to a route of a table. See [`RouteHandle`] for one that can outlive the table.
#[derive(Debug)]
pub struct RouteRef<'t, C> {
    host: &'t Arc<Host<C>>,
    route: u32,
}

impl<'t, C> RouteRef<'t, C> {
    /// The route, for as long as the table is there.
    #[must_use]
    pub fn entry(self) -> &'t RouteEntry<C> {
        &self.host.entries[self.route as usize]
    }

    /// An owned reference to the route.
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

/// The result of looking up the route of a request.
#[derive(Debug)]
pub enum RouteResult<'t, C> {
    /// No virtual host serves the authority: 404, flag NR.
    NoVirtualHost,
    /// The virtual host has no route for the request: 404, flag NR.
    NoRoute(&'t VirtualHost),
    /// The virtual host requires TLS and the request was sent without: 301 to [`https_location`](super::https_location).
    TlsRequired(&'t VirtualHost),
    /// The route matches.
    Matched(RouteRef<'t, C>),
}

/// A route configuration that cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RouteTableError {
    /// A domain occurs twice, in one or in two virtual hosts.
    #[error(
        "domain {domain:?} of virtual host {second:?} is already a domain of virtual host {first:?}; domains must be unique"
    )]
    DuplicateDomain {
        /// The domain, as written the second time.
        domain: Box<str>,
        /// The virtual host of the first occurrence.
        first: Arc<str>,
        /// The virtual host of the second occurrence.
        second: Arc<str>,
    },
    /// A domain is empty.
    #[error("virtual host {virtual_host:?} has an empty domain")]
    EmptyDomain {
        /// The virtual host.
        virtual_host: Arc<str>,
    },
    /// The sum of a route's cluster weights is 0 or greater than 4294967295.
    #[error("route {route:?} of virtual host {virtual_host:?}: the sum of weights is not in 1..=4294967295")]
    TotalWeight {
        /// The virtual host.
        virtual_host: Arc<str>,
        /// The route's name, or its position.
        route: Box<str>,
    },
}

impl<C> RouteTable<C> {
    /// Compiles `config` without statistics. `resolve` is called for each reference to a cluster.
    ///
    /// # Errors
    /// If domains are not unique or a sum of weights is out of range.
    pub fn compile(
        config: Arc<RouteConfiguration>,
        resolve: &mut dyn FnMut(&ClusterName) -> C,
    ) -> Result<Self, RouteTableError> {
        Self::compile_counted(config, resolve, &RequestStatsRegistry::default())
    }

    /// Compiles `config`. The statistics of its virtual clusters and routes are taken from `registry`.
    ///
    /// # Errors
    /// If domains are not unique or a sum of weights is out of range.
    pub fn compile_counted(
        config: Arc<RouteConfiguration>,
        resolve: &mut dyn FnMut(&ClusterName) -> C,
        registry: &RequestStatsRegistry,
    ) -> Result<Self, RouteTableError> {
        let domains = DomainIndex::new(&config.virtual_hosts)?;
        let hosts = (config.virtual_hosts.iter().zip(0..))
            .map(|(virtual_host, host)| {
                let virtual_clusters = virtual_cluster_stats(virtual_host, registry);
                let context =
                    HostContext { config: &config, virtual_host: host, registry, virtual_clusters: &virtual_clusters };
                let mut shared = SharedRoutes::default();
                let entries = (virtual_host.routes.iter().zip(0..))
                    .map(|(_, route)| Ok(RouteEntry::compile(context, route, resolve)?.share(&mut shared)))
                    .collect::<Result<_, _>>()?;
                Ok(Arc::new(Host { paths: PathIndex::new(&virtual_host.routes), entries }))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { config, domains, hosts })
    }

    /// The configuration that was compiled.
    #[must_use]
    pub fn config(&self) -> &Arc<RouteConfiguration> {
        &self.config
    }

    /// The number of routes of all virtual hosts.
    #[must_use]
    pub fn route_count(&self) -> usize {
        self.hosts.iter().map(|host| host.entries.len()).sum()
    }

    /// Finds the route of `request`. `random` decides fractions; a request uses the same random number here and to select
    /// among weighted clusters, so that a second lookup has the same result.
    #[must_use]
    pub fn route(&self, request: &RequestHead<'_>, random: u64) -> RouteResult<'_, C> {
        self.route_with(request, None, random)
    }

    /// The same for a request for which filters have set `metadata`.
    #[must_use]
    pub fn route_with(
        &self,
        request: &RequestHead<'_>,
        metadata: Option<&Metadata>,
        random: u64,
    ) -> RouteResult<'_, C> {
        let authority = match self.config.ignore_port_in_host_matching {
            true => domain_index::without_port(request.authority),
            false => request.authority,
        };
        let Some(number) = self.domains.find(authority) else { return RouteResult::NoVirtualHost };
        let (host, virtual_host) = (&self.hosts[number as usize], &self.config.virtual_hosts[number as usize]);
        if virtual_host.require_tls && request.forwarded_scheme() != "https" {
            return RouteResult::TlsRequired(virtual_host);
        }
        let accept =
            |route: u32| matcher::holds(&virtual_host.routes[route as usize].matches, request, metadata, random);
        match host.paths.first(request, accept) {
            Some(route) => RouteResult::Matched(RouteRef { host, route }),
            None => RouteResult::NoRoute(virtual_host),
        }
    }
}

/// The counters of the virtual clusters in order, followed by those of the other requests; empty without virtual clusters.
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

/// Envoy's name for the requests that no virtual cluster matches.
const OTHER_VIRTUAL_CLUSTER: &str = "other";

/// The sum of the weights of route number `route`.
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
