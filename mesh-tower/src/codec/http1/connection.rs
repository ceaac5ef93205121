//! One connection: reads requests, polls their futures, writes responses.
//!
//! ```text
//! wait (no buffers) ──► serve: next_head ──► exchange: request's future ─► response head ─► response body ──► next_head ...
//!       ▲                         │                        ▲ ▼ body of the request, interim responses
//!       └── idle for a while ─────┘
//! ```
//!
//! Requests are answered in order. The next one is read when the response before has been sent. Until then, what the client
//! sends is kept up to [`MAX_WAITING`] bytes, as is a body that is not read at the moment; so the end of the connection is noticed
//! while a request is being answered.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, Version,
    header::{CONNECTION, DATE, EXPECT},
};
use http_body::Body as _;
use mesh_core::{
    http1::{self, BodyLength, BodyPart, Framing, RequestHead, RequestReader},
    local_reply::LocalReply,
    model::Http1Options,
    policy::hop_by_hop::has_token,
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    Http1,
    exchange::{CutOff, Exchange, Progress},
    ready::Ready,
    takeover::TakenOver,
};
use crate::{
    Body, ResponseBody,
    call::Interim,
    codec::{
        ConnectionInfo,
        connection::Refuse,
        date::date,
        io::DownstreamIo,
        lifecycle::{Ending, Lifecycle},
    },
    downstream::ReadAhead,
    http1::{Input, Output, RequestBody, RequestBodyError, RequestBodySender},
    telemetry::CodecStats,
    timer::{Deadline, now},
    upgrade::switches_protocol,
};

/// How many bytes are kept that must wait: of a body for its reader, of requests for the response to an earlier one.
const MAX_WAITING: usize = 64 * 1024;

/// How long the rest of a refused request is read and dropped before the connection is closed, so that the client can read the
/// response. Envoy `delayed_close_timeout`.
const LINGER: Duration = Duration::from_secs(1);

/// A connection between two requests.
pub(crate) struct Connection<I> {
    io: DownstreamIo<I>,
    input: Input,
    output: Output,
    reader: RequestReader,
    options: Http1Options,
    request_headers_timeout: Option<Duration>,
    accept_http_10: bool,
    lifecycle: Lifecycle,
    proxy_100_continue: bool,
    stats: Arc<CodecStats>,
    /// No request follows the current one.
    closes: bool,
}

/// Why [`Connection::serve`] has ended.
pub(super) enum Ended {
    /// The connection is idle.
    Idle,
    /// The connection is closed or must be.
    Closed,
    /// hyper is to serve this request and the rest of the connection.
    TakenOver(Box<RequestHead>),
}

/// What [`Connection::next_head`] has found.
enum Next {
    Head(RequestHead),
    /// The bytes are no valid request, or it was not complete in time. The time is that of the first byte.
    Refused(LocalReply, Instant),
    Idle,
    Closed,
}

