//! HTTP/2 connections.
//!
//! A connection is shared by many requests, so its I/O is done by a spawned task. Everything else is done in the tasks of
//! the requests, with h2 itself: hyper's client would add a queue, a channel and two spawned tasks for each request. The
//! frames that several requests have queued leave in one write, because the connection's task runs after theirs.
//!
//! The future that waits for the response headers also sends the request body ([`SendBody`]). If the response begins before
//! the request has ended, the rest of the upload is spawned, because it must continue even while the response is not read.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use h2::{
    Reason,
    client::{Builder, SendRequest},
};
use http::{Request, Response};
use http_body::Body as _;
use mesh_core::{http1, model::HttpProtocolOptions, retry::ResetReason};

use super::{connecting::PooledStream, http2_body::Http2Body, http2_upload::Upload, lifetime::Lifetime};
use crate::{
    Body, Call, ConnectionInfo, TransportError,
    http2::{Flusher, Http2Io, Keepalive, Payload, PingRequest, SendBody, Traffic},
    timer::now,
};

/// A connection.
pub(crate) struct Http2Connection {
    sender: SendRequest<Payload>,
    max_concurrent_streams: usize,
    traffic: Arc<Traffic>,
    requests: AtomicU32,
    /// When the last stream ended, in milliseconds since the connection was made.
    unused_since: AtomicU64,
    is_closed: AtomicBool,
    lifetime: Lifetime,
    /// Requests a PING before a request, if the connection has been idle for this time.
    ping_after_idle: Option<(Duration, Arc<PingRequest>)>,
}

impl Http2Connection {
    pub(super) async fn handshake(
        stream: PooledStream,
        options: &HttpProtocolOptions,
        lifetime: Lifetime,
    ) -> Result<Arc<Self>, TransportError> {
        let (io, flusher) = Http2Io::client(stream);
        let (sender, mut driver) = Builder::new()
            .enable_push(false)
            .initial_window_size(options.initial_stream_window_size)
            .initial_connection_window_size(options.initial_connection_window_size)
            .max_header_list_size(options.max_response_headers_kb.unwrap_or(60).saturating_mul(1024))
            .handshake(io)
            .await
            .map_err(TransportError::from_h2)?;
        let pings = options.connection_keepalive.and_then(|settings| Some((settings, driver.ping_pong()?)));
        let keepalive = pings.map(|(settings, pings)| Keepalive::new(settings, pings));
        let idle_interval = options.connection_keepalive.and_then(|settings| settings.connection_idle_interval);
        let connection = Arc::new(Self {
            ping_after_idle: idle_interval.zip(keepalive.as_ref().map(Keepalive::ping_request)),
            sender,
            max_concurrent_streams: usize::try_from(options.max_concurrent_streams).unwrap_or(usize::MAX),
            traffic: Arc::clone(flusher.traffic()),
            requests: AtomicU32::new(0),
            unused_since: AtomicU64::new(0),
            is_closed: AtomicBool::new(false),
            lifetime,
        });
        tokio::spawn(Driving { connection: Arc::downgrade(&connection), driver, flusher, keepalive });
        Ok(connection)
    }

    /// Reserves a stream, unless the connection takes no more requests or has as many streams as it may have.
    pub(super) fn try_reserve(self: &Arc<Self>, now: Instant) -> Option<Http2Stream> {
        if self.is_closed() || self.lifetime.has_expired(Duration::ZERO, now) {
            return None;
        }
        if let Some((idle_time, ping)) = &self.ping_after_idle
            && self.unused(now).is_some_and(|unused| unused >= *idle_time)
        {
            ping.request();
        }
        let limit = self.max_concurrent_streams.min(self.sender.current_max_send_streams());
        if !self.traffic.try_open(limit) {
            return None;
        }
        if self.lifetime.has_reached_max_requests(self.requests.fetch_add(1, Ordering::AcqRel) + 1) {
            self.is_closed.store(true, Ordering::Release);
        }
        Some(Http2Stream { connection: Arc::clone(self) })
    }

    /// The number of open streams.
    fn streams(&self) -> usize {
        self.traffic.streams()
    }

    /// Whether the connection takes no more requests.
    fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Whether the connection has no stream and either takes no more requests or has reached a time limit.
    pub(super) fn is_expired(&self, now: Instant) -> bool {
        self.unused(now).is_some_and(|unused| self.is_closed() || self.lifetime.has_expired(unused, now))
    }

    /// How long the connection has had no stream; `None` if it has one.
    fn unused(&self, now: Instant) -> Option<Duration> {
        let since = self.lifetime.opened() + Duration::from_millis(self.unused_since.load(Ordering::Acquire));
        (self.streams() == 0).then(|| now.saturating_duration_since(since))
    }

    /// Takes no more requests if the endpoint has sent a GOAWAY.
    fn heed_go_away(self: &Arc<Self>) {
        if self.traffic.is_going_away() && self.lifetime.count_go_away() {
            self.close();
        }
    }

    /// Takes no more requests if `error` shows that the endpoint accepts none. Returns whether the endpoint has not processed
    /// the request that failed with `error`: a GOAWAY names the last stream that it has processed (RFC 9113 section 6.8), and
    /// REFUSED_STREAM says so (section 8.7).
    fn has_refused(self: &Arc<Self>, error: &h2::Error) -> bool {
        self.heed_go_away();
        if error.is_go_away() || error.is_io() {
            self.close();
        }
        if !error.is_remote() {
            return false;
        }
        let is_refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
        // Until the endpoint's settings arrive, it may have to refuse streams beyond its limit. The others are not refused.
        if is_refused && self.streams() <= self.sender.current_max_send_streams() {
            self.close();
        }
        is_refused || error.is_go_away()
    }

