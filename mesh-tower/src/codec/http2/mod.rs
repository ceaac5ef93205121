//! The HTTP/2 connections of a listener, on h2.
//!
//! ```text
//! task of the connection: Driver ► reads and writes frames, PINGs, GOAWAY
//!   └► for each request a task: Stream ► polls the handler ► interim responses ► response head ► SendBody
//! ```
//!
//! A stream has a task of its own, so that the frames of several responses leave in one write of the connection's task.
//! When a client resets a stream, the task drops the handler's future, and with it the request to the endpoint.

mod body;
mod driver;
mod stream;

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use h2::server::Builder;
use http::{Request, Response};
use mesh_core::model::{HeadersWithUnderscoresAction as Underscores, Http2Keepalive, HttpConnectionManager};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use self::driver::Driver;
pub(crate) use self::{
    body::{drop_underscores, has_underscore},
    stream::ResetStream,
};
use super::{io::DownstreamIo, lifecycle::Lifecycle};
use crate::{
    Body, ResponseBody,
    call::Interim,
    http2::{Http2Io, Payload},
    telemetry::CodecStats,
};

/// HTTP/2 with a listener's limits.
#[derive(Clone, Debug)]
pub(super) struct Http2 {
    builder: Builder,
    keepalive: Option<Http2Keepalive>,
    /// What happens to trailers whose names have an underscore. The connection manager checks the headers.
    trailers: Underscores,
    stats: Arc<CodecStats>,
    /// Interim responses may also come from endpoints.
    proxy_100_continue: bool,
}

impl Http2 {
    /// Maximum number of streams that are reset because of errors of the client, before the connection is closed.
    const MAX_LOCAL_ERROR_RESET_STREAMS: usize = 1024;

    /// How long a client without a preface may take to read why the connection is closed.
    const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

    pub(super) fn new(config: &HttpConnectionManager, stats: Arc<CodecStats>) -> Self {
        let mut builder = Builder::new();
        builder
            .max_header_list_size(config.max_request_headers_kb.saturating_mul(1024))
            .max_concurrent_streams(config.max_concurrent_streams)
            .max_local_error_reset_streams(Some(Self::MAX_LOCAL_ERROR_RESET_STREAMS))
            .initial_window_size(config.initial_stream_window_size)
            .initial_connection_window_size(config.initial_connection_window_size);
        if config.allow_connect {
            builder.enable_connect_protocol();
        }
        let keepalive = config.connection_keepalive.filter(|keepalive| keepalive.interval.is_some());
        let trailers = config.headers_with_underscores_action;
        Self { builder, keepalive, trailers, stats, proxy_100_continue: config.proxy_100_continue }
    }

    /// Serves one connection to its end.
    pub(super) async fn serve<I, S, F>(&self, mut io: DownstreamIo<I>, service: S, mut lifecycle: Lifecycle)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: Fn(Request<Body>, Option<Interim>) -> F,
        F: Future<Output = Response<ResponseBody>> + Send + 'static,
    {
        let info = Arc::clone(lifecycle.info());
        if io.lacks_preface() {
            lifecycle.stats().downstream_cx_protocol_error.inc();
            let _ = tokio::time::timeout(Self::REFUSAL_TIMEOUT, refuse(io)).await;
            return info.closed();
        }
        let (io, flusher) = Http2Io::server(io.ending_later());
        let mut handshake = pin!(self.builder.handshake::<_, Payload>(io));
        let connection = poll_fn(|cx| {
            // Without a request, there is nothing to finish.
            if lifecycle.poll_ending(cx).is_ready() {
                return Poll::Ready(None);
            }
            let connection = handshake.as_mut().poll(cx);
            flusher.end_turn(cx);
            connection.map(Some)
        });
        let ended = match connection.await {
            Some(Ok(connection)) => {
                let mut driver = Driver::new(connection, flusher, &service, lifecycle, self);
                let ended = (&mut driver).await;
                // Before the streams learn it from the end of the driver.
                info.closed();
                ended
            }
            Some(Err(error)) => Err(error),
            None => Ok(()),
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "downstream connection ended");
        }
    }
}

/// Tells a client whose preface is broken that this is a connection error (RFC 9113 section 3.4). h2 would only close the
/// connection.
async fn refuse(mut io: impl AsyncWrite + Unpin) -> std::io::Result<()> {
    io.write_all(&[EMPTY_SETTINGS, PROTOCOL_ERROR].concat()).await?;
    io.shutdown().await
}

/// A SETTINGS frame, which is the server's preface.
const EMPTY_SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";

/// A GOAWAY frame without a last stream and with the error code `PROTOCOL_ERROR`.
const PROTOCOL_ERROR: &[u8] = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x01";
