//! Plain TCP, and unix sockets.

use std::{io::Result, net::SocketAddr};

use mesh_core::model::{NetworkAddress, TcpKeepalive};
use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};

use super::{Connect, ConnectTo, Connected, Connecting, Io};

/// Connects over plain TCP, with Nagle's algorithm off as Envoy does for HTTP, or to a unix socket if that is the
/// address of the endpoint.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpConnector;

impl Connect for TcpConnector {
    fn connect<'a>(&'a self, to: ConnectTo<'a>) -> Connecting<'a> {
        Box::pin(async move {
            let address = match to.endpoint.address() {
                NetworkAddress::Socket(address) => address,
                NetworkAddress::Pipe(path) => return Ok(Connected::plain_text(Io::boxed(unix(path).await?))),
            };
            let stream = connect(*address, to.cluster.source_address).await?;
            stream.set_nodelay(true)?;
            if let Some(keepalive) = to.cluster.tcp_keepalive {
                set_keepalive(&stream, keepalive)?;
            }
            Ok(Connected::plain_text(stream))
        })
    }
}

/// Connects from the local address `source`, or from any.
async fn connect(address: SocketAddr, source: Option<SocketAddr>) -> Result<TcpStream> {
    let Some(source) = source.filter(|source| source.is_ipv4() == address.is_ipv4()) else {
        return TcpStream::connect(address).await;
    };
    let socket = if source.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.bind(source)?;
    socket.connect(address).await
}

/// Connects to a unix socket by its path, or by `@` and its name in the abstract namespace.
#[cfg(unix)]
async fn unix(path: &str) -> Result<tokio::net::UnixStream> {
    match path.strip_prefix('@') {
        // In tokio as in the system, a name in the abstract namespace begins with a zero byte.
        Some(name) => tokio::net::UnixStream::connect(format!("\0{name}")).await,
        None => tokio::net::UnixStream::connect(path).await,
    }
}

#[cfg(not(unix))]
async fn unix(path: &str) -> Result<TcpStream> {
    Err(std::io::Error::new(std::io::ErrorKind::Unsupported, format!("{path}: this system has no unix sockets")))
}

fn set_keepalive(stream: &TcpStream, keepalive: TcpKeepalive) -> Result<()> {
    let mut parameters = socket2::TcpKeepalive::new();
    if let Some(time) = keepalive.keepalive_time {
        parameters = parameters.with_time(time);
    }
    if let Some(interval) = keepalive.keepalive_interval {
        parameters = parameters.with_interval(interval);
    }
    if let Some(probes) = keepalive.keepalive_probes {
        parameters = parameters.with_retries(u32::from(probes.get()));
    }
    SockRef::from(stream).set_tcp_keepalive(&parameters)
}

#[cfg(test)]
mod tests {
    use std::{io::ErrorKind, num::NonZeroU16, sync::Arc, time::Duration};

    use mesh_core::{
        cluster::ClusterState,
        model::{Cluster, Discovery, Endpoint, EndpointAddress},
        rng::SplitMix64,
    };
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, UnixListener},
    };

    use super::*;
    use crate::{Io, timer::now};

    async fn connect(address: impl Into<EndpointAddress>, change: impl FnOnce(&mut Cluster)) -> Result<Connected> {
        let mut cluster = Cluster::new("c", Discovery::Static(vec![Endpoint::new(address)].into()));
        change(&mut cluster);
        let state = ClusterState::new(Arc::new(cluster), now(), &mut SplitMix64::new(1));
        let (cluster, endpoints) = (state.config(), state.endpoints());
        let (endpoint, transport_socket) = (&endpoints.endpoints()[0], &cluster.transport_socket);
        TcpConnector.connect(ConnectTo { cluster, endpoint, transport_socket, server_name: None, protocol: None }).await
    }

    #[tokio::test]
    async fn the_address_of_an_endpoint_may_be_a_unix_socket() {
        let path = std::env::temp_dir().join(format!("mesh-connect-{}.sock", std::process::id()));
        let path = path.to_str().unwrap();
        for (path, bound) in [(path.to_owned(), path.to_owned()), (format!("@{path}"), format!("\0{path}"))] {
            let address = EndpointAddress::Pipe(path.as_str().into());
            let error = connect(address.clone(), |_| {}).await.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused), "{path}: {error}");
            let listener = UnixListener::bind(&bound).unwrap();
            let mut connected = connect(address, |_| {}).await.unwrap();
            let (mut accepted, _) = listener.accept().await.unwrap();
            connected.io.write_all(b"hello").await.unwrap();
            let mut received = [0; 5];
            accepted.read_exact(&mut received).await.unwrap();
            assert_eq!(&received, b"hello");
        }
        std::fs::remove_file(path).unwrap();
    }

    #[tokio::test]
    async fn connections_have_the_source_address_of_their_cluster() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let source = "127.0.0.6:0".parse().unwrap();
        let _connected = connect(listener.local_addr().unwrap(), |c| c.source_address = Some(source)).await.unwrap();
        assert_eq!(listener.accept().await.unwrap().1.ip().to_string(), "127.0.0.6");
    }

    #[tokio::test]
    async fn keepalive_reaches_the_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let keepalive = TcpKeepalive {
            keepalive_probes: NonZeroU16::new(4),
            keepalive_time: Some(Duration::from_secs(77)),
            keepalive_interval: Some(Duration::from_secs(9)),
        };
        let connected = connect(listener.local_addr().unwrap(), |c| c.tcp_keepalive = Some(keepalive)).await.unwrap();
        assert!(connected.tls.is_none());
        let Io::Tcp(stream) = connected.io else { panic!("not TCP") };
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap() && stream.nodelay().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(77));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(9));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 4);
    }
}
