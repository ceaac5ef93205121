//! The accept loop.

use std::{io, time::Duration};

use tokio::time::sleep;

use crate::{Accept, AcceptedConnection, drain::DrainWatch};

/// First pause after an error of the listening socket itself, such as too many open files; it doubles up to
/// [`MAX_PAUSE`].
const MIN_PAUSE: Duration = Duration::from_millis(5);

/// Longest pause between attempts.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// Passes every connection to `serve` until `source` ends or `drain` begins. Connections that wait in the accept queue
/// by then are served too; closing the socket would reset them.
pub(super) async fn accept<A: Accept>(
    mut source: A,
    mut drain: DrainWatch,
    mut serve: impl FnMut(AcceptedConnection<A::Io>),
) {
    let mut pause = MIN_PAUSE;
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = source.accept() => accepted,
            _ = drain.changed() => break,
        };
        match accepted {
            Some(Ok(accepted)) => {
                pause = MIN_PAUSE;
                serve(accepted);
            }
            Some(Err(error)) if is_of_one_connection(&error) => {}
            Some(Err(error)) => {
                tracing::warn!(%error, pause_ms = pause.as_millis(), "cannot accept connections");
                sleep(pause).await;
                pause = (pause * 2).min(MAX_PAUSE);
            }
            None => break,
        }
    }
    // The socket closes before the drain watch is dropped: code that waits for the drain may bind the address again.
    drop(source);
}

/// Whether the error concerns one connection, which its client has closed before it was accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

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
        accept(listener, drain.watch(), |accepted| served.push(accepted.remote_address.unwrap())).await;
        assert_eq!(served, clients.map(|client| client.local_addr().unwrap()));
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn accepting_ends_with_its_source() {
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        sender.send(tokio::io::duplex(1).0).await.unwrap();
        drop(sender);
        let mut served = 0;
        accept(receiver, Drain::new().watch(), |_| served += 1).await;
        assert_eq!(served, 1);
    }
}
