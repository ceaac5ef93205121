//! [`Connection`]: the addresses and the listener of a request, for the program's service.

use std::{net::SocketAddr, sync::Arc};

use crate::call::StreamInfo;

/// The connection on which a request was received. It is in the extensions of every request that a program's service receives.
/// Clones are cheap.
#[derive(Clone, Debug)]
pub struct Connection {
    peer_address: Option<SocketAddr>,
    client_address: Option<SocketAddr>,
    local_address: Option<SocketAddr>,
    listener: Arc<str>,
}

impl Connection {
    pub(super) fn new(info: &StreamInfo, listener: &Arc<str>) -> Self {
        let state = info.state();
        Self {
            peer_address: state.downstream_direct_remote_address,
            client_address: state.downstream_remote_address,
            local_address: state.downstream_local_address,
            listener: Arc::clone(listener),
        }
    }

    /// The address of the peer; `None` if it has none, such as that of a Unix socket, or if it is not known:
    /// see [`ServerLayer::with_remote_address`](super::ServerLayer::with_remote_address).
    #[must_use]
    pub fn peer_address(&self) -> Option<SocketAddr> {
        self.peer_address
    }

    /// The address of the client: that of `x-forwarded-for`, with port 0, if the listener trusts the peer to have set it
    /// (Envoy `use_remote_address`, `xff_num_trusted_hops`); else the address of the peer.
    #[must_use]
    pub fn client_address(&self) -> Option<SocketAddr> {
        self.client_address
    }

    /// The local address of the connection; `None` if it has none.
    #[must_use]
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.local_address
    }

    /// The name of the listener whose configuration applies to the request; the address of the socket if no listener is
    /// configured for it.
    #[must_use]
    pub fn listener(&self) -> &str {
        &self.listener
    }
}
