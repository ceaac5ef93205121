//! HTTP/1.1 connections.
//!
//! hyper splits a connection into a handle that takes requests and a future that does the I/O, the driver. The driver is
//! meant to be spawned, but then every request would have to switch tasks twice. Here the task of the request polls the
//! driver: [`Http1Connection::exchange`] polls it until it has the response headers, then [`Http1Body`] until the body has
//! ended. Then the connection returns to its pool. An idle connection is not polled; whether the endpoint has closed it
//! meanwhile is found out before the next request ([`Http1Connection::is_usable`]).
//!
//! Driver and response are polled by the same task. So the response is polled without a waker; with one, the task would
//! only wake itself.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::Instant,
};

use bytes::Bytes;
use http::{Method, Request, header::UPGRADE};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::{
    body::Incoming,
    client::conn::{
        TrySendError,
        http1::{Builder, Connection, SendRequest},
    },
};
use hyper_util::rt::TokioIo;

use super::{ResetReason, connecting::PooledStream, lifetime::Lifetime};
use crate::{Body, BoxError, Call, ConnectionInfo, TransportError};

/// A connection, idle or with a request.
pub(crate) struct Http1Connection {
    sender: SendRequest<Body>,
    driver: Connection<TokioIo<PooledStream>, Body>,
    /// How the driver has ended, if it has.
    ended: Option<Ended>,
    requests: u32,
    unused_since: Instant,
    lifetime: Lifetime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// Without an error: after the last exchange, or because the endpoint has closed the connection.
    Well,
    Broken,
}

impl Http1Connection {
    pub(super) async fn handshake(stream: PooledStream, lifetime: Lifetime) -> Result<Box<Self>, TransportError> {
        let (sender, driver) =
            Builder::new().handshake(TokioIo::new(stream)).await.map_err(TransportError::from_hyper)?;
        let unused_since = lifetime.opened();
        Ok(Box::new(Self { sender, driver, ended: None, requests: 0, unused_since, lifetime }))
    }

    /// Whether the idle connection can take a request: it has reached no time limit, and the endpoint has neither closed it
    /// nor sent anything unexpected.
    pub(super) fn is_usable(&mut self, now: Instant, cx: &mut Context<'_>) -> bool {
        let unused = now.saturating_duration_since(self.unused_since);
        !self.lifetime.has_expired(unused, now) && self.is_alive(cx)
    }

    fn is_alive(&mut self, cx: &mut Context<'_>) -> bool {
        poll_driver(&mut self.driver, &mut self.ended, cx);
        self.ended.is_none() && !self.sender.is_closed()
    }

