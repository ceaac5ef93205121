//! The HTTP codecs of a listener, configured once from its connection manager.

use hyper::{
    rt::Executor,
    server::conn::{http1, http2},
};
use hyper_util::rt::TokioTimer;
use mesh_core::model::{Codec, HttpConnectionManager};

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
    pub(crate) http2: http2::Builder<StreamExecutor>,
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
        Self { codec_type: config.codec_type, http1, http2 }
    }
}
