//! Sends the same bytes to every client. Envoy `envoy.filters.network.direct_response`.

use bytes::Bytes;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use crate::drain::{DrainWatch, Phase};

/// Sends the response and closes the connection. A client that is gone is no error.
///
/// # Cancel safety
/// Dropping the future closes the connection at once.
pub(crate) async fn direct_response(mut io: impl AsyncWrite + Unpin, response: Bytes, mut drain: DrainWatch) {
    let respond = async {
        io.write_all(&response).await?;
        io.shutdown().await
    };
    tokio::select! {
        biased;
        () = drain.reached(Phase::Closed) => {}
        result = respond => {
            if let Err(error) = result {
                tracing::debug!(%error, "a direct response could not be sent");
            }
        }
    }
}
