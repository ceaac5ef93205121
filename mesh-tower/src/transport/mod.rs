//! The interface between the upstream side, which picks endpoints, and the connections to them.
//!
//! The connection pools ([`Pool`](crate::Pool)) are the [`Transport`] of production. Tests and benches have others.

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

/// Sends requests to endpoints.
///
/// There are two steps, so that the circuit breaker can decide between them: a request that it refuses does not use up a
/// connection.
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// A connection, or a stream of one, for one request. It is given back if it is dropped unused.
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

    /// Sends the request of `call`, waits for the response headers and puts the response into `call`
    /// ([`Call::respond`]).
    ///
    /// # Errors
    /// If there is no response. If no byte of the request was sent, the transport gives the request back
    /// ([`Call::restore`]), so that it can be sent again even if it is not idempotent.
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
    /// The endpoint, which belongs to the cluster.
    pub endpoint: &'a Arc<EndpointState>,
    /// The priority whose circuit breaker thresholds apply.
    pub priority: RoutingPriority,
    /// The host of the request, if TLS requests it as the server name; `None` = the name is that of the transport socket.
    pub server_name: Option<&'a Arc<str>>,
}

/// What is known about a connection to an endpoint.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct ConnectionInfo<'a> {
    /// Its HTTP version; `None` = the requested one.
    pub protocol: Option<Protocol>,
    /// The local address, if it is a socket.
    pub local_address: Option<SocketAddr>,
    /// The result of the TLS handshake, with the identity of the endpoint; `None` = plain text.
    pub tls: Option<&'a Arc<TlsInfo>>,
}
