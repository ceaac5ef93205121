//! How a connection is secured: where the handshake of TLS will be.

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

/// Secures a connection as its filter chain says.
///
/// # Errors
/// If the client does not agree.
pub(crate) async fn secure<I>(socket: &DownstreamTransportSocket, io: ReadAhead<I>) -> Result<Secured<ReadAhead<I>>> {
    match socket {
        DownstreamTransportSocket::PlainText => Ok(Secured { io, tls: None }),
    }
}