    pub(super) fn info(&self) -> ConnectionInfo<'_> {
        self.lifetime.info()
    }

    /// Sets when the connection became idle.
    pub(super) fn unused_since(&mut self, now: Instant) {
        self.unused_since = now;
    }

    /// Returns the idle connection to its pool.
    pub(super) fn release(self: Box<Self>) {
        if let Some(pool) = self.lifetime.pool() {
            pool.offer(self);
        }
    }

    /// Sends `request`, waits for the response headers and puts the response into `call`. The body of the response returns
    /// the connection to its pool. If no byte of the request was sent, the request is returned to `call`.
    pub(super) async fn exchange(
        mut self: Box<Self>,
        request: Request<Body>,
        call: &mut Call,
    ) -> Result<(), TransportError> {
        if asks_for_upgrade(&request) {
            return self.upgrade(request, call).await;
        }
        self.requests += 1;
        self.lifetime.set_in_use(true);
        let mut response = pin!(self.sender.try_send_request(request));
        let outcome = poll_fn(|cx| {
            poll_driver(&mut self.driver, &mut self.ended, cx);
            poll_within_task(cx, |cx| response.as_mut().poll(cx))
        })
        .await;
        match outcome {
            Ok(response) if response.body().is_end_stream() => {
                let mut connection = Some(self);
                poll_fn(|cx| Poll::Ready(connection.take().map(|connection| connection.finish(cx)))).await;
                call.respond(response.map(|_| Body::empty()));
            }
            Ok(response) => {
                call.respond(response.map(|incoming| Body::new(Http1Body { incoming, connection: Some(self) })));
            }
            Err(error) => {
                let error = failed(error, call);
                self.lifetime.set_in_use(call.is_sent());
                return Err(error);
            }
        }
        Ok(())
    }

    /// Sends a request that may switch protocols. The connection does not return to its pool. Its driver is spawned, because
    /// an upgraded connection has no response body that would poll it.
    async fn upgrade(self: Box<Self>, request: Request<Body>, call: &mut Call) -> Result<(), TransportError> {
        let Self { mut sender, driver, lifetime, .. } = *self;
        lifetime.set_in_use(true);
        tokio::spawn(async move {
            // The response or the upgraded stream gets the error.
            let _ = driver.with_upgrades().await;
        });
        let response = sender.try_send_request(request).await.map_err(|error| failed(error, call))?;
        call.respond(response.map(Body::from));
        Ok(())
    }

    /// Returns the connection to its pool after the response. Closes it if it cannot be used again, such as when the endpoint
    /// responded before it had received the whole request.
    fn finish(mut self: Box<Self>, cx: &mut Context<'_>) {
        let is_spent = self.lifetime.has_reached_max_requests(self.requests);
        if !is_spent && self.is_alive(cx) && self.sender.is_ready() {
            self.lifetime.set_in_use(false);
            self.release();
        } else if is_spent || self.ended.is_some() {
            self.lifetime.set_in_use(false);
            if self.ended == Some(Ended::Well) {
                self.lifetime.count_close_notify();
            }
        }
    }
}

impl fmt::Debug for Http1Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http1Connection").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

fn asks_for_upgrade(request: &Request<Body>) -> bool {
    *request.method() == Method::CONNECT || request.headers().contains_key(UPGRADE)
}

/// Polls the driver, unless it has ended.
fn poll_driver(driver: &mut Connection<TokioIo<PooledStream>, Body>, ended: &mut Option<Ended>, cx: &mut Context<'_>) {
    if ended.is_none()
        && let Poll::Ready(result) = Pin::new(driver).poll(cx)
    {
        *ended = Some(if result.is_ok() { Ended::Well } else { Ended::Broken });
    }
}

/// The error of a request that failed on a connection. If no byte of the request was sent, the request is returned to `call`.
fn failed(mut error: TrySendError<Request<Body>>, call: &mut Call) -> TransportError {
    if let Some(request) = error.take_message() {
        call.restore(request);
    }
    TransportError::from_hyper(error.into_error())
}

/// Polls, without a waker, what only the driver in the same task can make ready.
///
/// There is one exception: when tokio's cooperative budget is used up, a poll returns pending and relies on its waker.
fn poll_within_task<T>(cx: &mut Context<'_>, poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    let polled = poll(&mut Context::from_waker(Waker::noop()));
    if polled.is_pending() && !tokio::task::coop::has_budget_remaining() {
        cx.waker().wake_by_ref();
    }
    polled
}

/// The body of a response. Reading it drives the connection.
#[derive(Debug)]
struct Http1Body {
    incoming: Incoming,
    connection: Option<Box<Http1Connection>>,
}

impl HttpBody for Http1Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let mut frame = this.poll_incoming(cx);
        if frame.is_pending()
            && let Some(connection) = &mut this.connection
        {
            poll_driver(&mut connection.driver, &mut connection.ended, cx);
            frame = this.poll_incoming(cx);
        }
        match &frame {
            Poll::Ready(None) => this.finish(cx),
            Poll::Ready(Some(Ok(_))) if this.incoming.is_end_stream() => this.finish(cx),
            Poll::Ready(Some(Err(_))) => this.connection = None,
            Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
        }
        // Envoy, too, treats a body that ends too early as a protocol error.
        frame.map_err(|error| TransportError::new(ResetReason::ProtocolError).with_source(error).into())
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Http1Body {
    fn finish(&mut self, cx: &mut Context<'_>) {
        if let Some(connection) = self.connection.take() {
            connection.finish(cx);
        }
    }

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        poll_within_task(cx, |cx| Pin::new(&mut self.incoming).poll_frame(cx))
    }
}
