//! One HTTP/1.1 connection, driven by whoever uses it.
//!
//! hyper splits a connection into a handle that takes requests and a future that does the I/O, meant to be spawned. A
//! spawned future costs every request two hand-overs between tasks. Here the future stays beside its handle, and the
//! task that awaits the response polls both: [`Http1Connection::exchange`] until the response headers are there, then
//! [`Http1Body`] until the body has ended. Then the connection goes back to its pool, where nobody polls it; what
//! happened meanwhile shows at the next checkout ([`Http1Connection::is_alive`]).
//!
//! What the driver hands to the response stays within the task, so the response is polled without a waker: a real one
//! would only make the task wake itself.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::Instant,
};

use bytes::Bytes;
use http::{Method, Request, Response, header::UPGRADE};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::{
    body::Incoming,
    client::conn::http1::{Builder, Connection, SendRequest},
};
use hyper_util::rt::TokioIo;

use super::{ResetReason, SendError, connecting::PooledStream, lifetime::Lifetime};
use crate::{Body, BoxError, ConnectionInfo, TransportError};

/// A connection between two requests, or serving one.
pub(crate) struct Http1Connection {
    sender: SendRequest<Body>,
    driver: Connection<TokioIo<PooledStream>, Body>,
    /// How the driver has ended.
    ended: Option<Ended>,
    requests: u32,
    unused_since: Instant,
    lifetime: Lifetime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// After an exchange that was to be the last, or because the endpoint has closed the connection.
    Well,
    Broken,
}

impl Http1Connection {
    pub(super) async fn handshake(stream: PooledStream, lifetime: Lifetime) -> Result<Box<Self>, TransportError> {
        let (sender, driver) =
            Builder::new().handshake(TokioIo::new(stream)).await.map_err(|error| TransportError::from_hyper(&error))?;
        let unused_since = lifetime.opened();
        Ok(Box::new(Self { sender, driver, ended: None, requests: 0, unused_since, lifetime }))
    }

    /// Whether the connection, unused until now, can take a request: looks at its limits, then polls it once to learn
    /// whether the server has closed it or has sent what nobody asked for.
    pub(super) fn is_usable(&mut self, now: Instant, cx: &mut Context<'_>) -> bool {
        let unused = now.saturating_duration_since(self.unused_since);
        !self.lifetime.is_over(unused, now) && self.is_alive(cx)
    }

    fn is_alive(&mut self, cx: &mut Context<'_>) -> bool {
        poll_driver(&mut self.driver, &mut self.ended, cx);
        self.ended.is_none() && !self.sender.is_closed()
    }

    pub(super) fn info(&self) -> ConnectionInfo<'_> {
        self.lifetime.info()
    }

    /// Begins to count the time without use.
    pub(super) fn unused_since(&mut self, now: Instant) {
        self.unused_since = now;
    }

    /// Goes back to its pool without having been used.
    pub(super) fn release(self: Box<Self>) {
        if let Some(pool) = self.lifetime.pool() {
            pool.offer(self);
        }
    }

    /// Sends `request` and waits for the response headers. The response's body brings the connection back to its pool.
    pub(super) async fn exchange(mut self: Box<Self>, request: Request<Body>) -> Result<Response<Body>, SendError> {
        if asks_for_upgrade(&request) {
            return self.upgrade(request).await;
        }
        self.requests += 1;
        self.lifetime.set_in_use(true);
        let mut response = pin!(self.sender.try_send_request(request));
        let outcome = poll_fn(|cx| {
            poll_driver(&mut self.driver, &mut self.ended, cx);
            poll_within_task(cx, |cx| response.as_mut().poll(cx))
        })
        .await;
        let response = outcome.map_err(SendError::from).inspect_err(|failed| {
            self.lifetime.set_in_use(failed.unsent.is_none());
        })?;
        let mut connection = Some(self);
        if response.body().is_end_stream() {
            poll_fn(|cx| {
                finish(&mut connection, cx);
                Poll::Ready(())
            })
            .await;
        }
        Ok(response.map(|incoming| {
            let body = Http1Body { incoming, connection };
            if body.is_end_stream() { Body::empty() } else { Body::new(body) }
        }))
    }

    /// Sends a request after which the connection may speak another protocol. It does not come back, whatever the
    /// answer, and is driven by a task of its own, since nobody reads a body that would drive it.
    async fn upgrade(self: Box<Self>, request: Request<Body>) -> Result<Response<Body>, SendError> {
        let Self { mut sender, driver, lifetime, .. } = *self;
        lifetime.set_in_use(true);
        tokio::spawn(async move {
            // How it ended is told to the response, or to the upgraded stream.
            let _ = driver.with_upgrades().await;
        });
        Ok(sender.try_send_request(request).await?.map(Body::from))
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

/// Gives the connection of an ended response back to its pool; closes it if it is not clean, such as when the server
/// answered before it had the whole request.
fn finish(connection: &mut Option<Box<Http1Connection>>, cx: &mut Context<'_>) {
    let Some(mut connection) = connection.take() else { return };
    let is_spent = connection.lifetime.is_spent(connection.requests);
    if !is_spent && connection.is_alive(cx) && connection.sender.is_ready() {
        connection.lifetime.set_in_use(false);
        connection.release();
    } else if is_spent || connection.ended.is_some() {
        connection.lifetime.set_in_use(false);
        if connection.ended == Some(Ended::Well) {
            connection.lifetime.ended_as_announced();
        }
    }
}

/// Polls what only the driver in this very task can make ready.
///
/// tokio's cooperative budget is the exception: when it is used up, a poll is pending without reason and counts on its
/// waker.
fn poll_within_task<T>(cx: &mut Context<'_>, poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    let polled = poll(&mut Context::from_waker(Waker::noop()));
    if polled.is_pending() && !tokio::task::coop::has_budget_remaining() {
        cx.waker().wake_by_ref();
    }
    polled
}

/// The body of a response, which drives its connection while it is read.
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
            Poll::Ready(None) => finish(&mut this.connection, cx),
            Poll::Ready(Some(Ok(_))) if this.incoming.is_end_stream() => finish(&mut this.connection, cx),
            Poll::Ready(Some(Err(_))) => this.connection = None,
            Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
        }
        // A body that stops before its end breaks the protocol, whoever closed the connection: Envoy's view.
        frame.map_err(|_| TransportError::new(ResetReason::ProtocolError).into())
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Http1Body {
    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        poll_within_task(cx, |cx| Pin::new(&mut self.incoming).poll_frame(cx))
    }
}
