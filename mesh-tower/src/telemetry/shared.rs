//! What the listeners and channels of a process share for telemetry.

use std::{
    net::{IpAddr, UdpSocket},
    sync::{Arc, OnceLock},
};

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

/// An address by which others can reach this machine; `None` if it has no network.
#[must_use]
pub fn local_address() -> Option<IpAddr> {
    // Connecting a datagram socket sends nothing; the system only looks up the route to a documentation address.
    let socket = UdpSocket::bind(("0.0.0.0", 0)).ok()?;
    socket.connect(("192.0.2.1", 9)).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|address| !address.is_unspecified() && !address.is_loopback())
}

/// The name of this machine; `None` if the system does not tell.
#[must_use]
pub fn hostname() -> Option<&'static str> {
    static HOSTNAME: OnceLock<Option<String>> = OnceLock::new();
    let read = || {
        let of_kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
        of_kernel.map(|name| name.trim().to_owned()).or_else(|| std::env::var("HOSTNAME").ok())
    };
    HOSTNAME.get_or_init(read).as_deref().filter(|name| !name.is_empty())
}
