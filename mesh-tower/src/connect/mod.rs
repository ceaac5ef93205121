//! Making connections to endpoints.
//!
//! [`Connect`] is the interface between the mesh and the network. A connector gets an endpoint and its cluster, and
//! returns a byte stream. [`TcpConnector`] is used in production; tests use in-memory pipes; HBONE would be another connector. A
//! connector is called once for each connection, not for each request, so it may allocate.
//!
//! [`open`] adds what all connections have in common: TLS, the time limit and the statistics.

mod io;
mod open;
mod stream;
mod tcp;

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use mesh_core::{
    cluster::EndpointState,
    model::{Cluster, UpstreamTransportSocket},
    tls::TlsInfo,
};

pub use io::{AsyncReadWrite, Io};
pub(crate) use open::open;
pub(crate) use stream::{ConnectionEnd, EndedBy, UpstreamStream};
pub use tcp::TcpConnector;

use crate::Protocol;

/// The future of a [`Connect`].
pub type Connecting<'a> = Pin<Box<dyn Future<Output = std::io::Result<Connected>> + Send + 'a>>;

/// Makes connections.
pub trait Connect: fmt::Debug + Send + Sync + 'static {
    /// Makes a connection. The caller limits the time. If the transport socket is TLS, the caller handshakes on the byte stream
    /// that this returns, unless the result says that there was a handshake.
    ///
    /// # Errors
    /// If the endpoint cannot be reached.
    fn connect<'a>(&'a self, to: ConnectTo<'a>) -> Connecting<'a>;
}

/// The parameters of a connection.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ConnectTo<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// The endpoint, which belongs to the cluster.
    pub endpoint: &'a EndpointState,
    /// How the connection is secured.
    pub transport_socket: &'a UpstreamTransportSocket,
    /// The server name to request, instead of that of the transport socket.
    pub server_name: Option<&'a Arc<str>>,
    /// The protocol to be spoken, which a TLS handshake offers by ALPN; `None` = not HTTP.
    pub protocol: Option<Protocol>,
}

/// A connection that was made.
#[derive(Debug)]
#[non_exhaustive]
pub struct Connected {
    /// The byte stream.
    pub io: Io,
    /// The result of the TLS handshake; `None` = plain text.
    pub tls: Option<Arc<TlsInfo>>,
}

impl Connected {
    /// A connection in plain text.
    #[must_use]
    pub fn plain_text(io: impl Into<Io>) -> Self {
        Self { io: io.into(), tls: None }
    }

    /// A connection over TLS.
    #[must_use]
    pub fn over_tls(io: impl Into<Io>, tls: TlsInfo) -> Self {
        Self { io: io.into(), tls: Some(Arc::new(tls)) }
    }
}
