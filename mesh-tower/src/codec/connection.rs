//! One downstream connection: drives its codec, and closes it on an idle timeout, at its maximum duration or for
//! draining.
//!
//! The timer is armed once per connection and checked only when it has fired; a request only stores the time of its
//! end.

use std::{
    pin::{Pin, pin},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use mesh_core::{local_reply::LocalReply, model::Codec};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, Sleep},
};

use super::{
    builders::{Codecs, StreamExecutor},
    head_timer::{HeadLimit, HeadTimer},
    io::{DownstreamIo, Protocol},
};
use crate::{
    Downstream,
    call::DownstreamConnection,
    drain::{Drain, DrainWatch, Phase},
    telemetry::HttpStats,
    timer::now,
};

/// What the requests of a connection share.
#[derive(Debug)]
pub(crate) struct ConnectionInfo {
    pub(crate) downstream: Downstream,
    /// The group that the connection belongs to.
    pub(crate) drain: Drain,
    start: Instant,
    active: AtomicU32,
    requests: AtomicU32,
    idle_since_ms: AtomicU64,
    last_request_seen: AtomicBool,
    is_open: AtomicBool,
    /// Milliseconds from `start` to the first byte of an incomplete head, plus 1; 0 = there is none.
    head_since_ms: AtomicU64,
    /// The response that the codec sends before it closes the connection.
    last_answer: OnceLock<Bytes>,
}

/// A response of the codec to bytes that are not a request.
#[derive(Debug)]
pub(crate) struct Unserved {
    pub(crate) reply: LocalReply,
    /// The time of the first byte.
    pub(crate) since: std::time::Instant,
}

/// The limits on the lifetime of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetime {
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) max_connection_duration: Option<Duration>,
}

impl ConnectionInfo {
    pub(crate) fn new(downstream: Downstream, drain: Drain) -> Self {
        Self {
            downstream,
            drain,
            start: Instant::now(),
            active: AtomicU32::new(0),
            requests: AtomicU32::new(0),
            idle_since_ms: AtomicU64::new(0),
            last_request_seen: AtomicBool::new(false),
            is_open: AtomicBool::new(false),
            head_since_ms: AtomicU64::new(0),
            last_answer: OnceLock::new(),
        }
    }

    /// Records that bytes were received: if no request is active, they begin the head of the next.
    pub(super) fn received(&self) {
        if self.active.load(Ordering::Relaxed) == 0 && self.head_since_ms.load(Ordering::Relaxed) == 0 {
            let since = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.head_since_ms.store(since.saturating_add(1), Ordering::Relaxed);
        }
    }

    /// When the incomplete head began.
    pub(super) fn head_since(&self) -> Option<Instant> {
        let since = self.head_since_ms.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.start + Duration::from_millis(since))
    }

    /// The response to a head that has timed out.
    pub(super) fn last_answer(&self) -> Option<&Bytes> {
        self.last_answer.get()
    }

    /// Records that the connection is open.
    fn opened(&self) {
        self.is_open.store(true, Ordering::Relaxed);
    }

    /// Records that either end has closed the connection.
    pub(super) fn closed(&self) {
        self.is_open.store(false, Ordering::Relaxed);
    }

    /// Counts a request that starts; returns how many have started.
    pub(crate) fn request_started(&self) -> u32 {
        self.active.fetch_add(1, Ordering::Relaxed);
        self.head_since_ms.store(0, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// Makes the request that has just started the last of this connection.
    pub(crate) fn take_no_more(&self) {
        self.last_request_seen.store(true, Ordering::Relaxed);
    }

    fn idle_until(&self, idle_timeout: Duration) -> Instant {
        if self.active.load(Ordering::Relaxed) > 0 {
            return Instant::now() + idle_timeout;
        }
        self.start + Duration::from_millis(self.idle_since_ms.load(Ordering::Relaxed)) + idle_timeout
    }
}

impl DownstreamConnection for ConnectionInfo {
    fn request_ended(&self, at: std::time::Instant) {
        let idle_since = at.saturating_duration_since(self.start.into_std()).as_millis();
        self.idle_since_ms.store(u64::try_from(idle_since).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.active.fetch_sub(1, Ordering::Relaxed);
    }

    fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Relaxed)
    }
}

