//! HTTP/2 connections.
//!
//! A connection is shared by many requests, so its I/O is done by a spawned task. Everything else is done in the tasks of
//! the requests, with h2 itself: hyper's client would add a queue, a channel and two spawned tasks for each request. The
//! frames that several requests have queued leave in one write, because the connection's task runs after theirs.
//!
//! The future that waits for the response headers also sends the request body ([`Upload`]). If the response begins before
//! the request has ended, the rest of the upload is spawned, because it must continue even while the response is not read.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::{
    Reason, SendStream,
    client::{Builder, SendRequest},
};
use http::{Request, Response};
use http_body::Body as _;
use mesh_core::model::HttpProtocolOptions;

use super::{
    connecting::PooledStream,
    http2_body::Http2Body,
    http2_keepalive::{Keepalive, PingRequest},
    lifetime::Lifetime,
};
use crate::{Body, ConnectionInfo, TransportError, timer::now};

/// A connection.
pub(crate) struct Http2Connection {
    sender: SendRequest<Bytes>,
    max_concurrent_streams: usize,
    streams: AtomicUsize,
    requests: AtomicU32,
    /// When the last stream ended, in milliseconds since the connection was made.
    unused_since: AtomicU64,
    is_closed: AtomicBool,
    lifetime: Lifetime,
    /// Requests a PING before a request, if the connection has been idle for this time.
    ping_after_idle: Option<(Duration, Arc<PingRequest>)>,
}

impl Http2Connection {
    /// Maximum size of response headers and trailers; Envoy's default of 60 KiB.
    const MAX_HEADER_LIST_SIZE: u32 = 60 * 1024;

