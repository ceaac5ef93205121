//! The body of every response: what it carries is counted, and its end is the end of the request.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use super::{patience::Patience, recorder::Recorder};
use crate::{Body, BoxError};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

/// A response body on its way to the client.
pub struct ResponseBody {
    inner: Body,
    patience: Option<Patience>,
    /// Gone once the request has been recorded.
    recorder: Option<Recorder>,
}

impl ResponseBody {
    /// `recorder` records the request when `inner` has ended, or is given up; `patience` gives it up.
    pub(super) fn new(inner: Body, recorder: Recorder, mut patience: Patience) -> Self {
        patience.moved();
        let mut body = Self { inner, patience: Some(patience), recorder: Some(recorder) };
        body.complete_if_ended();
        body
    }

    /// A body that nobody records: of an upgraded connection, which goes on after it, or for a client that has left.
    pub(super) fn unrecorded(inner: Body) -> Self {
        Self { inner, patience: None, recorder: None }
    }

    /// An error once nothing has moved for too long.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let (Some(patience), Some(recorder)) = (&mut self.patience, &self.recorder) else { return Poll::Pending };
        ready!(patience.poll_expired(&recorder.info, cx));
        if let Some(recorder) = self.recorder.take() {
            recorder.idled();
        }
        Poll::Ready(Some(Err("nothing moved on the stream for too long".into())))
    }

    fn complete_if_ended(&mut self) {
        if self.inner.is_end_stream()
            && let Some(recorder) = self.recorder.take()
        {
            recorder.complete();
        }
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) else { return this.poll_patience(cx) };
        if let Some(patience) = &mut this.patience {
            patience.moved();
        }
        match &frame {
            Some(Ok(frame)) => {
                if let (Some(recorder), Some(data)) = (&mut this.recorder, frame.data_ref()) {
                    recorder.add_response_bytes(data.len());
                }
                if let (Some(recorder), Some(trailers)) = (&mut this.recorder, frame.trailers_ref()) {
                    recorder.trailers(trailers);
                }
                // Whoever knows that nothing follows need not ask again.
                this.complete_if_ended();
            }
            Some(Err(_)) => {
                if let Some(recorder) = this.recorder.take() {
                    recorder.upstream_broke();
                }
            }
            None => {
                if let Some(recorder) = this.recorder.take() {
                    recorder.complete();
                }
            }
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