impl<I: AsyncRead + AsyncWrite + Unpin + Send + 'static> Connection<I> {
    pub(super) fn new(config: &Http1, mut io: DownstreamIo<I>, lifecycle: Lifecycle) -> Self {
        Self {
            input: io.take_ahead(),
            io,
            output: Output::default(),
            reader: RequestReader::new(config.options, config.limits),
            options: config.options,
            request_headers_timeout: config.request_headers_timeout,
            accept_http_10: config.accept_http_10,
            lifecycle,
            proxy_100_continue: config.proxy_100_continue,
            stats: Arc::clone(&config.stats),
            closes: false,
        }
    }

    /// What its requests share.
    pub(super) fn info(&self) -> &Arc<ConnectionInfo> {
        self.lifecycle.info()
    }

    /// Waits for bytes; `false` = the connection has ended or is to end.
    pub(super) async fn wait(&mut self) -> bool {
        poll_fn(|cx| {
            if self.lifecycle.poll_ending(cx).is_ready() {
                return Poll::Ready(false);
            }
            if !self.input.is_empty() {
                return Poll::Ready(true);
            }
            self.poll_read(cx).map(|read| matches!(read, Ok(1..)))
        })
        .await
    }

    /// Answers requests until the connection is idle or closed.
    pub(super) async fn serve<S, F>(&mut self, service: &S, refuse: Refuse<'_>) -> Ended
    where
        S: Fn(Request<Body>, Option<Interim>) -> F,
        F: Future<Output = Response<ResponseBody>>,
    {
        let mut ready = Ready::take();
        loop {
            let head = match self.next_head(&mut ready).await {
                Next::Head(head) if head.is_upgrade && refuse.is_program => {
                    return Ended::TakenOver(Box::new(head));
                }
                Next::Head(head) => head,
                Next::Refused(reply, since) => {
                    self.refuse((refuse.answer)(reply, since)).await;
                    return Ended::Closed;
                }
                Next::Idle => return Ended::Idle,
                Next::Closed => return Ended::Closed,
            };
            let mut parts = head.parts;
            if let Some(refused) = head.refused {
                parts.extensions.insert(refused);
            }
            self.closes |= !head.is_persistent;
            let length = if head.is_upgrade {
                self.reader.begin_tunnel();
                BodyLength::UntilClose
            } else {
                head.body
            };
            let (body, received) = match self.request_body(length) {
                Ok(body) => body,
                Err(error) => {
                    self.count_refused(error);
                    self.refuse((refuse.answer)(error.reply(), now())).await;
                    return Ended::Closed;
                }
            };
            let mut exchange = Exchange {
                method: parts.method.clone(),
                // HTTP/1.0 is refused with a response of HTTP/1.1.
                version: if self.accept_http_10 { parts.version } else { Version::HTTP_11 },
                body,
                // Few requests have interim responses.
                interim: (self.proxy_100_continue || parts.headers.contains_key(EXPECT)).then(Interim::default),
                response: Progress::Awaited,
                is_upgrade: head.is_upgrade,
            };
            let responding = pin!(service(Request::from_parts(parts, received), exchange.interim.clone()));
            if self.exchange(&mut exchange, responding).await.is_err() {
                return Ended::Closed;
            }
            let is_received = exchange.body.is_none() || self.skip_rest();
            if self.closes || !is_received {
                self.close(!is_received).await;
                return Ended::Closed;
            }
        }
    }

    async fn next_head(&mut self, ready: &mut Ready) -> Next {
        let mut since = None;
        let mut timer = Deadline::new(None);
        poll_fn(|cx| {
            match self.lifecycle.poll_ending(cx) {
                Poll::Ready(Ending::Graceful) if !self.input.is_empty() => self.closes = true,
                Poll::Ready(_) => return Poll::Ready(Next::Closed),
                Poll::Pending => {}
            }
            loop {
                match self.reader.read_head(self.input.bytes()) {
                    Ok(Some(head)) => {
                        self.count_dropped();
                        return Poll::Ready(Next::Head(head));
                    }
                    Ok(None) => {}
                    Err(error) => {
                        tracing::debug!(%error, "a request is refused");
                        self.count_refused(error);
                        return Poll::Ready(Next::Refused(error.reply(), since.unwrap_or_else(now)));
                    }
                }
                if since.is_none() && !self.input.is_empty() {
                    since = Some(now());
                    timer.set(self.request_headers_timeout.and_then(|timeout| now().checked_add(timeout)));
                }
                match self.poll_read(cx) {
                    Poll::Ready(Ok(1..)) => {}
                    Poll::Ready(_) => return Poll::Ready(Next::Closed),
                    Poll::Pending => break,
                }
            }
            let Some(since) = since else {
                self.output.release();
                return ready.poll_expired(self.info().idle_since().into_std(), cx).map(|()| Next::Idle);
            };
            ready!(timer.poll_expired(cx));
            self.lifecycle.stats().downstream_rq_header_timeout.inc();
            Poll::Ready(Next::Refused(LocalReply::REQUEST_HEADER_TIMEOUT, since))
        })
        .await
    }

    fn count_refused(&self, error: http1::Error) {
        self.lifecycle.stats().downstream_cx_protocol_error.inc();
        self.count_underscore(error);
    }

    fn count_underscore(&self, error: http1::Error) {
        if error == http1::Error::UnexpectedUnderscore {
            self.stats.http1_requests_rejected_with_underscores_in_headers.inc();
        }
    }

    fn count_dropped(&mut self) {
        match self.reader.take_dropped() {
            0 => {}
            dropped => self.stats.http1_dropped_headers_with_underscores.add(dropped.into()),
        }
    }

    /// The body of a request, and the way to pass the rest of it on.
    ///
    /// # Errors
    /// If what is here of it is malformed. The endpoint gets nothing of the request then.
    fn request_body(&mut self, length: BodyLength) -> Result<(Option<RequestBodySender>, Body), http1::Error> {
        Ok(match length {
            BodyLength::None | BodyLength::Exact(0) => (None, Body::empty()),
            BodyLength::Exact(length) if self.input.len() as u64 >= length => {
                let data = match self.reader.read_body(self.input.bytes()) {
                    Ok(Some(BodyPart::Data(data))) => data,
                    _ => Bytes::new(),
                };
                (None, Body::received(data))
            }
            length => {
                let mut received = VecDeque::new();
                while received.back() != Some(&BodyPart::End)
                    && let Some(part) = self.reader.read_body(self.input.bytes())?
                {
                    received.push_back(part);
                }
                self.count_dropped();
                let (sender, body) = RequestBody::new(length, received);
                (sender, Body::from(body))
            }
        })
    }

    /// Drives a request and its response until the response has been sent.
    async fn exchange<F>(&mut self, exchange: &mut Exchange, mut responding: Pin<&mut F>) -> Result<(), CutOff>
    where
        F: Future<Output = Response<ResponseBody>>,
    {
        poll_fn(|cx| {
            match self.lifecycle.poll_ending(cx) {
                Poll::Ready(Ending::Abrupt) => return Poll::Ready(Err(CutOff)),
                Poll::Ready(Ending::Graceful) => self.closes = true,
                Poll::Pending => {}
            }
            loop {
                if let Progress::Awaited = exchange.response {
                    let response = responding.as_mut().poll(cx);
                    self.write_interim(exchange);
                    if let Poll::Ready(response) = response {
                        self.begin_response(exchange, response);
                    }
                }
                let filled = exchange.fill(&mut self.output, cx);
                let is_sent = self.poll_send(cx)?.is_ready();
                let waits_for_room = filled?;
                if is_sent && matches!(exchange.response, Progress::Complete) {
                    return Poll::Ready(Ok(()));
                }
                let has_received = self.receive(exchange, cx)?;
                let has_room_again = waits_for_room && is_sent;
                if !has_received && !has_room_again {
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    /// Receives what the request waits for. Returns whether the reader of the body got a part.
    fn receive(&mut self, exchange: &mut Exchange, cx: &mut Context<'_>) -> Result<bool, CutOff> {
        let Some(sender) = &exchange.body else { return self.watch(cx).map(|()| false) };
        if !sender.is_wanted(cx) {
            return self.watch(cx).map(|()| false);
        }
        let Poll::Ready(part) = self.poll_part(cx) else { return Ok(false) };
        let is_last = match &part {
            Ok(_) => self.reader.is_body_complete(),
            // The sender's end tells the reader.
            Err(RequestBodyError::Disconnected) => return Err(CutOff),
            Err(RequestBodyError::Malformed(error)) => {
                self.count_underscore(*error);
                self.closes = true;
                true
            }
        };
        sender.send(part, cx);
        if is_last {
            self.count_dropped();
            exchange.body = None;
        }
        Ok(true)
    }

    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<BodyPart, RequestBodyError>> {
        loop {
            match self.reader.read_body(self.input.bytes()) {
                Ok(Some(part)) => return Poll::Ready(Ok(part)),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Err(RequestBodyError::Malformed(error))),
            }
            if !matches!(ready!(self.poll_read(cx)), Ok(1..)) {
                return Poll::Ready(Err(RequestBodyError::Disconnected));
            }
        }
    }

    /// Notices the end of the connection. What the client sends is kept: it is the rest of a body, or belongs to its next
    /// requests.
    fn watch(&mut self, cx: &mut Context<'_>) -> Result<(), CutOff> {
        while self.input.len() < MAX_WAITING {
            match self.poll_read(cx) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(_) => return Err(CutOff),
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    /// Puts the interim responses into the output. HTTP/1.0 has none.
    fn write_interim(&mut self, exchange: &Exchange) {
        while let Some(interim) = exchange.interim.as_ref().and_then(Interim::take) {
            if exchange.version >= Version::HTTP_11 {
                http1::write_interim(interim.status(), interim.headers(), self.options, self.output.head());
            }
        }
    }

    /// Puts the head of a response into the output.
    fn begin_response(&mut self, exchange: &mut Exchange, response: Response<ResponseBody>) {
        let (mut head, body) = response.into_parts();
        head.headers.entry(DATE).or_insert_with(date);
        if exchange.is_upgrade && switches_protocol(&exchange.method, head.status) {
            self.closes = true;
            let writer = http1::write_tunnel_response(&head, exchange.version, self.options, self.output.head());
            exchange.response = Progress::Sending { body, writer };
            return;
        }
        let length = if body.is_end_stream() { Some(0) } else { body.size_hint().exact() };
        self.set_persistence(exchange, &mut head, length);
        let request = (&exchange.method, exchange.version);
        let writer = http1::write_response(&head, length, request, self.options, self.output.head());
        exchange.response = if writer.framing() == Framing::None && body.is_end_stream() {
            Progress::Complete
        } else {
            Progress::Sending { body, writer }
        };
    }

    /// Makes `connection` and what happens to the connection agree.
    fn set_persistence(&mut self, exchange: &Exchange, head: &mut http::response::Parts, length: Option<u64>) {
        let headers = &mut head.headers;
        let has_no_end = exchange.version < Version::HTTP_11
            && length.is_none()
            && !headers.contains_key(http::header::CONTENT_LENGTH);
        // As in Envoy, the client learns early that the connection closes if the response begins before its upload has ended.
        self.closes |= exchange.body.is_some();
        self.closes |= has_no_end || headers.get_all(CONNECTION).iter().any(|value| has_token(value, "close"));
        if self.closes {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        } else if exchange.version < Version::HTTP_11 {
            headers.insert(CONNECTION, HeaderValue::from_static("keep-alive"));
        }
    }

    /// Reads the rest of the request if it has been received. Returns whether that is so.
    fn skip_rest(&mut self) -> bool {
        loop {
            match self.reader.read_body(self.input.bytes()) {
                Ok(Some(BodyPart::End)) => return true,
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return false,
            }
        }
    }

    /// Sends a local reply, and closes the connection.
    async fn refuse(&mut self, response: Response<Bytes>) {
        let (mut head, body) = response.into_parts();
        head.headers.entry(DATE).or_insert_with(date);
        let request = (&Method::GET, Version::HTTP_11);
        let mut writer =
            http1::write_response(&head, Some(body.len() as u64), request, self.options, self.output.head());
        // The length is that of the body.
        let _ = self.output.data(body, &mut writer);
        if poll_fn(|cx| self.poll_send(cx)).await.is_ok() {
            self.close(true).await;
        }
    }

    /// Closes the connection. If the client may still be sending, its bytes are dropped for [`LINGER`]: otherwise the system would
    /// reset the connection, and the client might not see the response.
    async fn close(&mut self, is_receiving: bool) {
        let mut deadline = Deadline::new(now().checked_add(LINGER));
        poll_fn(|cx| {
            if deadline.poll_expired(cx).is_ready() || self.lifecycle.poll_ending(cx) == Poll::Ready(Ending::Abrupt) {
                return Poll::Ready(());
            }
            if ready!(Pin::new(&mut self.io).poll_shutdown(cx)).is_err() || !is_receiving {
                return Poll::Ready(());
            }
            loop {
                self.input.bytes().clear();
                if !matches!(ready!(self.poll_read(cx)), Ok(1..)) {
                    return Poll::Ready(());
                }
            }
        })
        .await;
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.input.poll_read(&mut self.io, cx)
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CutOff>> {
        self.output.poll_send(&mut self.io, cx, &mut 0).map_err(|_| CutOff)
    }

    /// What hyper needs to serve `head` and the rest of the connection.
    pub(super) fn into_takeover(mut self, head: &RequestHead) -> TakenOver<I> {
        let mut ahead = head.bytes.to_vec();
        ahead.extend_from_slice(self.input.bytes());
        TakenOver { io: ReadAhead::replaying(self.io, ahead), lifecycle: self.lifecycle }
    }
}
