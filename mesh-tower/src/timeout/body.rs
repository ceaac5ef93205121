//! The response body of [`TimeoutLayer`](super::TimeoutLayer).

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::ResponseCutOff;
use crate::{BoxError, timer::Deadline};

pin_project! {
    /// A response body that is cut off when its time is up.
    #[derive(Debug)]
    pub struct TimeoutBody<B> {
        #[pin]
        inner: B,
        deadline: Option<Deadline>,
    }
}

impl<B: Body> TimeoutBody<B> {
    pub(super) fn new(inner: B, deadline: Option<Deadline>) -> Self {
        let deadline = deadline.filter(|_| !inner.is_end_stream());
        Self { inner, deadline }
    }
}

impl<B: From<Bytes>> From<Bytes> for TimeoutBody<B> {
    fn from(bytes: Bytes) -> Self {
        Self { inner: bytes.into(), deadline: None }
    }
}

impl<B> Body for TimeoutBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let this = self.project();
        match this.inner.poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(frame.map(|frame| frame.map_err(Into::into))),
            Poll::Pending => match this.deadline {
                Some(deadline) => deadline.poll_expired(cx).map(|()| Some(Err(ResponseCutOff.into()))),
                None => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
