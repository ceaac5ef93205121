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
    telemetry::{CodecStats, HttpStats},
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
    pub(crate) fn new(config: &HttpConnectionManager, stats: &Arc<CodecStats>) -> Self {
        let request_headers_timeout = config.request_headers_timeout.filter(|timeout| !timeout.is_zero());
        let http1 = Http1::new(config, request_headers_timeout, Arc::clone(stats));
        let http2 = Http2::new(config, Arc::clone(stats));
        Self { codec_type: config.codec_type, http1, http2, request_headers_timeout }
    }
}

/// Serves one connection to its end.
pub(crate) struct Connection<I> {
    io: DownstreamIo<I>,
    info: Arc<ConnectionInfo>,
    stats: Arc<HttpStats>,
    lifetime: Lifetime,
    drain: DrainWatch,
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
    pub(crate) fn new(
        io: I,
        info: Arc<ConnectionInfo>,
        stats: Arc<HttpStats>,
        lifetime: Lifetime,
        drain: DrainWatch,
    ) -> Self {
        let io = DownstreamIo::new(io, Arc::clone(&info), Arc::clone(&stats));
        Self { io, info, stats, lifetime, drain }
    }

    /// Answers each request with `service`, to which the codec also gives a handle for interim responses, if it sends them.
    pub(crate) async fn serve<S, F>(mut self: Box<Self>, codecs: &Codecs, service: S, refuse: Refuse<'_>)
    where
        S: Fn(Request<Body>, Option<Interim>) -> F,
        F: Future<Output = Response<ResponseBody>> + Send + 'static,
    {
        let counted = CountedConnection::new(Arc::clone(&self.stats));
        self.info.opened();
        let protocol = match codecs.codec_type {
            Codec::Http1 => Protocol::Http1,
            // Its timers are not part of the future of the connection.
            codec => match Box::pin(self.detect(codec, codecs.request_headers_timeout)).await {
                Some(protocol) => protocol,
                None => return,
            },
        };
        let (io, lifecycle) = self.into_parts(protocol);
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

    #[expect(clippy::boxed_local, reason = "the box ends here, and not with the future of the connection")]
    fn into_parts(self: Box<Self>, protocol: Protocol) -> (DownstreamIo<I>, Lifecycle) {
        let Self { io, info, stats, lifetime, drain } = *self;
        (io, Lifecycle::new(info, stats, lifetime, drain, protocol))
    }

    /// Detects the protocol, and reads the preface of HTTP/2. `None` if the connection ends, drains or is too slow before.
    /// `head_timeout` begins with the first byte, and on an HTTP/2 connection at once.
    async fn detect(&mut self, codec: Codec, head_timeout: Option<Duration>) -> Option<Protocol> {
        let mut drained = pin!(self.drain.reached(Phase::Closing));
        let mut idle = pin!(wait(self.lifetime.idle_timeout));
        let mut late = pin!(wait(if codec == Codec::Http2 { head_timeout } else { None }));
        let detected = loop {
            let look = tokio::select! {
                biased;
                look = self.io.look() => look.ok()?,
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
