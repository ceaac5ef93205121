//! The machine that this process runs on.

use std::{
    net::{IpAddr, UdpSocket},
    sync::OnceLock,
};

/// An address at which other machines can reach this one; `None` if there is no network.
#[must_use]
pub(crate) fn local_address() -> Option<IpAddr> {
    // Connecting a datagram socket sends nothing; the system only looks up the route to a documentation address.
    let socket = UdpSocket::bind(("0.0.0.0", 0)).ok()?;
    socket.connect(("192.0.2.1", 9)).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|address| !address.is_unspecified() && !address.is_loopback())
}

/// The host name of this machine; `None` if it is unknown.
#[must_use]
pub(crate) fn hostname() -> Option<&'static str> {
    static HOSTNAME: OnceLock<Option<String>> = OnceLock::new();
    let read = || {
        let of_kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
        of_kernel.map(|name| name.trim().to_owned()).or_else(|| std::env::var("HOSTNAME").ok())
    };
    HOSTNAME.get_or_init(read).as_deref().filter(|name| !name.is_empty())
}
