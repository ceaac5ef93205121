//! One HTTP/2 connection, shared by many requests.
//!
//! The connection itself is a spawned task that moves frames, since no single request could drive it for the others.
//! Everything else happens in the task of the request, on h2 directly: hyper's client would add a queue, a reply channel
//! and two spawned tasks per request. Frames of all streams that are written in one turn of the loop leave in one write,
//! because the connection's task runs after theirs.
//!
//! While the response headers are awaited, the same future sends the request body ([`Upload`]). If the response begins
//! first, the rest of the upload becomes a task of its own: a bidirectional stream must go on sending while nobody reads.

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

use super::{connecting::PooledStream, http2_body::Http2Body, lifetime::Lifetime};
use crate::{Body, ConnectionInfo, TransportError, timer::now};

/// A connection that takes requests until it is told to go away.
pub(crate) struct Http2Connection {
    sender: SendRequest<Bytes>,
    max_concurrent_streams: usize,
    streams: AtomicUsize,
    requests: AtomicU32,
    /// Milliseconds from the connection's beginning to the moment its last stream ended.
    unused_since: AtomicU64,
    is_closed: AtomicBool,
    lifetime: Lifetime,
}

impl Http2Connection {
    /// Bytes of response headers and trailers taken; Envoy's default of 60 KiB.
    const MAX_HEADER_LIST_SIZE: u32 = 60 * 1024;

    pub(super) async fn handshake(
        stream: PooledStream,
        options: &HttpProtocolOptions,
        lifetime: Lifetime,
    ) -> Result<Arc<Self>, TransportError> {
        let (sender, driver) = Builder::new()
            .enable_push(false)
            .initial_window_size(options.initial_stream_window_size)
            .initial_connection_window_size(options.initial_connection_window_size)
            .max_header_list_size(Self::MAX_HEADER_LIST_SIZE)
            .handshake(stream)
            .await
            .map_err(|error| TransportError::from_h2(&error))?;
        let connection = Arc::new(Self {
            sender,
            max_concurrent_streams: usize::try_from(options.max_concurrent_streams).unwrap_or(usize::MAX),
            streams: AtomicUsize::new(0),
            requests: AtomicU32::new(0),
            unused_since: AtomicU64::new(0),
            is_closed: AtomicBool::new(false),
            lifetime,
        });
        tokio::spawn(Driving { connection: Arc::downgrade(&connection), driver });
        Ok(connection)
    }

    /// Takes a stream, unless as many are open as this connection may carry. Called under the lock of the pool, or for a
    /// connection that is not in it yet.
    pub(super) fn try_reserve(self: &Arc<Self>, now: Instant) -> Option<Http2Stream> {
        if self.is_closed() || self.lifetime.is_over(Duration::ZERO, now) {
            return None;
        }
        let limit = self.max_concurrent_streams.min(self.sender.current_max_send_streams());
        self.streams
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |open| (open < limit).then_some(open + 1))
            .ok()?;
        if self.lifetime.is_spent(self.requests.fetch_add(1, Ordering::AcqRel) + 1) {
            self.is_closed.store(true, Ordering::Release);
        }
        Some(Http2Stream { connection: Arc::clone(self) })
    }

    /// Streams open now.
    fn streams(&self) -> usize {
        self.streams.load(Ordering::Acquire)
    }

    /// Whether the connection takes no more requests.
    fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Whether the connection carries no stream and is closed, or is to be.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.unused(now).is_some_and(|unused| self.is_closed() || self.lifetime.is_over(unused, now))
    }

    /// How long the connection has carried no stream, if it carries none.
    fn unused(&self, now: Instant) -> Option<Duration> {
        let since = self.lifetime.opened() + Duration::from_millis(self.unused_since.load(Ordering::Acquire));
        (self.streams() == 0).then(|| now.saturating_duration_since(since))
    }

    /// `error` says that the connection takes no more requests.
    fn close_after(self: &Arc<Self>, error: &h2::Error) {
        self.note_go_away(error);
        self.close();
    }

    /// Only a GOAWAY that is an error, or that turns streams away, is told here.
    fn note_go_away(&self, error: &h2::Error) {
        if error.is_go_away() && error.is_remote() {
            self.lifetime.going_away();
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

/// Moves the frames of a connection until it ends, or until its runtime does.
struct Driving {
    connection: Weak<Http2Connection>,
    driver: h2::client::Connection<PooledStream>,
}

impl Future for Driving {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // Each of its streams learns by itself how the connection ended.
        if let (Err(error), Some(connection)) = (ready!(Pin::new(&mut self.driver).poll(cx)), self.connection.upgrade())
        {
            connection.note_go_away(&error);
        }
        Poll::Ready(())
    }
}

impl Drop for Driving {
    /// Before the byte stream is closed, which counts how the connection ended.
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

/// A place for one request on a connection, held until its response has ended.
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
                return Err(TransportError::from_h2(&error));
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
        .map_err(|error| self.failed(&error))?;
        let is_request_sent = upload.is_none();
        if let Some(upload) = upload {
            tokio::spawn(upload);
        }
        let (parts, receive) = response.into_parts();
        let body = Http2Body::new(&parts.headers, receive, self, is_request_sent);
        let body = if body.is_end_stream() { Body::empty() } else { Body::new(body) };
        Ok(Response::from_parts(parts, body))
    }

    pub(super) fn failed(&self, error: &h2::Error) -> TransportError {
        if error.is_go_away() || error.is_io() {
            self.connection.close_after(error);
        }
        TransportError::from_h2(error)
    }
}

impl Drop for Http2Stream {
    fn drop(&mut self) {
        self.connection.stream_ended();
    }
}

/// Sends a request body. Ready when all is handed over, or when the stream needs it no more; what went wrong, the
/// response tells.
struct Upload {
    body: Body,
    send: SendStream<Bytes>,
    /// A frame read from the body that waits for the flow-control window.
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

    /// Sends as much of the waiting frame as the window allows.
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
