//! The upstream connection of a proxied connection.

use std::sync::Arc;

use mesh_core::{
    balance::Avoid,
    cluster::{ActiveRequest, ClusterState, EndpointState},
    health::outlier::{LocalOriginFailure, Outcome},
    model::RoutingPriority,
    resilience::breaker::Permit,
    retry::ResetReason,
    telemetry::ResponseFlags,
};

use super::record::Record;
use crate::{Target, TransportError, Worker, connect::UpstreamStream, outlier, pick::pick_for, timer::now};

const PRIORITY: RoutingPriority = RoutingPriority::Default;

/// A connection to an endpoint, and its share in the load until this is dropped.
#[derive(Debug)]
pub(super) struct UpstreamConnection {
    pub(super) stream: UpstreamStream<Permit>,
    pub(super) active: Active,
}

/// Counts a connection as an active request of its endpoint and cluster.
#[derive(Debug)]
pub(super) struct Active {
    _of_endpoint: ActiveRequest,
    _of_cluster: Permit,
}

/// No upstream connection was made; the record has the reason.
#[derive(Debug)]
pub(super) struct NotConnected;

/// Tries endpoints until one accepts. Every attempt calls `choose` for its cluster.
pub(super) async fn connect(
    worker: &Worker,
    max_connect_attempts: u32,
    mut choose: impl FnMut() -> Option<Arc<ClusterState>>,
    record: &mut Record<'_>,
) -> Result<UpstreamConnection, NotConnected> {
    loop {
        let Some(cluster) = choose() else {
            return Err(record.fail(ResponseFlags::NO_CLUSTER_FOUND));
        };
        record.cluster = Some(Arc::clone(&cluster));
        if record.attempts >= max_connect_attempts {
            cluster.stats().upstream_cx_connect_attempts_exceeded.inc();
            return Err(record.fail(ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED));
        }
        let Ok(endpoint) = pick_for(&cluster, Avoid::NONE, None, || record.original_destination()) else {
            return Err(record.fail(ResponseFlags::NO_HEALTHY_UPSTREAM));
        };
        record.attempts += 1;
        match attempt(worker, &cluster, &endpoint).await {
            Ok(connection) => {
                record.connected(endpoint, &connection.stream);
                return Ok(connection);
            }
            // `max_connections` are open; no other endpoint would help.
            Err(error) if error.reason() == ResetReason::Overflow => {
                return Err(record.fail(ResponseFlags::UPSTREAM_OVERFLOW));
            }
            Err(error) => record.observe_failed_attempt(endpoint, &error),
        }
    }
}

/// Tries to connect to `endpoint`, and records the outcome for outlier detection.
async fn attempt(
    worker: &Worker,
    cluster: &Arc<ClusterState>,
    endpoint: &Arc<EndpointState>,
) -> Result<UpstreamConnection, TransportError> {
    let target = Target { cluster, endpoint, priority: PRIORITY, server_name: None };
    let connected = worker.stream(&target).await;
    if let Some(outcome) = outcome(&connected) {
        outlier::record(cluster, endpoint, outcome, now());
    }
    let stream = connected?;
    cluster.stats().upstream_rq_total.inc();
    let active = Active {
        _of_endpoint: Arc::clone(endpoint).start_request(),
        _of_cluster: cluster.request_beyond_limit(PRIORITY),
    };
    Ok(UpstreamConnection { stream, active })
}

/// The outcome for outlier detection; `None` if the endpoint did not cause it.
fn outcome(connected: &Result<UpstreamStream<Permit>, TransportError>) -> Option<Outcome> {
    match connected.as_ref().map_err(TransportError::reason) {
        Ok(_) => Some(Outcome::Connected),
        Err(ResetReason::Overflow) => None,
        Err(ResetReason::ConnectionTimeout) => Some(Outcome::LocalOrigin(LocalOriginFailure::Timeout)),
        Err(_) => Some(Outcome::LocalOrigin(LocalOriginFailure::ConnectFailed)),
    }
}
