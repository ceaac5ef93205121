//! The task of an HTTP/2 connection.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use h2::{
    Reason, RecvStream,
    server::{Connection, SendResponse},
};
use http::{Request, Response, header};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    super::lifecycle::{Ending, Lifecycle},
    Http2,
    body::request_body,
    stream::{self, Stream},
};
use crate::{
    Body, ResponseBody,
    call::Interim,
    http2::{Flusher, Http2Io, Keepalive, Payload},
    timer::{Deadline, now},
};

/// Reads and writes the frames of a connection, and spawns a task for each request.
pub(super) struct Driver<'a, I, S> {
    connection: Connection<Http2Io<I>, Payload>,
    flusher: Flusher<I>,
    service: &'a S,
    lifecycle: Lifecycle,
    keepalive: Option<Keepalive>,
    closing: Option<Closing>,
    config: &'a Http2,
}

/// A connection whose client was told that it ends.
struct Closing {
    /// When it is checked whether the connection can be closed.
    check_at: Deadline,
    /// Bytes written at the last check.
    bytes_written: u64,
    /// The last GOAWAY has been queued.
    is_last_word_said: bool,
}

/// The time between the notice that the connection ends and its end, if the client is idle or does not respond. Envoy's
/// default of `HttpConnectionManager.drain_timeout`.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

impl<'a, I, S, F> Driver<'a, I, S>
where
    I: AsyncRead + AsyncWrite + Unpin,
    S: Fn(Request<Body>, Option<Interim>) -> F,
    F: Future<Output = Response<ResponseBody>> + Send + 'static,
{
    pub(super) fn new(
        mut connection: Connection<Http2Io<I>, Payload>,
        flusher: Flusher<I>,
        service: &'a S,
        lifecycle: Lifecycle,
        config: &'a Http2,
    ) -> Self {
        let pings = config.keepalive.and_then(|settings| Some((settings, connection.ping_pong()?)));
        let keepalive = pings.map(|(settings, pings)| Keepalive::new(settings, pings));
        Self { connection, flusher, service, lifecycle, keepalive, closing: None, config }
    }

    /// Tells the client that the connection ends: it is to send no more requests.
    fn begin_closing(&mut self) {
        self.connection.graceful_shutdown();
        self.closing.get_or_insert_with(|| Closing {
            check_at: Deadline::new(now().checked_add(DRAIN_TIMEOUT)),
            bytes_written: self.flusher.traffic().bytes_written(),
            is_last_word_said: false,
        });
    }

    /// Ready when the connection can be closed although the client has not acknowledged its end: no request is active, and the
    /// client reads nothing more, or has nothing to read.
    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(closing) = &mut self.closing else { return Poll::Pending };
        while closing.check_at.poll_expired(cx).is_ready() {
            let bytes_written = self.flusher.traffic().bytes_written();
            let is_stalled = bytes_written == closing.bytes_written;
            if self.flusher.traffic().streams() == 0 {
                if !self.connection.has_streams() && !closing.is_last_word_said {
                    closing.is_last_word_said = true;
                    self.connection.abrupt_shutdown(Reason::NO_ERROR);
                } else if is_stalled {
                    return Poll::Ready(());
                }
            }
            closing.bytes_written = bytes_written;
            closing.check_at.set(now().checked_add(DRAIN_TIMEOUT));
        }
        Poll::Pending
    }

    fn spawn(&self, request: Request<RecvStream>, respond: SendResponse<Payload>) {
        let (mut head, receive) = request.into_parts();
        let kind = stream::to_http1_form(&mut head);
        let body = request_body(&head.headers, receive, self.config);
        // Few requests have interim responses.
        let has_interim = self.config.proxy_100_continue || head.headers.contains_key(header::EXPECT);
        let interim = has_interim.then(Interim::default);
        // tokio moves the future of a task several times before it runs, and those of requests are some kilobytes. With the box, a
        // gRPC request of the proxy needs 3 % fewer instructions.
        let answer = Box::pin((self.service)(Request::from_parts(head, body), interim.clone()));
        // The task ends with the stream, and all streams end with their connection.
        tokio::spawn(Stream::new(answer, respond, interim, kind, Arc::clone(self.flusher.traffic())));
    }
}

impl<I, S, F> Future for Driver<'_, I, S>
where
    I: AsyncRead + AsyncWrite + Unpin,
    S: Fn(Request<Body>, Option<Interim>) -> F,
    F: Future<Output = Response<ResponseBody>> + Send + 'static,
{
    type Output = Result<(), h2::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        match this.lifecycle.poll_ending(cx) {
            Poll::Ready(Ending::Abrupt) => return Poll::Ready(Ok(())),
            Poll::Ready(Ending::Graceful) => this.begin_closing(),
            Poll::Pending => {}
        }
        if this.poll_closed(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        if this.keepalive.as_mut().is_some_and(|keepalive| keepalive.poll_expired(cx).is_ready()) {
            return Poll::Ready(Ok(()));
        }
        loop {
            match this.connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => this.spawn(request, respond),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => break,
            }
        }
        this.flusher.end_turn(cx);
        Poll::Pending
    }
}