/// Serves one connection to its end.
pub(crate) struct Connection<I> {
    pub(crate) io: I,
    pub(crate) info: Arc<ConnectionInfo>,
    pub(crate) stats: Arc<HttpStats>,
    pub(crate) lifetime: Lifetime,
    pub(crate) head_limit: Option<HeadLimit>,
    pub(crate) drain: DrainWatch,
}

impl<I: AsyncRead + AsyncWrite + Unpin + Send + 'static> Connection<I> {
    /// Returns the response that the codec has sent itself, if it has.
    pub(crate) async fn serve<S, B>(self, codecs: &Codecs, service: S) -> Option<Unserved>
    where
        S: hyper::service::Service<Request<Incoming>, Response = Response<B>>,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        B: http_body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        StreamExecutor: hyper::rt::bounds::Http2ServerConnExec<Pin<Box<S::Future>>, B>,
    {
        let Self { io, info, stats, lifetime, head_limit, mut drain } = self;
        let counted = CountedConnection::new(Arc::clone(&stats));
        info.opened();
        let mut io = DownstreamIo::new(io, Arc::clone(&info), Arc::clone(&stats));
        let protocol = match codecs.codec_type {
            Codec::Http1 => Protocol::Http1,
            Codec::Http2 => Protocol::Http2,
            Codec::Auto => detect(&mut io, &mut drain, lifetime.idle_timeout).await?,
        };
        let mut driver = Driver::new(Arc::clone(&info), Arc::clone(&stats), lifetime, drain, protocol);
        let ended = match protocol {
            Protocol::Http1 => {
                let io = TokioIo::new(if head_limit.is_some() { io.timing_heads() } else { io });
                driver.head = HeadTimer::new(head_limit);
                let _active = counted.http1();
                let connection = pin!(codecs.http1.serve_connection(io, service).with_upgrades());
                driver.drive(connection, http1::UpgradeableConnection::graceful_shutdown).await
            }
            Protocol::Http2 => {
                let _active = counted.http2();
                // hyper moves the future of a stream several times before it runs, and those of requests are some
                // kilobytes. With the box, a gRPC request of the proxy needs 5 % fewer instructions.
                let service = service_fn(|request| Box::pin(service.call(request)));
                let connection = pin!(codecs.http2().serve_connection(TokioIo::new(io.ending_later()), service));
                driver.drive(connection, http2::Connection::graceful_shutdown).await
            }
        };
        let error = ended.err()?;
        tracing::debug!(%error, "downstream connection ended");
        unserved(&error, &info, &stats)
    }
}

/// The response of the codec, if the connection ended with `error` because it received no valid request.
fn unserved(error: &hyper::Error, info: &ConnectionInfo, stats: &HttpStats) -> Option<Unserved> {
    if let (Some(_), Some(since)) = (info.last_answer(), info.head_since()) {
        return Some(Unserved { reply: LocalReply::REQUEST_HEADER_TIMEOUT, since: since.into_std() });
    }
    if !error.is_parse() {
        return None;
    }
    stats.downstream_cx_protocol_error.inc();
    let reply = if error.is_parse_too_large() { LocalReply::HEADERS_TOO_LARGE } else { LocalReply::BAD_REQUEST };
    // hyper's responses have no body.
    Some(Unserved { reply: LocalReply { body: "".into(), ..reply }, since: now() })
}

