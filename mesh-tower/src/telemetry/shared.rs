//! What the listeners and channels of a process share for telemetry.

use std::sync::Arc;

use mesh_core::model::{DestinationService, Workload};

use super::{DownstreamStats, IstioMetrics, LogFiles};
use crate::peer_metadata::LocalPeer;

/// Where a process counts and logs, and who it is. Clones are handles to the same.
#[derive(Clone, Debug, Default)]
pub struct Telemetry {
    /// Envoy's statistics of listeners and connection managers.
    pub stats: Arc<DownstreamStats>,
    /// Istio's metrics.
    pub istio: IstioMetrics,
    /// Access logs.
    pub logs: Arc<LogFiles>,
    /// The workload that this process is or stands in front of; `None` = unknown.
    pub workload: Option<Arc<Workload>>,
    /// What this workload tells its peers about itself, where listeners are configured to; `None` = nothing.
    pub peer: Option<Arc<LocalPeer>>,
    /// The service that requests to this workload ask for where their cluster does not say; `None` = unknown.
    pub service: Option<Arc<DestinationService>>,
    /// Requests that leave the workload count for the host that they name where their cluster says no service. Default
    /// false, which gateways need: their clients are strangers. Inverse of Istio's `disable_host_header_fallback`.
    pub host_header_fallback: bool,
}
