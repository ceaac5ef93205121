//! Making connections to endpoints.
//!
//! [`Connect`] is the seam between the mesh and the network: it is given an endpoint, its cluster and a transport socket,
//! and gives back a byte stream and what the handshake has told. [`TcpConnector`] is what production uses, tests put an
//! in-memory pipe behind it, and a connector that speaks TLS or HBONE will be another implementation. It is called once
//! per connection, never per request, which is why it may box.
//!
//! [`open`] adds what every connection has in common, whoever uses it: the time limit and the statistics.

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
    /// Connects, including the handshake of the transport socket. The caller limits the time it may take.
    ///
    /// # Errors
    /// If the endpoint cannot be reached or the handshake fails; also if the connector does not know the transport
    /// socket: it must never fall back to another one.
    fn connect<'a>(&'a self, to: ConnectTo<'a>) -> Connecting<'a>;
}

/// Where a connection leads and how it is to be made.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ConnectTo<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// The endpoint, one of the cluster's.
    pub endpoint: &'a EndpointState,
    /// How the connection is secured.
    pub transport_socket: &'a UpstreamTransportSocket,
    /// What the connection is for, which a handshake may offer as application protocol; `None` = bytes of any kind.
    pub protocol: Option<Protocol>,
}

/// A connection that was made.
#[derive(Debug)]
#[non_exhaustive]
pub struct Connected {
    /// The byte stream.
    pub io: Io,
    /// What the TLS handshake has told; `None` = the connection is in plain text.
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
