//! Plain TCP.

use std::io::Result;

use mesh_core::model::TcpKeepalive;
use socket2::SockRef;
use tokio::net::TcpStream;

use super::{Connect, ConnectTo, Connected, Connecting};

/// Connects over plain TCP, with Nagle's algorithm off as Envoy does for HTTP.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpConnector;

impl Connect for TcpConnector {
    fn connect<'a>(&'a self, to: ConnectTo<'a>) -> Connecting<'a> {
        Box::pin(async move {
            let stream = TcpStream::connect(to.endpoint.address()).await?;
            stream.set_nodelay(true)?;
            if let Some(keepalive) = to.cluster.tcp_keepalive {
                set_keepalive(&stream, keepalive)?;
            }
            Ok(Connected::plain_text(stream))
        })
    }
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
    use std::{net::SocketAddr, num::NonZeroU16, sync::Arc, time::Duration};

    use mesh_core::{
        cluster::ClusterState,
        model::{Cluster, Discovery},
        rng::SplitMix64,
    };
    use tokio::net::TcpListener;

    use super::*;
    use crate::{Io, timer::now};

    async fn connect(address: SocketAddr, change: impl FnOnce(&mut Cluster)) -> Result<Connected> {
        let mut cluster = Cluster::new("c", Discovery::Static([address].into_iter().collect()));
        change(&mut cluster);
        let state = ClusterState::new(Arc::new(cluster), now(), &mut SplitMix64::new(1));
        let (cluster, endpoints) = (state.config(), state.endpoints());
        let (endpoint, transport_socket) = (&endpoints.endpoints()[0], &cluster.transport_socket);
        TcpConnector.connect(ConnectTo { cluster, endpoint, transport_socket, server_name: None, protocol: None }).await
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
