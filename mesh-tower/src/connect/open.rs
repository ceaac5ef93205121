//! Making a connection with a time limit and statistics.

use std::{error::Error, sync::Arc};

use mesh_core::{
    cluster::ClusterStats,
    model::{UpstreamTlsContext, UpstreamTransportSocket},
    retry::ResetReason,
};

use super::{Connect, ConnectTo, Connected, EndedBy, Io, UpstreamStream, stream::ConnectionCount};
#[cfg(feature = "tls")]
use crate::tls::{ClientContexts, TlsEndpoint};
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
    let transport_socket = target.endpoint.transport_socket(cluster);
    let (endpoint, server_name) = (target.endpoint, target.server_name);
    let to = ConnectTo { cluster, endpoint, transport_socket, server_name, protocol };
    let connected = match tokio::time::timeout(cluster.connect_timeout, connect(connector, target, to)).await {
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

/// Connects, and handshakes unless the connector has done so.
async fn connect(connector: &dyn Connect, target: &Target<'_>, to: ConnectTo<'_>) -> std::io::Result<Connected> {
    let connected = connector.connect(to).await?;
    match to.transport_socket {
        UpstreamTransportSocket::Tls(context) if connected.tls.is_none() => {
            secure(connected.io, target, to, context).await
        }
        _ => Ok(connected),
    }
}

#[cfg(feature = "tls")]
async fn secure(
    io: Io,
    target: &Target<'_>,
    to: ConnectTo<'_>,
    context: &Arc<UpstreamTlsContext>,
) -> std::io::Result<Connected> {
    let tls = ClientContexts::get(target.cluster, context)?;
    let (address, hostname) = (to.endpoint.address().ip(), to.endpoint.hostname());
    let endpoint = TlsEndpoint { address, hostname, server_name: to.server_name, protocol: to.protocol };
    let (stream, info) = tls.connect(io, endpoint, stats(target).tls()).await?;
    Ok(Connected::over_tls(Io::boxed(stream), info))
}

#[cfg(not(feature = "tls"))]
async fn secure(
    _io: Io,
    _target: &Target<'_>,
    _to: ConnectTo<'_>,
    _context: &Arc<UpstreamTlsContext>,
) -> std::io::Result<Connected> {
    let reason = "TLS is not supported: this program was built without the feature `tls`";
    Err(std::io::Error::new(std::io::ErrorKind::Unsupported, reason))
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
