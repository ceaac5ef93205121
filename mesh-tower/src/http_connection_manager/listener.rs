//! A compiled HTTP connection manager: the state that all requests of one listener share.

use std::sync::Arc;

use mesh_core::{
    filter::{FilterConfig, HttpFilter},
    model::{ClusterName, DestinationService, HttpConnectionManager, TrafficDirection},
    route::RouteTableError,
    store::Store,
};
use thiserror::Error;

use crate::{
    call::{HttpTelemetry, RequestTelemetry},
    cluster_client::ClusterClients,
    filter::{FilterChain, FilterFactory, jwt_authn},
    peer_metadata::PeerExchange,
    route::RouteConfigProvider,
    telemetry::{AccessLogs, HttpStats, OpenError, Reporter, Telemetry},
};

/// A listener that cannot be served as configured.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ListenerConfigError {
    /// Its routes cannot be compiled.
    #[error("its routes: {0}")]
    Routes(#[from] RouteTableError),
    /// Its access log cannot be opened.
    #[error(transparent)]
    AccessLog(#[from] OpenError),
    /// An HTTP filter sends requests to a cluster, but there are no connections to clusters.
    #[error("http filter {filter} sends requests to cluster {cluster}, but this server has no connections to clusters")]
    NoUpstream {
        /// Name of the filter.
        filter: Arc<str>,
        /// Name of the cluster.
        cluster: ClusterName,
    },
    /// An HTTP filter needs a feature that this program is built without.
    #[error("http filter {filter} needs the feature {feature}, which this program is built without")]
    MissingFeature {
        /// Name of the filter.
        filter: Arc<str>,
        /// Name of the feature.
        feature: &'static str,
    },
}

/// The facts about a listener that its connection managers need.
#[derive(Clone, Debug)]
pub(crate) struct ListenerFacts {
    /// Name of the listener.
    pub(crate) name: Arc<str>,
    /// Prefix of the listener's statistics.
    pub(crate) stat_prefix: Arc<str>,
    pub(crate) traffic_direction: TrafficDirection,
    /// The service of requests whose cluster has no service.
    pub(crate) service: Option<Arc<DestinationService>>,
    /// The authority whose virtual host serves requests that match no other; `None` = such requests have no route.
    pub(crate) default_authority: Option<Arc<str>>,
}

/// The state that all requests of a connection manager share. Channels, library servers and listeners of a proxy have one.
#[derive(Debug)]
pub(crate) struct HttpListener {
    pub(crate) name: Arc<str>,
    pub(crate) config: Arc<HttpConnectionManager>,
    pub(super) routes: RouteConfigProvider,
    pub(super) default_authority: Option<Arc<str>>,
    /// Has the clusters that are named by a header of the request.
    pub(super) store: Arc<Store>,
    pub(super) filters: FilterChain,
    pub(crate) stats: Arc<HttpStats>,
    pub(crate) telemetry: Arc<RequestTelemetry>,
    pub(crate) peers: PeerExchange,
}

impl HttpListener {
    /// Compiles `config` for a listener. `clients` are for requests of the filters' own.
    ///
    /// # Errors
    /// If routes given in the configuration cannot be compiled, an access log cannot be opened, or a filter needs clients or
    /// a feature and there are none.
    pub(crate) fn new(
        facts: ListenerFacts,
        config: Arc<HttpConnectionManager>,
        store: &Arc<Store>,
        telemetry: &Telemetry,
        clients: Option<&dyn ClusterClients>,
    ) -> Result<Self, ListenerConfigError> {
        if clients.is_none() {
            refuse_clusters(&config.http_filters)?;
        }
        refuse_unverifiable(&config.http_filters)?;
        let stats = telemetry.stats.http(&config.stat_prefix);
        let listener = telemetry.stats.listener_http(&facts.stat_prefix, &config.stat_prefix);
        let is_outbound = facts.traffic_direction == TrafficDirection::Outbound;
        let access_logs = config.access_log.iter().chain(telemetry.logs.common());
        let request_telemetry = RequestTelemetry {
            istio: telemetry.istio.clone(),
            reporter: match facts.traffic_direction {
                TrafficDirection::Inbound => Reporter::Destination,
                TrafficDirection::Outbound | TrafficDirection::Unspecified => Reporter::Source,
            },
            workload: telemetry.workload.clone(),
            peer: None,
            service: facts.service,
            host_header_fallback: telemetry.host_header_fallback && is_outbound && facts.default_authority.is_none(),
            access_logs: AccessLogs::open(access_logs, &telemetry.logs)?,
            http: Some(HttpTelemetry { stats: Arc::clone(&stats), listener }),
        };
        Ok(Self {
            name: facts.name,
            routes: RouteConfigProvider::new(&config.routes, store)?,
            default_authority: facts.default_authority,
            store: Arc::clone(store),
            filters: FilterChain::new(
                &config.http_filters,
                &FilterFactory { stats: &stats, logs: &telemetry.logs, clients, authorizer: None },
            ),
            stats,
            telemetry: Arc::new(request_telemetry),
            peers: PeerExchange::new(config.peer_metadata, telemetry.peer.clone()),
            config,
        })
    }

    /// Whether the routes have arrived.
    pub(crate) fn has_routes(&self) -> bool {
        self.routes.load().is_some()
    }
}

/// Refuses filters that send requests of their own.
fn refuse_clusters(filters: &[HttpFilter]) -> Result<(), ListenerConfigError> {
    for filter in filters {
        if let Some(cluster) = filter.config.clusters().first() {
            let (filter, cluster) = (Arc::clone(&filter.name), cluster.name.clone());
            return Err(ListenerConfigError::NoUpstream { filter, cluster });
        }
    }
    Ok(())
}

/// Refuses filters that verify signatures, if nothing here can.
fn refuse_unverifiable(filters: &[HttpFilter]) -> Result<(), ListenerConfigError> {
    let verifies = |filter: &&HttpFilter| matches!(filter.config, FilterConfig::JwtAuthn(_));
    match filters.iter().find(verifies).filter(|_| !jwt_authn::IS_SUPPORTED) {
        Some(filter) => Err(ListenerConfigError::MissingFeature { filter: Arc::clone(&filter.name), feature: "tls" }),
        None => Ok(()),
    }
}
