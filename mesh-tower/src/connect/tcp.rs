//! Plain TCP.

use std::{io::Result, net::SocketAddr};

use mesh_core::model::TcpKeepalive;
use socket2::SockRef;
use tokio::net::TcpStream;

use super::{Connect, Connecting, Io};

/// Connects over plain TCP, with Nagle's algorithm off as Envoy does for HTTP.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpConnector;

impl Connect for TcpConnector {
    fn connect(&self, address: SocketAddr, keepalive: Option<TcpKeepalive>) -> Connecting {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            if let Some(keepalive) = keepalive {
                set_keepalive(&stream, keepalive)?;
            }
            Ok(Io::from(stream))
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
    use std::{num::NonZeroU16, time::Duration};

    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn keepalive_reaches_the_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let keepalive = TcpKeepalive {
            keepalive_probes: NonZeroU16::new(4),
            keepalive_time: Some(Duration::from_secs(77)),
            keepalive_interval: Some(Duration::from_secs(9)),
        };
        let io = TcpConnector.connect(listener.local_addr().unwrap(), Some(keepalive)).await.unwrap();
        let Io::Tcp(stream) = io else { panic!("not TCP") };
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap() && stream.nodelay().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(77));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(9));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 4);
    }
}
