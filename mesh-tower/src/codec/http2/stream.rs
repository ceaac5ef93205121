//! One request on an HTTP/2 connection, and its response.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use h2::{Reason, ext::Protocol, server::SendResponse};
use http::{HeaderValue, Method, Response, StatusCode, header, request, response::Parts};
use http_body::Body as _;
use pin_project_lite::pin_project;

use crate::codec::date::date;
use crate::{
    ResponseBody,
    call::Interim,
    http2::{Payload, SendBody, Traffic},
};

pin_project! {
    /// Answers a request. If the client resets the stream, the future of the handler is dropped.
    pub(super) struct Stream<F> {
        respond: SendResponse<Payload>,
        interim: Option<Interim>,
        kind: Kind,
        #[pin]
        state: State<F>,
        open: Open,
    }
}

/// Counts the stream until it is dropped.
struct Open(Arc<Traffic>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.close();
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F> {
        /// The handler has not responded yet.
        Answering { #[pin] answer: F },
        Sending { body: SendBody<ResponseBody> },
    }
}

impl<F: Future<Output = Response<ResponseBody>>> Stream<F> {
    /// Sends the outcome of `answer`, and before it the interim responses that `answer` pushes while it is polled.
    pub(super) fn new(
        answer: F,
        respond: SendResponse<Payload>,
        interim: Option<Interim>,
        kind: Kind,
        traffic: Arc<Traffic>,
    ) -> Self {
        // h2 has checked the limit.
        traffic.try_open(usize::MAX);
        Self { respond, interim, kind, state: State::Answering { answer }, open: Open(traffic) }
    }

    /// Polls the handler. `None` if the client has reset the stream, or the connection has ended.
    fn poll_answer(
        answer: Pin<&mut F>,
        respond: &mut SendResponse<Payload>,
        interim: Option<&Interim>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Response<ResponseBody>>> {
        let polled = answer.poll(cx);
        while let Some(response) = interim.and_then(Interim::take) {
            // This fails if the stream has ended, which `poll_reset` and `send_response` report.
            let _ = respond.send_informational(response);
        }
        match polled {
            Poll::Ready(response) => Poll::Ready(Some(response)),
            Poll::Pending => respond.poll_reset(cx).map(|_| None),
        }
    }
}

impl<F: Future<Output = Response<ResponseBody>>> Future for Stream<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        loop {
            let response = match this.state.as_mut().project() {
                StateProjection::Sending { body } => return Pin::new(body).poll(cx),
                StateProjection::Answering { answer } => {
                    ready!(Self::poll_answer(answer, this.respond, this.interim.as_ref(), cx))
                }
            };
            let Some(body) = response.and_then(|response| begin(response, this.respond, *this.kind)) else {
                return Poll::Ready(());
            };
            this.state.set(State::Sending { body });
        }
    }
}

/// What a request asks of its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Ordinary,
    /// CONNECT (RFC 9113 section 8.5).
    Connect,
    /// Another protocol (RFC 8441).
    ExtendedConnect,
}

/// Gives an extended CONNECT the form that a request for an upgrade has over HTTP/1. As in Envoy, the protocol `bytestream` makes it
/// a plain CONNECT.
pub(super) fn to_http1_form(head: &mut request::Parts) -> Kind {
    if head.method != Method::CONNECT {
        return Kind::Ordinary;
    }
    let protocol = head.extensions.remove::<Protocol>();
    let protocol = protocol.filter(|protocol| !["", "bytestream"].contains(&protocol.as_str()));
    let Some(protocol) = protocol.and_then(|protocol| HeaderValue::from_str(protocol.as_str()).ok()) else {
        return Kind::Connect;
    };
    head.method = Method::GET;
    head.headers.insert(header::UPGRADE, protocol);
    head.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    Kind::ExtendedConnect
}

/// Gives the response to a request for an upgrade the form that it has over HTTP/2.
fn from_http1_form(head: &mut Parts) {
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        head.status = StatusCode::OK;
    }
    head.headers.remove(header::UPGRADE);
    head.headers.remove(header::CONNECTION);
    if head.headers.get(header::CONTENT_LENGTH).is_some_and(|length| length == "0") {
        head.headers.remove(header::CONTENT_LENGTH);
    }
}

/// In the extensions of a response: nothing of it is sent, and the stream is reset.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResetStream(pub(crate) Reason);

/// Sends the head of `response`, and returns its body if there is one to send.
fn begin(
    response: Response<ResponseBody>,
    respond: &mut SendResponse<Payload>,
    kind: Kind,
) -> Option<SendBody<ResponseBody>> {
    let (mut head, body) = response.into_parts();
    if let Some(ResetStream(reason)) = head.extensions.get() {
        respond.send_reset(*reason);
        return None;
    }
    if kind == Kind::ExtendedConnect {
        from_http1_form(&mut head);
    }
    let ends_with_head = body.is_end_stream();
    complete(&mut head, &body);
    match respond.send_response(Response::from_parts(head, ()), ends_with_head) {
        Ok(send) if ends_with_head => {
            drop(send);
            None
        }
        Ok(send) if kind == Kind::Connect => Some(SendBody::new(body, send).failing_with(Reason::CONNECT_ERROR)),
        Ok(send) => Some(SendBody::new(body, send)),
        Err(error) => {
            tracing::debug!(%error, "a response could not be sent");
            respond.send_reset(Reason::INTERNAL_ERROR);
            None
        }
    }
}

/// Adds the headers that are not there yet: the date, and the length of a body if it is known.
fn complete(head: &mut Parts, body: &ResponseBody) {
    head.headers.entry(header::DATE).or_insert_with(date);
    if !body.is_end_stream()
        && let Some(length) = body.size_hint().exact()
    {
        head.headers.entry(header::CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
    }
}
