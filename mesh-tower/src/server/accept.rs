//! The accept loop.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};

use crate::drain::DrainWatch;

/// First pause after an error of the listener itself, such as too many open files; doubles up to [`MAX_PAUSE`].
const MIN_PAUSE: Duration = Duration::from_millis(5);

/// Longest pause between attempts.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// Hands every connection to `serve` until `drain` begins. Connections the system has accepted by then are served too;
/// closing the socket would reset them.
pub(crate) async fn accept(listener: TcpListener, mut drain: DrainWatch, mut serve: impl FnMut(TcpStream, SocketAddr)) {
    let mut pause = MIN_PAUSE;
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            _ = drain.changed() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                pause = MIN_PAUSE;
                serve(stream, peer);
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, pause_ms = pause.as_millis(), "cannot accept connections");
                sleep(pause).await;
                pause = (pause * 2).min(MAX_PAUSE);
            }
        }
    }
    // Whoever waits for `drain` wants the address.
    drop(listener);
}

/// Whether the error says that a client went away before it was served.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drain::Drain;

    #[tokio::test]
    async fn connections_made_before_draining_are_served_and_then_the_port_is_free() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let clients = [TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
        let drain = Drain::new();
        drain.begin();
        let mut served = Vec::new();
        accept(listener, drain.watch(), |_, peer| served.push(peer)).await;
        assert_eq!(served, clients.map(|client| client.local_addr().unwrap()));
        assert!(TcpStream::connect(address).await.is_err());
    }
}
