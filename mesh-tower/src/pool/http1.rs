//! HTTP/1.1 connections.
//!
//! The task of the request does the I/O of the connection: [`Http1Connection::exchange`] sends the request and reads until it has
//! the response headers, then [`Http1Body`] until the body has ended. Then the connection returns to its pool. So a request needs
//! no other task, and no channel. An idle connection is not polled; whether the endpoint has closed it meanwhile is found out before
//! the next request ([`Http1Connection::is_usable`]) and by the pool's sweep.
//!
//! The upload goes on while the response is read. If the endpoint has sent the whole response before it has received the
//! whole request, the connection is closed.

use std::{
    fmt,
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use http::{Method, Response, StatusCode, header::UPGRADE, request, response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use mesh_core::{
    http1::{self, BodyLength, BodyPart, BodyWriter, Limits, ResponseHead, ResponseReader},
    model::HttpProtocolOptions,
};

use super::{
    ResetReason,
    connecting::PooledStream,
    http1_upgrade,
    lifetime::Lifetime,
    tunnel::{Kind, Tunnel},
};
use crate::{
    Body, BoxError, Call, ConnectionInfo, Protocol, TransportError,
    call::Tunnelling,
    http1::{Filled, Input, Output},
};

/// A connection, idle or with a request.
pub(crate) struct Http1Connection {
    pub(super) stream: PooledStream,
    pub(super) reader: ResponseReader,
    pub(super) input: Input,
    pub(super) output: Output,
    /// The request body, while it is being sent.
    pub(super) upload: Option<Upload>,
    /// Bytes of the request that have been sent.
    sent: u64,
    /// The last response allows another request.
    is_persistent: bool,
    /// The request could not be sent.
    is_broken: bool,
    requests: u32,
    unused_since: Instant,
    pub(super) lifetime: Lifetime,
}

/// A request body that is being sent.
pub(super) struct Upload {
    pub(super) body: Body,
    pub(super) writer: BodyWriter,
}

impl Http1Connection {
    pub(super) fn new(stream: PooledStream, lifetime: Lifetime) -> Box<Self> {
        let options = lifetime.options();
        let unused_since = lifetime.opened();
        Box::new(Self {
            stream,
            reader: ResponseReader::new(options.http1, limits(options)),
            input: Input::default(),
            output: Output::default(),
            upload: None,
            sent: 0,
            is_persistent: true,
            is_broken: false,
            requests: 0,
            unused_since,
            lifetime,
        })
    }

    /// Whether the idle connection can take a request: it has reached no time limit, and the endpoint has neither closed it
    /// nor sent anything unexpected.
    pub(super) fn is_usable(&mut self, now: Instant, cx: &mut Context<'_>) -> bool {
        let unused = now.saturating_duration_since(self.unused_since);
        !self.lifetime.has_expired(unused, now) && self.is_alive(cx)
    }

    fn is_alive(&mut self, cx: &mut Context<'_>) -> bool {
        self.input.poll_read(&mut self.stream, cx).is_pending()
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

    /// Sends the request of `call`, waits for the response headers and puts the response into `call`. The body of the response
    /// returns the connection to its pool. If no byte of the request was sent, the body is returned to `call`.
    pub(super) async fn exchange(mut self: Box<Self>, call: &mut Call) -> Result<(), TransportError> {
        let is_tunnel = call.tunnelling == Tunnelling::Requested;
        if !is_tunnel && asks_for_upgrade(call) && self.lifetime.protocol() == Protocol::Http1 {
            return http1_upgrade::exchange(self, call).await;
        }
        let Some(body) = call.take_body() else { return Err(TransportError::new(ResetReason::LocalReset)) };
        self.requests += 1;
        self.lifetime.set_in_use(true);
        if self.lifetime.protocol() == Protocol::Tcp {
            let writer = BodyWriter::for_tunnel(self.lifetime.options().http1);
            self.upload = Some(Upload { body, writer });
            // What is here of the request is sent before the response, as to an endpoint that speaks HTTP.
            poll_fn(|cx| Poll::Ready(self.drive_upload(cx))).await?;
            call.respond(Response::new(Body::new(Tunnel::open(*self, Kind::Tcp))));
            return Ok(());
        }
        let at_hand = body.as_bytes().cloned();
        self.begin(call, body);
        let outcome = poll_fn(|cx| self.poll_response(call, cx)).await;
        match outcome {
            Ok(head) => {
                let (parts, length) = (head.parts, head.body);
                if is_tunnel && let Some(kind) = tunnel_of(call.head(), &parts, head.is_upgrade) {
                    let body = Body::new(Tunnel::open(*self, kind));
                    call.respond(Response::from_parts(parts, body));
                    return Ok(());
                }
                self.is_persistent = head.is_persistent;
                let body = self.response_body(length);
                call.respond(Response::from_parts(parts, body));
                Ok(())
            }
            Err(error) => {
                if self.sent == 0
                    && let Some(body) = at_hand
                {
                    call.restore_body(Body::from(body));
                    self.lifetime.set_in_use(false);
                }
                Err(error)
            }
        }
    }

    /// Puts the head of the request into the output.
    fn begin(&mut self, call: &Call, body: Body) {
        let options = self.lifetime.options().http1;
        let length = body.size_hint().exact();
        let writer = match call.tunnelling {
            Tunnelling::Requested => http1::write_tunnel_request(call.head(), options, self.output.head()),
            _ => http1::write_request(call.head(), length, options, self.output.head()),
        };
        self.upload = Some(Upload { body, writer });
        self.sent = 0;
    }

    /// Sends the request and reads the response headers.
    fn poll_response(&mut self, call: &mut Call, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, TransportError>> {
        self.drive_upload(cx)?;
        loop {
            let head = self.reader.read_head(self.input.bytes(), &call.head().method).map_err(malformed)?;
            match head {
                Some(head) if head.parts.status == StatusCode::SWITCHING_PROTOCOLS => {
                    return Poll::Ready(match call.tunnelling {
                        Tunnelling::Requested => Ok(head),
                        // Nobody has asked for another protocol.
                        _ => Err(TransportError::new(ResetReason::ProtocolError)),
                    });
                }
                Some(head) if head.parts.status.is_informational() => {
                    call.respond_interim(head.parts.status, head.parts.headers);
                }
                Some(head) => return Poll::Ready(Ok(head)),
                None => match ready!(self.input.poll_read(&mut self.stream, cx)) {
                    Ok(1..) => {}
                    Ok(0) if !self.input.is_empty() => return Poll::Ready(Err(malformed(http1::Error::Incomplete))),
                    Ok(0) => return Poll::Ready(Err(TransportError::new(ResetReason::ConnectionTermination))),
                    Err(error) => return Poll::Ready(Err(lost(error))),
                },
            }
        }
    }

    /// Sends what can be sent of the request.
    ///
    /// # Errors
    /// If the body fails, or has another length than its `content-length`. If the connection fails, the upload ends, but the
    /// endpoint may have responded before.
    fn drive_upload(&mut self, cx: &mut Context<'_>) -> Result<(), TransportError> {
        if self.upload.is_none() && self.output.is_empty() {
            return Ok(());
        }
        loop {
            let filled = match &mut self.upload {
                Some(Upload { body, writer }) => self.output.fill(body, writer, cx).map_err(aborted)?,
                None => Filled::Complete,
            };
            if filled == Filled::Complete {
                self.upload = None;
            }
            match self.output.poll_send(&mut self.stream, cx, &mut self.sent) {
                Poll::Ready(Ok(())) if filled != Filled::Full => return Ok(()),
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => {
                    self.is_broken = true;
                    self.upload = None;
                    self.output = Output::default();
                    return Ok(());
                }
                Poll::Pending => return Ok(()),
            }
        }
    }

    /// The body of a response. If nothing of it is missing, the connection returns to its pool at once.
    fn response_body(mut self: Box<Self>, length: BodyLength) -> Body {
        match length {
            BodyLength::None | BodyLength::Exact(0) => {
                self.finish();
                Body::empty()
            }
            BodyLength::Exact(length) if self.input.len() as u64 >= length => {
                let data = match self.reader.read_body(self.input.bytes()) {
                    Ok(Some(BodyPart::Data(data))) => data,
                    _ => Bytes::new(),
                };
                self.finish();
                Body::from(data)
            }
            length => Body::new(Http1Body { length, connection: Some(self) }),
        }
    }

    /// Reads the next part of the response body; `None` at its end.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, TransportError>>> {
        // An upload that fails does not fail the response.
        if self.drive_upload(cx).is_err() {
            self.is_broken = true;
            self.upload = None;
        }
        loop {
            match self.reader.read_body(self.input.bytes()).map_err(malformed) {
                Ok(Some(BodyPart::Data(data))) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(Some(BodyPart::Trailers(trailers))) => return Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                Ok(Some(BodyPart::End)) => return Poll::Ready(None),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
            match ready!(self.input.poll_read(&mut self.stream, cx)) {
                Ok(1..) => {}
                Ok(0) => return Poll::Ready(self.reader.close().err().map(|error| Err(malformed(error)))),
                // As in Envoy, a reset ends a body that has no other end.
                Err(error) => return Poll::Ready(self.reader.close().err().map(|_| Err(cut_off(error)))),
            }
        }
    }

    /// Returns the connection to its pool after the response. Closes it if it cannot be used again.
    fn finish(mut self: Box<Self>) {
        let is_spent = self.lifetime.has_reached_max_requests(self.requests);
        let is_request_sent = self.upload.is_none() && self.output.is_empty();
        if is_request_sent || is_spent {
            self.lifetime.set_in_use(false);
        }
        if is_spent || self.is_broken || !is_request_sent || !self.input.is_empty() {
            return;
        }
        if self.is_persistent {
            self.input.release();
            self.output.release();
            self.release();
        } else {
            self.lifetime.count_close_notify();
        }
    }
}

impl fmt::Debug for Http1Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http1Connection").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

fn limits(options: &HttpProtocolOptions) -> Limits {
    let max_bytes = (options.max_response_headers_kb.unwrap_or(80) as usize).saturating_mul(1024);
    Limits::new(max_bytes, options.max_headers_count as usize)
}

/// The tunnel that a response opens, if its request has asked for one.
fn tunnel_of(request: &request::Parts, response: &response::Parts, is_upgrade: bool) -> Option<Kind> {
    let is_upgrade = is_upgrade && response.status == StatusCode::SWITCHING_PROTOCOLS;
    let is_connect = request.method == Method::CONNECT && response.status.is_success();
    if is_upgrade { Some(Kind::Upgrade) } else { is_connect.then_some(Kind::Connect) }
}

fn asks_for_upgrade(call: &Call) -> bool {
    call.head().method == Method::CONNECT || call.head().headers.contains_key(UPGRADE)
}

fn malformed(error: http1::Error) -> TransportError {
    TransportError::new(ResetReason::ProtocolError).with_source(error)
}

fn lost(error: io::Error) -> TransportError {
    TransportError::new(ResetReason::ConnectionTermination).with_source(error)
}

/// The connection was lost within a body. Envoy, too, treats that as a protocol error.
fn cut_off(error: io::Error) -> TransportError {
    TransportError::new(ResetReason::ProtocolError).with_source(error)
}

fn aborted(error: impl Into<BoxError>) -> TransportError {
    TransportError::new(ResetReason::LocalReset).with_source(error)
}

/// The body of a response. Reading it drives the connection.
#[derive(Debug)]
struct Http1Body {
    length: BodyLength,
    connection: Option<Box<Http1Connection>>,
}

impl HttpBody for Http1Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let Some(connection) = &mut this.connection else { return Poll::Ready(None) };
        let frame = ready!(connection.poll_body(cx));
        if let (BodyLength::Exact(remaining), Some(Ok(frame))) = (&mut this.length, &frame) {
            *remaining = remaining.saturating_sub(frame.data_ref().map_or(0, Bytes::len) as u64);
        }
        match &frame {
            Some(Ok(_)) if !connection.reader.is_body_complete() => {}
            Some(Ok(_)) | None => this.connection.take().into_iter().for_each(Http1Connection::finish),
            Some(Err(_)) => this.connection = None,
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.connection.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.length {
            BodyLength::Exact(remaining) => SizeHint::with_exact(remaining),
            _ => SizeHint::default(),
        }
    }
}