    pub(super) async fn handshake(
        stream: PooledStream,
        options: &HttpProtocolOptions,
        lifetime: Lifetime,
    ) -> Result<Arc<Self>, TransportError> {
        let (sender, mut driver) = Builder::new()
            .enable_push(false)
            .initial_window_size(options.initial_stream_window_size)
            .initial_connection_window_size(options.initial_connection_window_size)
            .max_header_list_size(Self::MAX_HEADER_LIST_SIZE)
            .handshake(stream)
            .await
            .map_err(TransportError::from_h2)?;
        let pings = options.connection_keepalive.and_then(|settings| Some((settings, driver.ping_pong()?)));
        let keepalive = pings.map(|(settings, pings)| Keepalive::new(settings, pings));
        let idle_interval = options.connection_keepalive.and_then(|settings| settings.connection_idle_interval);
        let connection = Arc::new(Self {
            ping_after_idle: idle_interval.zip(keepalive.as_ref().map(Keepalive::ping_request)),
            sender,
            max_concurrent_streams: usize::try_from(options.max_concurrent_streams).unwrap_or(usize::MAX),
            streams: AtomicUsize::new(0),
            requests: AtomicU32::new(0),
            unused_since: AtomicU64::new(0),
            is_closed: AtomicBool::new(false),
            lifetime,
        });
        tokio::spawn(Driving { connection: Arc::downgrade(&connection), driver, keepalive });
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
        self.streams
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |open| (open < limit).then_some(open + 1))
            .ok()?;
        if self.lifetime.has_reached_max_requests(self.requests.fetch_add(1, Ordering::AcqRel) + 1) {
            self.is_closed.store(true, Ordering::Release);
        }
        Some(Http2Stream { connection: Arc::clone(self) })
    }

    /// The number of open streams.
    fn streams(&self) -> usize {
        self.streams.load(Ordering::Acquire)
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

    /// Closes the connection because of `error`.
    fn close_after(self: &Arc<Self>, error: &h2::Error) {
        self.count_go_away(error);
        self.close();
    }

    /// Counts the GOAWAY that `error` stands for, if it is one. h2 reports a GOAWAY only if it is an
    /// error or refuses streams.
    fn count_go_away(&self, error: &h2::Error) {
        if error.is_go_away() && error.is_remote() {
            self.lifetime.count_go_away();
        }
    }

    fn close(self: &Arc<Self>) {
        self.is_closed.store(true, Ordering::Release);
        if let Some(pool) = self.lifetime.pool() {
            pool.retire(self);
        }
    }

    fn stream_ended(self: &Arc<Self>) {
        let is_last = self.streams.fetch_sub(1, Ordering::AcqRel) == 1;
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
    driver: h2::client::Connection<PooledStream>,
    keepalive: Option<Keepalive>,
}

impl Future for Driving {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { connection, driver, keepalive } = &mut *self;
        if keepalive.as_mut().is_some_and(|keepalive| keepalive.poll_expired(cx).is_ready()) {
            if let Some(connection) = connection.upgrade() {
                connection.lifetime.count_keepalive_timeout();
            }
            return Poll::Ready(());
        }
        // Each stream gets the error from h2.
        if let (Err(error), Some(connection)) = (ready!(Pin::new(driver).poll(cx)), connection.upgrade()) {
            connection.count_go_away(&error);
        }
        Poll::Ready(())
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
            .field("streams", &self.streams)
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

    /// Sends `request` and waits for the response headers.
    pub(super) async fn exchange(self, request: Request<Body>) -> Result<Response<Body>, TransportError> {
        let (parts, body) = request.into_parts();
        let ends_with_headers = body.is_end_stream();
        let head = Request::from_parts(parts, ());
        let (mut response, send) = match self.connection.sender.clone().send_request(head, ends_with_headers) {
            Ok(sent) => sent,
            Err(error) => {
                self.connection.close_after(&error);
                return Err(TransportError::from_h2(error));
            }
        };
        let mut upload = (!ends_with_headers).then(|| Upload::new(body, send));
        let response = poll_fn(|cx| {
            if let Some(sending) = &mut upload
                && Pin::new(sending).poll(cx).is_ready()
            {
                upload = None;
            }
            Pin::new(&mut response).poll(cx)
        })
        .await
        .map_err(|error| self.failed(error))?;
        let is_request_sent = upload.is_none();
        if let Some(upload) = upload {
            tokio::spawn(upload);
        }
        let (parts, receive) = response.into_parts();
        let body = Http2Body::new(&parts.headers, receive, self, is_request_sent);
        let body = if body.is_end_stream() { Body::empty() } else { Body::new(body) };
        Ok(Response::from_parts(parts, body))
    }

    pub(super) fn failed(&self, error: h2::Error) -> TransportError {
        if error.is_go_away() || error.is_io() {
            self.connection.close_after(&error);
        }
        TransportError::from_h2(error)
    }
}

impl Drop for Http2Stream {
    fn drop(&mut self) {
        self.connection.stream_ended();
    }
}

/// Sends a request body. Resolves when h2 has all of it, or when the stream does not need it any more. Errors are reported
/// by the response.
struct Upload {
    body: Body,
    send: SendStream<Bytes>,
    /// Data that was read from the body and waits for the flow-control window.
    pending: Option<Bytes>,
}

impl Upload {
    fn new(body: Body, send: SendStream<Bytes>) -> Self {
        Self { body, send, pending: None }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Reason>> {
        loop {
            if self.pending.is_some() {
                ready!(self.poll_pending(cx))?;
            }
            if self.send.poll_reset(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(cx)) else {
                return Poll::Ready(self.end());
            };
            match frame.map_err(|_| Reason::CANCEL)?.into_data() {
                Ok(data) if self.body.is_end_stream() => return Poll::Ready(self.send_data(data, true)),
                Ok(data) if data.is_empty() => {}
                Ok(data) => {
                    self.send.reserve_capacity(data.len());
                    self.pending = Some(data);
                }
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    return Poll::Ready(self.send.send_trailers(trailers).map_err(|_| Reason::INTERNAL_ERROR));
                }
            }
        }
    }

    /// Sends as much of the pending data as the window allows.
    fn poll_pending(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Reason>> {
        while let Some(data) = &mut self.pending {
            let Some(Ok(window)) = ready!(self.send.poll_capacity(cx)) else {
                return Poll::Ready(Err(Reason::CANCEL));
            };
            let part = data.split_to(window.min(data.len()));
            if data.is_empty() {
                self.pending = None;
            }
            self.send_data(part, false)?;
        }
        Poll::Ready(Ok(()))
    }

    fn send_data(&mut self, data: Bytes, end_of_stream: bool) -> Result<(), Reason> {
        self.send.send_data(data, end_of_stream).map_err(|_| Reason::INTERNAL_ERROR)
    }

    fn end(&mut self) -> Result<(), Reason> {
        self.send_data(Bytes::new(), true)
    }
}

impl Future for Upload {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.poll_send(cx)).unwrap_or_else(|reason| self.send.send_reset(reason));
        Poll::Ready(())
    }
}