    fn close(self: &Arc<Self>) {
        self.is_closed.store(true, Ordering::Release);
        if let Some(pool) = self.lifetime.pool() {
            pool.retire(self);
        }
    }

    fn stream_ended(self: &Arc<Self>) {
        let is_last = self.traffic.close();
        if is_last {
            let open = now().saturating_duration_since(self.lifetime.opened());
            self.unused_since.store(u64::try_from(open.as_millis()).unwrap_or(u64::MAX), Ordering::Release);
        }
        let Some(pool) = self.lifetime.pool() else { return };
        if is_last && self.is_closed() {
            pool.retire(self);
        } else {
            pool.serve(self);
        }
    }
}

/// The task that does the I/O of a connection.
struct Driving {
    connection: Weak<Http2Connection>,
    driver: h2::client::Connection<Http2Io<PooledStream>, Payload>,
    flusher: Flusher<PooledStream>,
    keepalive: Option<Keepalive>,
}

impl Future for Driving {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { connection, driver, flusher, keepalive } = &mut *self;
        if keepalive.as_mut().is_some_and(|keepalive| keepalive.poll_expired(cx).is_ready()) {
            if let Some(connection) = connection.upgrade() {
                connection.lifetime.count_keepalive_timeout();
            }
            return Poll::Ready(());
        }
        // Each stream gets the error from h2.
        let ended = Pin::new(driver).poll(cx).map(|_| ());
        flusher.end_turn(cx);
        if flusher.traffic().is_going_away()
            && let Some(connection) = connection.upgrade()
        {
            connection.heed_go_away();
        }
        ended
    }
}

impl Drop for Driving {
    /// Runs before the byte stream is dropped, which counts how the connection has ended.
    fn drop(&mut self) {
        if let Some(connection) = self.connection.upgrade() {
            connection.lifetime.set_in_use(connection.streams() > 0);
            connection.close();
        }
    }
}

impl fmt::Debug for Http2Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http2Connection")
            .field("traffic", &self.traffic)
            .field("is_closed", &self.is_closed)
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}

/// A reserved stream, held until the response has ended.
#[derive(Debug)]
pub(crate) struct Http2Stream {
    connection: Arc<Http2Connection>,
}

impl Http2Stream {
    pub(super) fn info(&self) -> ConnectionInfo<'_> {
        self.connection.lifetime.info()
    }

    /// The handle to send the request. Fails if the connection takes no more requests.
    pub(super) fn sender(&self) -> Result<SendRequest<Payload>, TransportError> {
        let mut sender = self.connection.sender.clone();
        match sender.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Err(error)) => Err(self.failed(error)),
            // A sender that has sent no request never waits.
            Poll::Ready(Ok(())) | Poll::Pending => Ok(sender),
        }
    }

    /// Sends `request`, waits for the response headers and puts the response into `call`. If the endpoint has refused the
    /// stream, the body is returned to `call`, which has kept the head.
    pub(super) async fn exchange(
        self,
        mut sender: SendRequest<Payload>,
        request: Request<Body>,
        call: &mut Call,
    ) -> Result<(), TransportError> {
        let (parts, body) = request.into_parts();
        let ends_with_headers = body.is_end_stream();
        let (mut response, send) = match sender.send_request(Request::from_parts(parts, ()), ends_with_headers) {
            Ok(sent) => sent,
            Err(error) => {
                if self.connection.has_refused(&error) {
                    call.restore_body(body);
                }
                return Err(TransportError::from_h2(error));
            }
        };
        let mut upload = (!ends_with_headers).then(|| SendBody::new(Upload::new(body), send));
        let mut is_request_sent = ends_with_headers;
        let mut has_interim = false;
        let responded = poll_fn(|cx| {
            if let Some(sending) = &mut upload
                && !is_request_sent
            {
                is_request_sent = Pin::new(sending).poll(cx).is_ready();
            }
            if call.interim.is_some() {
                while let Poll::Ready(Some(Ok(response))) = response.poll_informational(cx) {
                    has_interim = true;
                    let (head, ()) = response.into_parts();
                    call.respond_interim(head.status, head.headers);
                }
            }
            Pin::new(&mut response).poll(cx)
        })
        .await;
        let response = match responded {
            Ok(response) => response,
            Err(error) => {
                if self.connection.has_refused(&error) && !has_interim {
                    let body = upload.map_or_else(|| Some(Body::empty()), |upload| upload.into_body().unsent());
                    if let Some(body) = body {
                        call.restore_body(body);
                    }
                }
                return Err(TransportError::from_h2(error));
            }
        };
        if let Some(mut upload) = upload
            && !is_request_sent
        {
            upload.body_mut().keep_nothing();
            tokio::spawn(upload);
        }
        let (parts, receive) = response.into_parts();
        let max_headers = self.connection.lifetime.options().max_headers_count;
        if parts.headers.len() > max_headers as usize {
            return Err(TransportError::new(ResetReason::ProtocolError).with_source(http1::Error::TooManyHeaders));
        }
        let body = Http2Body::new(&parts.headers, receive, self, is_request_sent);
        let body = if body.is_end_stream() { Body::empty() } else { Body::new(body) };
        call.respond(Response::from_parts(parts, body));
        Ok(())
    }

    pub(super) fn failed(&self, error: h2::Error) -> TransportError {
        self.connection.has_refused(&error);
        TransportError::from_h2(error)
    }
}

impl Drop for Http2Stream {
    fn drop(&mut self) {
        self.connection.stream_ended();
    }
}
