//! The transport socket of a downstream connection. Only plain text is implemented.

use std::{io::Result, sync::Arc};

use mesh_core::{model::DownstreamTransportSocket, tls::TlsInfo};

use super::ReadAhead;

/// A connection whose bytes are those of the application.
#[derive(Debug)]
pub(crate) struct Secured<S> {
    pub(crate) io: S,
    /// The result of the TLS handshake; `None` = there was none.
    pub(crate) tls: Option<Arc<TlsInfo>>,
}

/// Applies the transport socket of a filter chain to a connection.
///
/// # Errors
/// If the handshake fails.
pub(crate) async fn secure<I>(socket: &DownstreamTransportSocket, io: ReadAhead<I>) -> Result<Secured<ReadAhead<I>>> {
    match socket {
        DownstreamTransportSocket::PlainText => Ok(Secured { io, tls: None }),
    }
}
