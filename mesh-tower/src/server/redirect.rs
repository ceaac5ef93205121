//! Connections that the system has redirected to this process, as iptables do for sidecars.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use arc_swap::ArcSwap;
use hashbrown::HashMap;
use tokio::net::TcpStream;

/// What finds out where a connection was made to before it was redirected; `None` = it was not, or the system does not know.
pub(super) type OriginalDestination = fn(&TcpStream) -> Option<SocketAddr>;

/// Asks the system (`SO_ORIGINAL_DST`).
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn of_system(stream: &TcpStream) -> Option<SocketAddr> {
    let socket = socket2::SockRef::from(stream);
    let local = stream.local_addr().ok()?;
    let original = if local.is_ipv4() { socket.original_dst_v4() } else { socket.original_dst_v6() };
    original.ok()?.as_socket()
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn of_system(_: &TcpStream) -> Option<SocketAddr> {
    None
}

/// What listeners serve, by the addresses of the listeners.
pub(super) struct ByAddress<T>(Arc<ArcSwap<HashMap<SocketAddr, T>>>);

impl<T> Clone for ByAddress<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for ByAddress<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Clone> ByAddress<T> {
    pub(super) fn set(&self, all: impl IntoIterator<Item = (SocketAddr, T)>) {
        self.0.store(Arc::new(all.into_iter().collect()));
    }

    /// That of this address, or else that of its port on all addresses.
    pub(super) fn find(&self, address: SocketAddr) -> Option<T> {
        let all = self.0.load();
        let everywhere = match address.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        all.get(&address).or_else(|| all.get(&SocketAddr::new(everywhere, address.port()))).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_comes_before_all_addresses() {
        let all = ByAddress::default();
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        all.set([(address("10.0.0.1:80"), "one"), (address("0.0.0.0:80"), "all"), (address("[::]:81"), "six")]);
        let found = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.1:81", "[fd00::1]:81"].map(|text| all.find(address(text)));
        assert_eq!(found, [Some("one"), Some("all"), None, Some("six")]);
    }
}