/// Detects the protocol; `None` if the connection ends, drains or is idle for too long before.
async fn detect<I: AsyncRead + Unpin>(
    io: &mut DownstreamIo<I>,
    drain: &mut DrainWatch,
    idle_timeout: Option<Duration>,
) -> Option<Protocol> {
    let drained = drain.reached(Phase::Closing);
    let idle = async {
        match idle_timeout {
            Some(idle_timeout) => tokio::time::sleep(idle_timeout).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        detected = io.detect() => detected.ok().flatten(),
        () = drained => None,
        () = idle => None,
    }
}

struct Driver {
    info: Arc<ConnectionInfo>,
    stats: Arc<HttpStats>,
    lifetime: Lifetime,
    drain: DrainWatch,
    protocol: Protocol,
    head: HeadTimer,
    timer: Option<Pin<Box<Sleep>>>,
    timer_is_armed: bool,
    is_closing: bool,
}

impl Driver {
    fn new(
        info: Arc<ConnectionInfo>,
        stats: Arc<HttpStats>,
        lifetime: Lifetime,
        drain: DrainWatch,
        protocol: Protocol,
    ) -> Self {
        let mut driver = Self {
            info,
            stats,
            lifetime,
            drain,
            protocol,
            head: HeadTimer::new(None),
            timer: None,
            timer_is_armed: false,
            is_closing: false,
        };
        driver.timer = driver.deadline().map(|at| Box::pin(tokio::time::sleep_until(at)));
        driver
    }

    /// Polls `connection` to its end. `graceful_shutdown` makes it finish the requests in flight and accept no more.
    async fn drive<C>(&mut self, mut connection: Pin<&mut C>, graceful_shutdown: fn(Pin<&mut C>)) -> hyper::Result<()>
    where
        C: Future<Output = hyper::Result<()>>,
    {
        let ended = std::future::poll_fn(|cx| {
            let mut closes = false;
            while let Poll::Ready(phase) = self.drain.poll_change(cx) {
                match phase {
                    // The client of an idle HTTP/1 connection may be sending a request; the next response closes it.
                    Phase::Draining if self.protocol == Protocol::Http1 => {}
                    Phase::Closed => return Poll::Ready(Ok(())),
                    _ => {
                        self.stats.downstream_cx_drain_close.inc();
                        closes = true;
                    }
                }
            }
            while self.poll_timer(cx) {
                closes |= self.handle_timeout();
            }
            if closes {
                self.close();
                graceful_shutdown(connection.as_mut());
            }
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                return Poll::Ready(ended);
            }
            if self.protocol == Protocol::Http2
                && self.info.last_request_seen.load(Ordering::Relaxed)
                && !self.is_closing
            {
                self.close();
                graceful_shutdown(connection.as_mut());
                return connection.as_mut().poll(cx);
            }
            if let Poll::Ready(answer) = self.head.poll_expired(&self.info, cx)
                && self.info.last_answer.set(answer).is_ok()
            {
                self.stats.downstream_rq_header_timeout.inc();
                return connection.as_mut().poll(cx);
            }
            Poll::Pending
        })
        .await;
        self.info.closed();
        ended
    }

    fn close(&mut self) {
        self.is_closing = true;
        self.timer = None;
    }

    /// Whether the timer has fired. Once polled, it wakes the task, so that later only its state is checked.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(timer) = &mut self.timer else { return false };
        if self.timer_is_armed {
            return timer.is_elapsed();
        }
        self.timer_is_armed = true;
        timer.as_mut().poll(cx).is_ready()
    }

    /// Whether the connection is to be closed. Otherwise the timer is set again.
    fn handle_timeout(&mut self) -> bool {
        let now = Instant::now();
        let is_old = self.lifetime.max_connection_duration.is_some_and(|max| self.info.start + max <= now);
        let is_idle = self.lifetime.idle_timeout.is_some_and(|timeout| self.info.idle_until(timeout) <= now);
        if is_old {
            self.stats.downstream_cx_max_duration_reached.inc();
        } else if is_idle {
            self.stats.downstream_cx_idle_timeout.inc();
        }
        if is_old || is_idle {
            self.timer = None;
            return true;
        }
        if let (Some(at), Some(timer)) = (self.deadline(), &mut self.timer) {
            timer.as_mut().reset(at);
            self.timer_is_armed = false;
        }
        false
    }

    fn deadline(&self) -> Option<Instant> {
        let idle = self.lifetime.idle_timeout.map(|timeout| self.info.idle_until(timeout));
        let old = self.lifetime.max_connection_duration.map(|max| self.info.start + max);
        match (idle, old) {
            (Some(idle), Some(old)) => Some(idle.min(old)),
            (idle, old) => idle.or(old),
        }
    }
}

/// Counts a connection in the gauges until this is dropped.
struct CountedConnection(Arc<HttpStats>);

struct Active<'a>(&'a mesh_core::telemetry::Gauge);

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
