//! What the listeners and channels of a process share for telemetry.

use std::sync::Arc;

use mesh_core::model::{DestinationService, Workload};

use super::{DownstreamStats, IstioMetrics, LogFiles};
use crate::peer_metadata::LocalPeer;

/// The metrics and logs of a process, and its identity in them. Clones are handles to the same metrics and logs.
#[derive(Clone, Debug, Default)]
pub struct Telemetry {
    /// Envoy's statistics of listeners and connection managers.
    pub stats: Arc<DownstreamStats>,
    /// Istio's metrics.
    pub istio: IstioMetrics,
    /// Access logs.
    pub logs: Arc<LogFiles>,
    /// The workload that this process is, or that it is a proxy of; `None` = unknown.
    pub workload: Option<Arc<Workload>>,
    /// The metadata that this workload sends to its peers, if listeners are configured to; `None` = nothing is sent.
    pub peer: Option<Arc<LocalPeer>>,
    /// The service of inbound requests whose cluster has no service; `None` = unknown.
    pub service: Option<Arc<DestinationService>>,
    /// Whether an outbound request whose cluster has no service counts for the host of the request. Default false, as
    /// gateways need it, because their clients could invent hosts. Inverse of Istio's `disable_host_header_fallback`.
    pub host_header_fallback: bool,
    /// The names of this process in the requests that it forwards, if listeners are configured to write them.
    pub local_info: LocalInfo,
}

/// The names of a process towards a control plane. Envoy `LocalInfo`.
#[derive(Clone, Debug, Default)]
pub struct LocalInfo {
    /// Id of the node; empty = none.
    pub node_name: Arc<str>,
    /// Service cluster of the node; empty = none.
    pub cluster_name: Arc<str>,
}
