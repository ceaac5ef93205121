//! What is known about a connection when its filter chain is chosen.

use std::{net::SocketAddr, sync::Arc};

use crate::model::TransportProtocol;

/// What is known about a connection when its filter chain is chosen.
///
/// Addresses are `None` for connections that have none, such as pipes and Unix sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionFacts {
    /// The address that the client connected to.
    pub destination: Option<SocketAddr>,
    /// Whether `destination` is where the connection was made to before the system redirected it to this process.
    pub is_destination_restored: bool,
    /// The peer of the connection.
    pub direct_source: Option<SocketAddr>,
    /// The client. Differs from the peer if that is a proxy which passes on the client's address.
    pub source: Option<SocketAddr>,
    /// The protocol of the first bytes.
    pub transport_protocol: TransportProtocol,
    /// The server name (SNI) that the client requests, in lower case.
    pub server_name: Option<Arc<str>>,
    /// Application protocols that the client offers, in its order of preference.
    pub application_protocols: Vec<Arc<str>>,
}

/// The result of inspecting the first bytes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inspection<T> {
    /// More bytes are needed.
    Incomplete,
    /// The bytes are of another protocol.
    NotFound,
    /// The bytes are of the protocol.
    Found(T),
}

impl ConnectionFacts {
    /// A connection from `source` to `destination`, about which nothing else is known.
    #[must_use]
    pub fn between(source: Option<SocketAddr>, destination: Option<SocketAddr>) -> Self {
        Self { destination, direct_source: source, source, ..Self::default() }
    }

    /// Whether the client is on this machine: at a loopback address, at the address that it connected to, or at the
    /// other end of a connection without addresses.
    ///
    /// All of `127.0.0.0/8` is loopback here; to Envoy only `127.0.0.1` is.
    #[must_use]
    pub fn is_same_ip_or_loopback(&self) -> bool {
        let Some(source) = self.source else { return true };
        let source = source.ip().to_canonical();
        source.is_loopback() || self.destination.is_some_and(|destination| destination.ip().to_canonical() == source)
    }
}
