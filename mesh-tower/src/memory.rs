//! An in-memory network for tests of programs. Connections are pipes, so no port is used and time may be paused.

use std::{
    io::{Error, ErrorKind, Result},
    net::SocketAddr,
    sync::Arc,
};

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::{
    io::{DuplexStream, duplex},
    sync::mpsc,
};

use crate::{Accept, AcceptedConnection, Connect, ConnectTo, Connected, Connecting, Io};

/// Buffer size of each direction of a connection, in bytes.
const PIPE_BYTES: usize = 64 * 1024;

/// Maximum number of connections that wait to be accepted. Further connection attempts wait.
const BACKLOG: usize = 128;

/// The first ephemeral port, for port 0 and for clients.
const FIRST_EPHEMERAL_PORT: u16 = 32768;

/// An in-memory network for tests. Clones share the same network.
///
/// [`bind`](Self::bind) returns a listener, which a server accepts connections from as from a socket. The network itself is the
/// connector of clients. Any address can be used, such as those in the configuration. No connection leaves the network.
#[derive(Clone, Debug, Default)]
pub struct MemoryNetwork(Arc<Mutex<Addresses>>);

#[derive(Debug, Default)]
struct Addresses {
    listeners: HashMap<SocketAddr, mpsc::Sender<AcceptedConnection<DuplexStream>>>,
    /// Number of ephemeral ports that have been allocated.
    allocated: u16,
}

/// A listening socket of a [`MemoryNetwork`]. When it is dropped, connections to its address are refused.
#[derive(Debug)]
pub struct MemoryListener {
    address: SocketAddr,
    accepted: mpsc::Receiver<AcceptedConnection<DuplexStream>>,
}

impl MemoryNetwork {
    /// Creates a network without listeners.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Listens on `address`. Port 0 selects an ephemeral port.
    ///
    /// # Errors
    /// If another listener is bound to `address`.
    pub fn bind(&self, mut address: SocketAddr) -> Result<MemoryListener> {
        let mut addresses = self.0.lock();
        if address.port() == 0 {
            address.set_port(addresses.allocate_port());
        }
        let (sender, accepted) = mpsc::channel(BACKLOG);
        if addresses.listeners.get(&address).is_some_and(|listener| !listener.is_closed()) {
            return Err(Error::new(ErrorKind::AddrInUse, format!("{address} is in use")));
        }
        addresses.listeners.insert(address, sender);
        Ok(MemoryListener { address, accepted })
    }

    async fn dial(&self, address: SocketAddr) -> Result<DuplexStream> {
        let refused = || Error::new(ErrorKind::ConnectionRefused, format!("nothing is listening on {address}"));
        let (listener, port) = {
            let mut addresses = self.0.lock();
            (addresses.listeners.get(&address).cloned().ok_or_else(refused)?, addresses.allocate_port())
        };
        let (io, other) = duplex(PIPE_BYTES);
        let mut accepted = AcceptedConnection::new(other);
        accepted.local_address = Some(address);
        accepted.remote_address = Some(SocketAddr::new(address.ip(), port));
        listener.send(accepted).await.map_err(|_| refused())?;
        Ok(io)
    }
}

impl Addresses {
    fn allocate_port(&mut self) -> u16 {
        let port = FIRST_EPHEMERAL_PORT + self.allocated % FIRST_EPHEMERAL_PORT;
        self.allocated = self.allocated.wrapping_add(1);
        port
    }
}

impl Connect for MemoryNetwork {
    fn connect<'a>(&'a self, to: ConnectTo<'a>) -> Connecting<'a> {
        let address = to.endpoint.address().socket().ok_or(ErrorKind::Unsupported);
        Box::pin(async move {
            let address = address?;
            Ok(Connected::plain_text(Io::boxed(self.dial(address).await?)))
        })
    }
}

impl MemoryListener {
    /// The address that it is bound to.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

impl Accept for MemoryListener {
    type Io = DuplexStream;

    async fn accept(&mut self) -> Option<Result<AcceptedConnection<DuplexStream>>> {
        self.accepted.recv().await.map(Ok)
    }

    fn local_address(&self) -> Option<SocketAddr> {
        Some(self.address)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_listener_gets_the_connections_to_its_address_until_it_is_dropped() {
        let network = MemoryNetwork::new();
        let address = "10.0.0.1:80".parse().unwrap();
        assert_eq!(network.dial(address).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        let mut listener = network.bind(address).unwrap();
        assert_eq!(network.bind(address).unwrap_err().kind(), ErrorKind::AddrInUse);
        let mut client = network.dial(address).await.unwrap();
        let mut accepted = listener.accept().await.unwrap().unwrap();
        assert_eq!((accepted.local_address, listener.local_address()), (Some(address), Some(address)));
        client.write_all(b"hi").await.unwrap();
        let mut bytes = [0; 2];
        accepted.io.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"hi");
        drop(listener);
        assert_eq!(network.dial(address).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        let any = |port| network.bind(SocketAddr::new(address.ip(), port)).unwrap().local_addr();
        assert_eq!(any(80), address);
        assert_ne!(any(0), any(0));
    }
}
