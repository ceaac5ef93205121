//! The body of responses. Its bytes are counted, and its end is the end of the request.

use std::{
    error::Error,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, HeaderValue, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use mesh_core::{
    causes::{chain, with_causes},
    grpc,
};

use super::{Body, BoxError, Recorder, StreamTimeouts};
use crate::http2::{Outgoing, reason_of};

/// The body of a response to the client. When it ends or is dropped, the request is recorded.
#[derive(Default)]
pub struct ResponseBody {
    inner: Body,
    /// `None` once the request has been recorded. In a box, because responses are moved and most bodies end soon.
    open: Option<Box<Open>>,
}

struct Open {
    recorder: Recorder,
    timeouts: StreamTimeouts,
    on_failure: OnFailure,
}

/// How the body of a response ends when it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnFailure {
    /// With an error, which resets the client's stream, as in a proxy.
    Error,
    /// With trailers that carry a gRPC status, for a gRPC call that ends in this process.
    GrpcStatus,
}

impl OnFailure {
    /// The behaviour for a call that ends in this process.
    pub(crate) fn of(is_grpc: bool) -> Self {
        if is_grpc { Self::GrpcStatus } else { Self::Error }
    }
}

impl ResponseBody {
    /// Wraps the body of a response. At its end, `recorder` records the request. The body fails when one of `timeouts`
    /// expires.
    pub(crate) fn wrap(
        response: Response<Body>,
        recorder: Recorder,
        mut timeouts: StreamTimeouts,
        on_failure: OnFailure,
    ) -> Response<Self> {
        response.map(|inner| {
            if inner.is_end_stream() {
                recorder.complete();
                return Self { inner, open: None };
            }
            timeouts.response_began();
            Self { inner, open: Some(Box::new(Open { recorder, timeouts, on_failure })) }
        })
    }

    /// A body that does not record the request, for upgraded connections and clients that have disconnected.
    pub(crate) fn unrecorded(inner: Body) -> Self {
        Self { inner, open: None }
    }

    /// An error when a timeout has expired.
    fn poll_timeouts(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(Open { recorder, timeouts, .. }) = self.open.as_deref_mut() else { return Poll::Pending };
        ready!(timeouts.poll_expired(recorder.info(), cx));
        Poll::Ready(Some(self.fail(StreamIdle.into(), Recorder::idled)))
    }

    /// Ends the body because of `error`.
    fn fail(&mut self, error: BoxError, end: impl FnOnce(Recorder)) -> Result<Frame<Bytes>, BoxError> {
        let Some(mut open) = self.open.take() else { return Err(error) };
        let end_of_call = (open.on_failure == OnFailure::GrpcStatus).then(|| {
            self.inner = Body::empty();
            Frame::trailers(grpc_failure(&*error))
        });
        if let Some(trailers) = &end_of_call {
            open.recorder.observe_frame(trailers);
        }
        end(open.recorder);
        end_of_call.ok_or(error)
    }

    fn record(&mut self, end: impl FnOnce(Recorder)) {
        if let Some(open) = self.open.take() {
            end(open.recorder);
        }
    }
}

/// The timeout expired after the response had begun.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("upstream request timeout after the response began")]
pub(crate) struct ResponseCutOff;

/// The stream was idle for too long.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the stream was idle for too long")]
struct StreamIdle;

/// The trailers of a gRPC call whose response has failed with `error`. The status is `DEADLINE_EXCEEDED` after a timeout, else
/// the one that gRPC's "PROTOCOL-HTTP2" maps a lost connection or a reset to.
fn grpc_failure(error: &(dyn Error + 'static)) -> HeaderMap {
    let status = if chain(error).any(|error| error.is::<ResponseCutOff>()) {
        grpc::DEADLINE_EXCEEDED
    } else {
        let reset = chain(error).find_map(|error| error.downcast_ref::<h2::Error>()).filter(|error| error.is_reset());
        reset.and_then(h2::Error::reason).map_or(grpc::UNAVAILABLE, |reason| grpc::status_of_reset(reason.into()))
    };
    let mut trailers = HeaderMap::with_capacity(2);
    trailers.insert(grpc::GRPC_STATUS, HeaderValue::from(status));
    trailers.insert(grpc::GRPC_MESSAGE, grpc::message_value(&with_causes(error)));
    trailers
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) else { return this.poll_timeouts(cx) };
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                if let Some(open) = &mut this.open {
                    open.timeouts.moved();
                    open.recorder.observe_frame(&frame);
                }
                // A reader that knows the end does not poll again.
                if this.inner.is_end_stream() {
                    this.record(Recorder::complete);
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => Some(this.fail(error, Recorder::upstream_failed)),
            None => {
                this.record(Recorder::complete);
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Used by HTTP/2 connections to clients.
impl Outgoing for ResponseBody {
    fn stall_timeout(&self) -> Option<Duration> {
        self.open.as_ref().and_then(|open| open.timeouts.idle_timeout())
    }

    fn stalled(&mut self) {
        self.record(Recorder::idled);
    }

    fn reset_reason(error: &BoxError) -> Reason {
        reason_of(&**error)
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ResponseBody").field(&self.inner).finish()
    }
}
