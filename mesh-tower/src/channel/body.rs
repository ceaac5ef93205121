//! The body of a channel's response: its end is the end of the request.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::Response;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::recorder::Recorder;
use crate::{Body, BoxError, telemetry::Telemetry};

/// The body of a response through a [`Channel`](super::Channel).
#[derive(Debug)]
pub struct ChannelBody {
    inner: Body,
    /// Gone once the request has been recorded.
    recorder: Option<Recorder>,
}

impl ChannelBody {
    /// `recorder` records the request when the body has ended, or is given up.
    pub(super) fn wrap(response: Response<Body>, mut recorder: Recorder<&Arc<Telemetry>>) -> Response<Self> {
        recorder.response(&response);
        response.map(|inner| {
            if inner.is_end_stream() {
                recorder.end();
                return Self { inner, recorder: None };
            }
            Self { inner, recorder: Some(recorder.detach()) }
        })
    }

    fn record_end(&mut self) {
        if self.inner.is_end_stream()
            && let Some(mut recorder) = self.recorder.take()
        {
            recorder.end();
        }
    }
}

impl HttpBody for ChannelBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        match (&frame, &mut self.recorder) {
            (_, None) => {}
            (Some(Ok(frame)), Some(recorder)) => {
                if let Some(data) = frame.data_ref() {
                    recorder.data(data.len());
                }
                if let Some(trailers) = frame.trailers_ref() {
                    recorder.trailers(trailers);
                }
                self.record_end();
            }
            (Some(Err(_)) | None, Some(recorder)) => {
                recorder.end();
                self.recorder = None;
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
