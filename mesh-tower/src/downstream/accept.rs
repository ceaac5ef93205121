//! Sources of connections.

use std::{future::Future, io, net::SocketAddr};

use mesh_core::listener::ConnectionFacts;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use crate::AsyncReadWrite;

/// A source of connections: a listening socket, or anything else that yields byte streams.
pub trait Accept: Send + 'static {
    /// A connection.
    type Io: AsyncReadWrite;

    /// The next connection; `None` if there will be no more.
    ///
    /// # Errors
    /// If a connection could not be accepted; the next call may succeed.
    ///
    /// # Cancel safety
    /// Implementations must not lose a connection when the future is dropped.
    fn accept(&mut self) -> impl Future<Output = Option<io::Result<AcceptedConnection<Self::Io>>>> + Send;

    /// The address that clients connect to, by which a listener's configuration is found; `None` if there is none, as
    /// for in-memory pipes and Unix sockets.
    fn local_address(&self) -> Option<SocketAddr>;
}

/// A connection that was accepted.
#[derive(Debug)]
#[non_exhaustive]
pub struct AcceptedConnection<I> {
    /// Its bytes.
    pub io: I,
    /// The client's address; `None` if it has none.
    pub remote_address: Option<SocketAddr>,
    /// The address that the client has connected to; `None` if it has none.
    pub local_address: Option<SocketAddr>,
    /// Whether `local_address` is where the connection was made to before the system redirected it to this process.
    pub is_local_address_restored: bool,
}

impl<I> AcceptedConnection<I> {
    /// A connection without addresses.
    pub fn new(io: I) -> Self {
        Self { io, remote_address: None, local_address: None, is_local_address_restored: false }
    }

    pub(crate) fn facts(&self) -> ConnectionFacts {
        let is_destination_restored = self.is_local_address_restored;
        ConnectionFacts { is_destination_restored, ..ConnectionFacts::between(self.remote_address, self.local_address) }
    }
}

impl Accept for TcpListener {
    type Io = TcpStream;

    async fn accept(&mut self) -> Option<io::Result<AcceptedConnection<TcpStream>>> {
        Some(Self::accept(self).await.map(|(io, remote)| {
            // Without TCP_NODELAY small responses wait for acknowledgements. A socket that refuses it still works.
            let _ = io.set_nodelay(true);
            let (remote_address, local_address) = (Some(remote), io.local_addr().ok());
            AcceptedConnection { remote_address, local_address, ..AcceptedConnection::new(io) }
        }))
    }

    fn local_address(&self) -> Option<SocketAddr> {
        self.local_addr().ok()
    }
}

#[cfg(unix)]
impl Accept for tokio::net::UnixListener {
    type Io = tokio::net::UnixStream;

    async fn accept(&mut self) -> Option<io::Result<AcceptedConnection<Self::Io>>> {
        Some(Self::accept(self).await.map(|(io, _)| AcceptedConnection::new(io)))
    }

    fn local_address(&self) -> Option<SocketAddr> {
        None
    }
}

/// Connections that the program makes itself, such as in-memory pipes. The source ends when all senders are dropped.
impl<I: AsyncReadWrite> Accept for mpsc::Receiver<I> {
    type Io = I;

    async fn accept(&mut self) -> Option<io::Result<AcceptedConnection<I>>> {
        self.recv().await.map(|io| Ok(AcceptedConnection::new(io)))
    }

    fn local_address(&self) -> Option<SocketAddr> {
        None
    }
}
