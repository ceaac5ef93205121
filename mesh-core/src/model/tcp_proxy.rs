//! TCP proxying. Envoy `filters.network.tcp_proxy.v3.TcpProxy`.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use super::{AccessLog, ClusterName};

/// Passes the bytes of a downstream connection to an endpoint of a cluster, and back.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TcpProxy {
    /// Prefix of statistics: `tcp.<stat_prefix>.downstream_cx_total`.
    pub stat_prefix: Arc<str>,
    /// The clusters, at least one. One of them is chosen for each connection, by weight.
    pub clusters: Vec<WeightedTcpCluster>,
    /// A connection that carries no bytes in either direction for this long is closed; `None` = never. Default 1 h.
    pub idle_timeout: Option<Duration>,
    /// Attempts to connect before the downstream connection is closed. Default 1.
    pub max_connect_attempts: NonZeroU32,
    /// Maximum duration of a downstream connection, which is then closed; `None` = unlimited, the default.
    pub max_downstream_connection_duration: Option<Duration>,
    /// Access logs written at the end of each connection.
    pub access_log: Vec<AccessLog>,
}

/// A share of a TCP proxy's connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightedTcpCluster {
    /// The cluster.
    pub name: ClusterName,
    /// The share, relative to the sum of all weights.
    pub weight: NonZeroU32,
}

impl TcpProxy {
    /// A TCP proxy to one cluster, with Envoy's defaults.
    #[must_use]
    pub fn new(stat_prefix: &str, cluster: impl Into<ClusterName>) -> Self {
        Self::weighted(stat_prefix, vec![WeightedTcpCluster { name: cluster.into(), weight: NonZeroU32::MIN }])
    }

    /// A TCP proxy to several clusters, with Envoy's defaults.
    ///
    /// # Panics
    /// If there is no cluster.
    #[must_use]
    pub fn weighted(stat_prefix: &str, clusters: Vec<WeightedTcpCluster>) -> Self {
        assert!(!clusters.is_empty(), "a TCP proxy needs a cluster");
        Self {
            stat_prefix: stat_prefix.into(),
            clusters,
            idle_timeout: Some(Duration::from_secs(3600)),
            max_connect_attempts: NonZeroU32::MIN,
            max_downstream_connection_duration: None,
            access_log: Vec::new(),
        }
    }
}
