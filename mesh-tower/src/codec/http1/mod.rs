//! HTTP/1 connections of a listener.

mod connection;
mod exchange;
mod ready;
mod takeover;

use std::{sync::Arc, time::Duration};

use http::{Request, Response};
use mesh_core::{
    http1::Limits,
    model::{Http1Options, HttpConnectionManager},
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{connection::Refuse, io::DownstreamIo, lifecycle::Lifecycle};
use crate::{Body, ResponseBody, call::Interim, telemetry::CodecStats};
pub(super) use connection::Connection;
use connection::Ended;

/// HTTP/1 with a listener's options and limits.
#[derive(Clone, Debug)]
pub(super) struct Http1 {
    options: Http1Options,
    limits: Limits,
    request_headers_timeout: Option<Duration>,
    accept_http_10: bool,
    proxy_100_continue: bool,
    stats: Arc<CodecStats>,
}

impl Http1 {
    pub(super) fn new(
        config: &HttpConnectionManager,
        request_headers_timeout: Option<Duration>,
        stats: Arc<CodecStats>,
    ) -> Self {
        let max_bytes = (config.max_request_headers_kb as usize).saturating_mul(1024);
        let limits = Limits::new(max_bytes, config.max_headers_count as usize)
            .with_headers_with_underscores_action(config.headers_with_underscores_action);
        Self {
            options: config.http1,
            limits,
            request_headers_timeout,
            accept_http_10: config.accept_http_10.is_some(),
            proxy_100_continue: config.proxy_100_continue,
            stats,
        }
    }

    /// A connection, in a box: futures keep several copies of what they are given by value.
    pub(super) fn connection<I>(&self, io: DownstreamIo<I>, lifecycle: Lifecycle) -> Box<Connection<I>>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        Box::new(Connection::new(self, io, lifecycle))
    }
}

/// Serves one connection to its end.
pub(super) async fn serve<I, S, F>(mut connection: Box<Connection<I>>, service: S, refuse: Refuse<'_>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Fn(Request<Body>, Option<Interim>) -> F,
    F: Future<Output = Response<ResponseBody>> + Send,
{
    let info = Arc::clone(connection.info());
    while connection.wait().await {
        // The future of a request has some kilobytes, which an idle connection does not need.
        match Box::pin(connection.serve(&service, refuse)).await {
            Ended::Idle => {}
            Ended::Closed => break,
            Ended::TakenOver(head) => {
                Box::pin(takeover::serve(connection.into_takeover(&head), service)).await;
                break;
            }
        }
    }
    info.closed();
}
