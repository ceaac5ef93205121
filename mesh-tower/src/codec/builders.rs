//! The HTTP codecs of a listener, configured once from its connection manager.

use std::borrow::Cow;

use hyper::{
    rt::Executor,
    server::conn::{http1, http2},
};
use hyper_util::rt::TokioTimer;
use mesh_core::model::{Codec, Http2Keepalive, HttpConnectionManager};

use crate::rng::ThreadRng;

/// How many headers hyper parses without an allocation per request.
const HEADERS_ON_STACK: u32 = 100;

/// Runs the streams of an HTTP/2 connection; they end with their connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamExecutor;

impl<F> Executor<F> for StreamExecutor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, stream: F) {
        tokio::spawn(stream);
    }
}

/// HTTP/1 and HTTP/2 with a listener's limits.
#[derive(Clone, Debug)]
pub(crate) struct Codecs {
    pub(crate) codec_type: Codec,
    pub(crate) http1: http1::Builder,
    http2: http2::Builder<StreamExecutor>,
    keepalive: Option<Http2Keepalive>,
}

impl Codecs {
    pub(crate) fn new(config: &HttpConnectionManager) -> Self {
        let max_header_bytes = config.max_request_headers_kb.saturating_mul(1024);
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            // hyper's timeout would also close idle connections; `HeadTimer` does not.
            .header_read_timeout(None)
            .max_header_size(max_header_bytes as usize);
        if config.max_headers_count > HEADERS_ON_STACK {
            http1.max_headers(config.max_headers_count as usize);
        }
        let mut http2 = http2::Builder::new(StreamExecutor);
        http2
            .timer(TokioTimer::new())
            .max_header_list_size(max_header_bytes)
            .max_concurrent_streams(config.max_concurrent_streams)
            .initial_stream_window_size(config.initial_stream_window_size)
            .initial_connection_window_size(config.initial_connection_window_size);
        let keepalive = config.connection_keepalive.filter(|keepalive| keepalive.interval.is_some());
        if let Some(keepalive) = keepalive {
            http2.keep_alive_timeout(keepalive.timeout);
        }
        Self { codec_type: config.codec_type, http1, http2, keepalive }
    }

    /// HTTP/2 for one connection. Each connection has its own jitter of the PING interval.
    pub(crate) fn http2(&self) -> Cow<'_, http2::Builder<StreamExecutor>> {
        let Some(keepalive) = &self.keepalive else { return Cow::Borrowed(&self.http2) };
        let mut http2 = self.http2.clone();
        http2.keep_alive_interval(keepalive.next_interval(&mut ThreadRng));
        Cow::Owned(http2)
    }
}
