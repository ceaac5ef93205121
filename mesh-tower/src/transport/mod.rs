//! What lies between a request that has an endpoint and the connections that lead there.
//!
//! A [`Transport`] brings requests to endpoints. The [pools](crate::Pool) are one; tests and benches have others.

mod error;
mod protocol;

use std::{fmt, future::Future, net::SocketAddr, sync::Arc};

use mesh_core::{
    cluster::{ClusterState, EndpointState},
    model::RoutingPriority,
    tls::TlsInfo,
};

pub use error::TransportError;
pub use protocol::Protocol;

use crate::Call;

/// Brings requests to endpoints.
///
/// In two steps, so that the circuit breaker can decide in between: a request that it refuses has cost no connection.
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// Room for one request on a connection; given back when dropped unused.
    type Connection: Send;

    /// Waits for a connection to `target`.
    fn connection(
        &self,
        target: &Target<'_>,
        protocol: Protocol,
    ) -> impl Future<Output = Result<Self::Connection, TransportError>> + Send;

    /// What is known about `connection`.
    fn info(connection: &Self::Connection) -> ConnectionInfo<'_> {
        let _ = connection;
        ConnectionInfo::default()
    }

    /// Sends the request of `call`, waits for the response headers and puts the response into `call`.
    ///
    /// # Errors
    /// If there is no response. If no byte of the request has left either, the request is back in `call`: it can be
    /// sent again, whatever it asks for.
    fn send(
        &self,
        connection: Self::Connection,
        call: &mut Call,
    ) -> impl Future<Output = Result<(), TransportError>> + Send;
}

/// Where one try of a request goes.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The cluster.
    pub cluster: &'a Arc<ClusterState>,
    /// The endpoint picked.
    pub endpoint: &'a Arc<EndpointState>,
    /// Which thresholds of the circuit breaker apply.
    pub priority: RoutingPriority,
}

/// What is known about a connection to an endpoint.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct ConnectionInfo<'a> {
    /// The HTTP version that it speaks; `None` = the one that was asked for.
    pub protocol: Option<Protocol>,
    /// The address of this end, if it is a socket.
    pub local_address: Option<SocketAddr>,
    /// What the TLS handshake has told, such as who the endpoint is; `None` = plain text.
    pub tls: Option<&'a Arc<TlsInfo>>,
}
