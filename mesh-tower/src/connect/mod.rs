//! Making connections to endpoints.
//!
//! [`Connect`] is the seam between the pools and the network: [`TcpConnector`] is what production uses, tests put an
//! in-memory pipe behind it, and a connector that speaks TLS or HBONE will be another implementation. It is called once
//! per connection, never per request, which is why it may box.

mod io;
mod tcp;

use std::{fmt, future::Future, net::SocketAddr, pin::Pin};

use mesh_core::model::TcpKeepalive;

pub use io::{AsyncReadWrite, Io};
pub use tcp::TcpConnector;

/// The future of a [`Connect`].
pub type Connecting = Pin<Box<dyn Future<Output = std::io::Result<Io>> + Send>>;

/// Makes connections.
pub trait Connect: fmt::Debug + Send + Sync + 'static {
    /// Connects to `address`. The pool limits the time it may take.
    fn connect(&self, address: SocketAddr, keepalive: Option<TcpKeepalive>) -> Connecting;
}
