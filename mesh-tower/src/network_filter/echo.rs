//! Sends back what a client sends. Envoy `envoy.filters.network.echo`.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::drain::{DrainWatch, Phase};

/// Most bytes that are read before they are sent back.
const BUFFER: usize = 16 * 1024;

/// Sends back what the client sends, until it ends.
///
/// # Cancel safety
/// Dropping the future closes the connection at once.
pub(crate) async fn echo(mut io: impl AsyncRead + AsyncWrite + Unpin, mut drain: DrainWatch) {
    let mut bytes = Vec::with_capacity(BUFFER);
    let pass = async {
        loop {
            bytes.clear();
            if io.read_buf(&mut bytes).await? == 0 {
                return io.shutdown().await;
            }
            io.write_all(&bytes).await?;
        }
    };
    tokio::select! {
        biased;
        () = drain.reached(Phase::Closed) => {}
        result = pass => {
            if let Err(error) = result {
                tracing::debug!(%error, "a connection has failed");
            }
        }
    }
}
