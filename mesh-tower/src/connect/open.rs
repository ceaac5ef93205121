//! Making a connection with a time limit and statistics.

use std::error::Error;

use mesh_core::{cluster::ClusterStats, retry::ResetReason};

use super::{Connect, ConnectTo, EndedBy, UpstreamStream, stream::ConnectionCount};
use crate::{Protocol, Target, TransportError};

/// Connects to `target` within the cluster's `connect_timeout`. The caller checks the circuit breaker before, and adds
/// the permit to the stream with [`UpstreamStream::holding`].
///
/// # Errors
/// If the connection cannot be made in time.
///
/// # Cancel safety
/// Dropping the future cancels the attempt, which counts as failed.
pub(crate) async fn open(
    connector: &dyn Connect,
    target: &Target<'_>,
    protocol: Option<Protocol>,
) -> Result<UpstreamStream, TransportError> {
    let cluster = &**target.cluster.config();
    let count = ConnectionCount::new(target);
    let transport_socket = &cluster.transport_socket;
    let to = ConnectTo { cluster, endpoint: target.endpoint, transport_socket, protocol };
    let connected = match tokio::time::timeout(cluster.connect_timeout, connector.connect(to)).await {
        Ok(Ok(connected)) => Ok(UpstreamStream::new(connected, count)),
        Ok(Err(error)) => {
            count.end().note(EndedBy::Endpoint);
            Err(TransportError::from_connect(error))
        }
        Err(_) => {
            stats(target).upstream_cx_connect_timeout.inc();
            Err(TransportError::new(ResetReason::ConnectionTimeout))
        }
    };
    log(target, connected.as_ref().err());
    connected
}

fn stats<'a>(target: &Target<'a>) -> &'a ClusterStats {
    target.cluster.stats()
}

/// Logs when an endpoint becomes unreachable and when it becomes reachable again.
fn log(target: &Target<'_>, failure: Option<&TransportError>) {
    let (cluster, address) = (&target.cluster.config().name, target.endpoint.address());
    match failure {
        Some(error) if target.endpoint.runtime().note_reachable(false) => {
            tracing::warn!(error = error as &dyn Error, "cluster {cluster}: cannot connect to {address}");
        }
        None if target.endpoint.runtime().note_reachable(true) => {
            tracing::info!("cluster {cluster}: connected to {address} again");
        }
        Some(_) | None => {}
    }
}
