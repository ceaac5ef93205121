//! One downstream connection: detects its protocol, and counts it while its driver serves it.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response};
use mesh_core::{
    local_reply::LocalReply,
    model::{Codec, HttpConnectionManager},
    telemetry::Gauge,
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    ConnectionInfo, Lifetime,
    http1::{self, Http1},
    http2::Http2,
    io::{DownstreamIo, Look, Protocol},
    lifecycle::Lifecycle,
};
use crate::{
    Body, ResponseBody,
    call::Interim,
    drain::{DrainWatch, Phase},
    telemetry::HttpStats,
};

/// The codecs of a listener, configured once from its connection manager.
#[derive(Clone, Debug)]
pub(crate) struct Codecs {
    codec_type: Codec,
    http1: Http1,
    http2: Http2,
    /// Of the preface of HTTP/2, too.
    request_headers_timeout: Option<Duration>,
}

impl Codecs {
    pub(crate) fn new(config: &HttpConnectionManager) -> Self {
        let request_headers_timeout = config.request_headers_timeout.filter(|timeout| !timeout.is_zero());
        let http1 = Http1::new(config, request_headers_timeout);
        Self { codec_type: config.codec_type, http1, http2: Http2::new(config), request_headers_timeout }
    }
}

/// Serves one connection to its end.
pub(crate) struct Connection<I> {
    pub(crate) io: I,
    pub(crate) info: Arc<ConnectionInfo>,
    pub(crate) stats: Arc<HttpStats>,
    pub(crate) lifetime: Lifetime,
    pub(crate) drain: DrainWatch,
}

/// What a codec needs to know about the service of its requests.
#[derive(Clone, Copy)]
pub(crate) struct Refuse<'a> {
    /// Makes the response to what is no valid request, of which the first byte came at the given time.
    pub(crate) answer: &'a (dyn Fn(LocalReply, Instant) -> Response<Bytes> + Send + Sync),
    /// Whether requests are answered by a program of this process, which may upgrade connections.
    pub(crate) is_program: bool,
}

impl<I: AsyncRead + AsyncWrite + Unpin + Send + 'static> Connection<I> {
    /// Answers each request with `service`, to which the codec also gives a handle for interim responses, if it sends them.
    pub(crate) async fn serve<S, F>(self, codecs: &Codecs, service: S, refuse: Refuse<'_>)
    where
        S: Fn(Request<Body>, Option<Interim>) -> F,
        F: Future<Output = Response<ResponseBody>> + Send + 'static,
    {
        let Self { io, info, stats, lifetime, mut drain } = self;
        let counted = CountedConnection::new(Arc::clone(&stats));
        info.opened();
        let mut io = DownstreamIo::new(io, Arc::clone(&info), Arc::clone(&stats));
        let protocol = match codecs.codec_type {
            Codec::Http1 => Protocol::Http1,
            codec => {
                let head_timeout = codecs.request_headers_timeout;
                let limits = DetectionLimits { codec, idle_timeout: lifetime.idle_timeout, head_timeout };
                // Its timers are not part of the future of the connection.
                match Box::pin(detect(&mut io, &mut drain, limits)).await {
                    Some(protocol) => protocol,
                    None => return,
                }
            }
        };
        let lifecycle = Lifecycle::new(info, stats, lifetime, drain, protocol);
        match protocol {
            Protocol::Http1 => {
                let _active = counted.http1();
                http1::serve(codecs.http1.connection(io, lifecycle), service, refuse).await;
            }
            Protocol::Http2 => {
                let _active = counted.http2();
                // Not in the future of every connection, whatever its protocol.
                Box::pin(codecs.http2.serve(io, service, lifecycle)).await;
            }
        }
    }
}

/// How long the protocol of a connection may be unknown.
struct DetectionLimits {
    codec: Codec,
    idle_timeout: Option<Duration>,
    /// From the first byte, and of an HTTP/2 connection from its beginning.
    head_timeout: Option<Duration>,
}

/// Detects the protocol, and reads the preface of HTTP/2. `None` if the connection ends, drains or is too slow before.
async fn detect<I: AsyncRead + Unpin>(
    io: &mut DownstreamIo<I>,
    drain: &mut DrainWatch,
    limits: DetectionLimits,
) -> Option<Protocol> {
    let DetectionLimits { codec, idle_timeout, head_timeout } = limits;
    let mut drained = pin!(drain.reached(Phase::Closing));
    let mut idle = pin!(wait(idle_timeout));
    let mut late = pin!(wait(if codec == Codec::Http2 { head_timeout } else { None }));
    let detected = loop {
        let look = tokio::select! {
            biased;
            look = io.look() => look.ok()?,
            () = &mut drained => return None,
            () = &mut idle => return None,
            () = &mut late => return None,
        };
        match look {
            Look::Ended => return None,
            Look::Certain(protocol) => break protocol,
            Look::Unsure if codec == Codec::Auto => late.set(wait(head_timeout)),
            Look::Unsure => {}
        }
    };
    Some(if codec == Codec::Http2 { Protocol::Http2 } else { detected })
}

/// Waits for `limit`; forever if there is none.
async fn wait(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

/// Counts a connection in the gauges until this is dropped.
struct CountedConnection(Arc<HttpStats>);

struct Active<'a>(&'a Gauge);

impl CountedConnection {
    fn new(stats: Arc<HttpStats>) -> Self {
        stats.downstream_cx_total.inc();
        stats.downstream_cx_active.inc();
        Self(stats)
    }

    fn http1(&self) -> Active<'_> {
        self.0.downstream_cx_http1_total.inc();
        self.0.downstream_cx_http1_active.inc();
        Active(&self.0.downstream_cx_http1_active)
    }

    fn http2(&self) -> Active<'_> {
        self.0.downstream_cx_http2_total.inc();
        self.0.downstream_cx_http2_active.inc();
        Active(&self.0.downstream_cx_http2_active)
    }
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        self.0.downstream_cx_active.dec();
        self.0.downstream_cx_destroy.inc();
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}
