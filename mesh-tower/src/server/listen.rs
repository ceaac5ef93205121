//! Listening sockets.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;

/// Longest queue of connections to accept. Linux caps it at `net.core.somaxconn`. Envoy `tcp_backlog_size` on Linux.
const BACKLOG: i32 = 4096;

/// A listening socket could not be made.
#[derive(Debug, Error)]
#[error("cannot listen on {address}: {}", describe(source))]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// The cause.
    pub source: io::Error,
}

/// One listening socket for each of `workers`, all on the same address; port 0 takes one port for all of them. The
/// kernel spreads connections over the sockets (`SO_REUSEPORT`), so that workers share nothing.
///
/// # Errors
/// If the address is in use, not this machine's, or not allowed.
pub fn bind(address: SocketAddr, workers: usize) -> Result<Vec<TcpListener>, BindError> {
    bind_all(address, workers.max(1)).map_err(|source| BindError { address, source })
}

fn bind_all(address: SocketAddr, workers: usize) -> io::Result<Vec<TcpListener>> {
    // With SO_REUSEPORT a second process of the same user would get a share of the connections instead of an error,
    // so a socket without it is bound first to see whether the address is free.
    let exclusive = socket(address, Sharing::Exclusive)?;
    if workers == 1 {
        exclusive.listen(BACKLOG)?;
        return Ok(vec![exclusive.into()]);
    }
    drop(exclusive);
    let first = socket(address, Sharing::Shared)?;
    let address = first.local_addr()?.as_socket().unwrap_or(address);
    let mut sockets = vec![first];
    for _ in 1..workers {
        sockets.push(socket(address, Sharing::Shared)?);
    }
    sockets
        .into_iter()
        .map(|socket| {
            socket.listen(BACKLOG)?;
            Ok(socket.into())
        })
        .collect()
}

#[derive(Clone, Copy)]
enum Sharing {
    Exclusive,
    Shared,
}

fn socket(address: SocketAddr, sharing: Sharing) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if let Sharing::Shared = sharing {
        #[cfg(unix)]
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

fn describe(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "address already in use",
        io::ErrorKind::AddrNotAvailable => "not an address of this machine",
        io::ErrorKind::PermissionDenied => "permission denied",
        _ => "the system refused",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_one_port() {
        let sockets = bind("127.0.0.1:0".parse().unwrap(), 3).unwrap();
        let ports: Vec<_> = sockets.iter().map(|socket| socket.local_addr().unwrap().port()).collect();
        assert!(ports.len() == 3 && ports[0] != 0 && ports.iter().all(|port| *port == ports[0]), "{ports:?}");
    }

    #[test]
    fn an_address_in_use_is_an_error_even_if_its_owner_set_reuse_port() {
        for workers in [1, 2] {
            let owner = bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
            let address = owner[0].local_addr().unwrap();
            let error = bind(address, workers).unwrap_err();
            assert_eq!(error.to_string(), format!("cannot listen on {address}: address already in use"));
        }
    }
}
