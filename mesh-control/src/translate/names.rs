//! Names of xDS resources. They are istiod's, because tools and dashboards depend on them.

use crate::host::Host;

/// Cluster without endpoints.
pub(super) const BLACK_HOLE_CLUSTER: &str = "BlackHoleCluster";
/// Cluster of the original destination.
pub(super) const PASSTHROUGH_CLUSTER: &str = "PassthroughCluster";
/// Prefix of the listener by which a library serves; an address follows.
pub(super) const LIBRARY_INBOUND_PREFIX: &str = "xds.istio.io/grpc/lds/inbound/";

/// Cluster of a service's port, or of a subset of its endpoints.
pub(super) fn outbound_cluster(port: u16, subset: &str, host: &Host) -> String {
    format!("outbound|{port}|{subset}|{host}")
}

/// Server name of TLS connections to a service's port, or to a subset of its endpoints.
pub(super) fn sni(port: u16, subset: &str, host: &Host) -> String {
    format!("outbound_.{port}_.{subset}_.{host}")
}

/// Cluster of the workload itself.
pub(super) fn inbound_cluster(port: u16) -> String {
    format!("inbound|{port}||")
}

/// Routes of a gateway's port of plain HTTP.
pub(super) fn gateway_routes(port: u16, bind: Option<std::net::IpAddr>) -> String {
    match bind {
        None => format!("http.{port}"),
        Some(bind) => format!("http.{port}.{bind}"),
    }
}

/// Listener of an address and port.
pub(super) fn listener(address: &str, port: u16) -> String {
    format!("{address}_{port}")
}
