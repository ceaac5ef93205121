//! What all requests of a listener have in common.

use std::{net::IpAddr, sync::Arc};

use mesh_core::{
    model::{DestinationService, HttpConnectionManager, Listener, TrafficDirection, Workload},
    route::RouteTableError,
    store::Store,
};
use thiserror::Error;

use super::{access_log::AccessLogs, unserved};
use crate::{
    peer_metadata::PeerExchange,
    route::RouteConfigProvider,
    server::{Codecs, HeadLimit, Lifetime},
    telemetry::{
        HttpStats, IstioMetrics, ListenerHttpStats, ListenerStats, OpenError, Reporter, Telemetry, local_address,
    },
    timer::Timers,
};

/// A listener that cannot be served as configured.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ListenerConfigError {
    /// Its routes contradict themselves.
    #[error("its routes: {0}")]
    Routes(#[from] RouteTableError),
    /// Its access log cannot be written.
    #[error(transparent)]
    AccessLog(#[from] OpenError),
}

/// A listener's configuration, compiled, and where it counts.
pub(super) struct ListenerContext {
    pub(super) config: Arc<HttpConnectionManager>,
    pub(super) routes: RouteConfigProvider,
    pub(super) codecs: Codecs,
    pub(super) head_limit: Option<HeadLimit>,
    pub(super) access_logs: AccessLogs,
    pub(super) stats: Arc<HttpStats>,
    pub(super) listener_stats: Arc<ListenerStats>,
    pub(super) http_stats: Arc<ListenerHttpStats>,
    pub(super) istio: IstioMetrics,
    pub(super) reporter: Reporter,
    pub(super) workload: Option<Arc<Workload>>,
    pub(super) service: Option<Arc<DestinationService>>,
    pub(super) host_header_fallback: bool,
    pub(super) peers: PeerExchange,
    pub(super) local_address: Option<IpAddr>,
    pub(super) timers: Timers,
}

impl ListenerContext {
    pub(super) fn new(
        listener: &Listener,
        config: Arc<HttpConnectionManager>,
        store: &Store,
        telemetry: &Telemetry,
    ) -> Result<Self, ListenerConfigError> {
        let routes = RouteConfigProvider::new(&config.routes, store)?;
        Ok(Self {
            routes,
            codecs: Codecs::new(&config),
            head_limit: unserved::head_limit(&config),
            access_logs: AccessLogs::open(&config.access_log, &telemetry.logs)?,
            stats: telemetry.stats.http(&config.stat_prefix),
            listener_stats: telemetry.stats.listener(&listener.stat_prefix),
            http_stats: telemetry.stats.listener_http(&listener.stat_prefix, &config.stat_prefix),
            istio: telemetry.istio.clone(),
            reporter: match listener.traffic_direction {
                TrafficDirection::Inbound => Reporter::Destination,
                TrafficDirection::Outbound | TrafficDirection::Unspecified => Reporter::Source,
            },
            workload: telemetry.workload.clone(),
            service: telemetry.service.clone().filter(|_| listener.traffic_direction == TrafficDirection::Inbound),
            host_header_fallback: telemetry.host_header_fallback
                && listener.traffic_direction == TrafficDirection::Outbound,
            peers: PeerExchange::new(&config, telemetry),
            local_address: local_address(),
            timers: Timers::default(),
            config,
        })
    }

    pub(super) fn lifetime(&self) -> Lifetime {
        Lifetime {
            idle_timeout: self.config.idle_timeout,
            max_connection_duration: self.config.max_connection_duration,
        }
    }
}
