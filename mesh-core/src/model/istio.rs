//! Istio's defaults where they differ from Envoy's. They match what istiod generates for a service without DestinationRule and
//! VirtualService.

use std::time::Duration;

use super::{
    CircuitBreakers, Cluster, ClusterName, Discovery, LbPolicy, MaxStreamDuration, RetryOn, RetryPolicy, RouteAction,
    Thresholds,
};

/// Time to connect. Istio `MeshConfig.connectTimeout`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

impl Cluster {
    /// Creates a cluster with Istio's defaults: least request, 10 s to connect, and no limits of connections, requests and
    /// retries.
    #[must_use]
    pub fn with_istio_defaults(name: impl Into<ClusterName>, discovery: Discovery) -> Self {
        let unlimited = Thresholds {
            max_connections: u32::MAX,
            max_pending_requests: u32::MAX,
            max_requests: u32::MAX,
            max_retries: u32::MAX,
            ..Thresholds::default()
        };
        Self {
            connect_timeout: CONNECT_TIMEOUT,
            lb_policy: LbPolicy::least_request(),
            circuit_breakers: CircuitBreakers::new(unlimited, Thresholds::default()),
            ..Self::new(name, discovery)
        }
    }
}

impl RouteAction {
    /// Creates an action for one cluster with Istio's defaults: no timeout, so that streams can be long-lived; `grpc-timeout`
    /// is applied; and [`RetryPolicy::with_istio_defaults`].
    #[must_use]
    pub fn with_istio_defaults(cluster: impl Into<ClusterName>) -> Self {
        let mut action = Self::to_cluster(cluster)
            .with_timeout(Duration::ZERO)
            .with_retry_policy(RetryPolicy::with_istio_defaults());
        action.max_stream_duration = Some(MaxStreamDuration {
            max_stream_duration: None,
            grpc_timeout_header_max: Some(Duration::ZERO),
            grpc_timeout_header_offset: Duration::ZERO,
        });
        action
    }
}

impl RetryPolicy {
    /// Retries requests that the service cannot have processed, up to twice, on other endpoints if there are any. Istio
    /// `MeshConfig.defaultHttpRetryPolicy`.
    #[must_use]
    pub fn with_istio_defaults() -> Self {
        let retry_on = [
            RetryOn::CONNECT_FAILURE,
            RetryOn::REFUSED_STREAM,
            RetryOn::UNAVAILABLE,
            RetryOn::CANCELLED,
            RetryOn::RETRIABLE_STATUS_CODES,
        ];
        let retry_on = retry_on.into_iter().fold(RetryOn::NONE, RetryOn::union);
        Self { num_retries: 2, previous_hosts: true, host_selection_retry_max_attempts: 5, ..Self::new(retry_on) }
    }
}
