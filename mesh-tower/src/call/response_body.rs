//! The body of responses. Its bytes are counted, and its end is the end of the request.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::Response;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::{Body, BoxError, Recorder, StreamTimeouts};

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
}

impl ResponseBody {
    /// Wraps the body of a response. At its end, `recorder` records the request. The body fails when one of `timeouts`
    /// expires.
    pub(crate) fn wrap(response: Response<Body>, recorder: Recorder, mut timeouts: StreamTimeouts) -> Response<Self> {
        response.map(|inner| {
            if inner.is_end_stream() {
                recorder.complete();
                return Self { inner, open: None };
            }
            timeouts.moved();
            Self { inner, open: Some(Box::new(Open { recorder, timeouts })) }
        })
    }

    /// A body that does not record the request, for upgraded connections and clients that have disconnected.
    pub(crate) fn unrecorded(inner: Body) -> Self {
        Self { inner, open: None }
    }

    /// An error when a timeout has expired.
    fn poll_timeouts(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(Open { recorder, timeouts }) = self.open.as_deref_mut() else { return Poll::Pending };
        ready!(timeouts.poll_expired(recorder.info(), cx));
        self.record(Recorder::idled);
        Poll::Ready(Some(Err("the stream was idle for too long".into())))
    }

    fn record(&mut self, end: impl FnOnce(Recorder)) {
        if let Some(open) = self.open.take() {
            end(open.recorder);
        }
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) else { return this.poll_timeouts(cx) };
        match &frame {
            Some(Ok(frame)) => {
                if let Some(open) = &mut this.open {
                    open.timeouts.moved();
                    open.recorder.observe_frame(frame);
                }
                // A reader that knows the end does not poll again.
                if this.inner.is_end_stream() {
                    this.record(Recorder::complete);
                }
            }
            Some(Err(_)) => this.record(Recorder::upstream_failed),
            None => this.record(Recorder::complete),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ResponseBody").field(&self.inner).finish()
    }
}
