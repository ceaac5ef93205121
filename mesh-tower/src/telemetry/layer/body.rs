//! The response body of [`MetricsLayer`](super::MetricsLayer): the request is counted when it ends.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use mesh_core::{policy::grpc, telemetry::ResponseFlags};
use pin_project_lite::pin_project;

use super::service::Recording;

pin_project! {
    /// A response body that is counted.
    #[derive(Debug)]
    pub struct MetricsBody<B> {
        #[pin]
        inner: B,
        recording: Option<Recording>,
    }
}

impl<B: Body> MetricsBody<B> {
    pub(super) fn new(inner: B, recording: Option<Recording>) -> Self {
        let mut body = Self { inner, recording };
        if body.inner.is_end_stream() {
            complete(&mut body.recording);
        }
        body
    }
}

/// Counts the request as one that went through.
fn complete(recording: &mut Option<Recording>) {
    if let Some(mut recording) = recording.take() {
        recording.flags = recording.flags_of_answer;
    }
}

impl<B: Body> Body for MetricsBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.inner.as_mut().poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(recording) = this.recording.as_mut() {
                    recording.response_bytes += frame.data_ref().map_or(0, |data| data.remaining() as u64);
                    if let Some(trailers) = frame.trailers_ref() {
                        recording.grpc_status = grpc::status_of(trailers).or(recording.grpc_status);
                    }
                }
                // Whoever knows that nothing follows need not ask again.
                if this.inner.is_end_stream() {
                    complete(this.recording);
                }
            }
            Some(Err(_)) => {
                if let Some(mut recording) = this.recording.take() {
                    recording.flags = ResponseFlags::UPSTREAM_CONNECTION_TERMINATION;
                }
            }
            None => complete(this.recording),
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
