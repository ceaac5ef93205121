//! The body of a request on an HTTP/2 connection.
//!
//! An endpoint may refuse a stream after a part of the body has been sent. Then the whole request can be sent again, because
//! the endpoint has not processed it. The beginning of the body is therefore kept until the response begins. This is cheap:
//! frames are shared, not copied.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use h2::Reason;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::{Body, BoxError, http2::Outgoing};

/// The body of a request, and its frames that have been read.
pub(super) struct Upload {
    body: Body,
    kept: Option<Kept>,
}

#[derive(Default)]
struct Kept {
    frames: VecDeque<Frame<Bytes>>,
    bytes: usize,
}

impl Upload {
    /// Maximum number of bytes that are kept: that of the buffer for retries. Of a longer body nothing is kept, and it is not
    /// sent again.
    const MAX_KEPT_BYTES: usize = 64 * 1024;

    pub(super) fn new(body: Body) -> Self {
        Self { body, kept: Some(Kept::default()) }
    }

    /// Keeps nothing from now on.
    pub(super) fn keep_nothing(&mut self) {
        self.kept = None;
    }

    /// The whole body, to be sent again; `None` if it has not been kept.
    pub(super) fn unsent(self) -> Option<Body> {
        let Kept { frames, .. } = self.kept?;
        Some(if frames.is_empty() { self.body } else { Body::new(Unsent { frames, rest: self.body }) })
    }

    fn keep(&mut self, frame: &Frame<Bytes>) {
        let Some(Kept { frames, bytes }) = &mut self.kept else { return };
        let copy = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => {
                *bytes += data.len();
                Frame::data(data.clone())
            }
            (None, Some(trailers)) => Frame::trailers(trailers.clone()),
            (None, None) => return,
        };
        if *bytes > Self::MAX_KEPT_BYTES {
            self.keep_nothing();
        } else {
            frames.push_back(copy);
        }
    }
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => self.keep(frame),
            Some(Err(_)) => self.keep_nothing(),
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The timeouts of a request are those of its try.
impl Outgoing for Upload {
    fn stall_timeout(&self) -> Option<Duration> {
        None
    }

    fn stalled(&mut self) {}

    fn reset_reason(_: &BoxError) -> Reason {
        Reason::CANCEL
    }
}

/// A body whose first frames have been read before.
struct Unsent {
    frames: VecDeque<Frame<Bytes>>,
    rest: Body,
}

impl HttpBody for Unsent {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.frames.pop_front() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let kept: usize = self.frames.iter().filter_map(|frame| frame.data_ref().map(Bytes::len)).sum();
        match self.rest.size_hint().exact() {
            Some(rest) => SizeHint::with_exact(rest + kept as u64),
            None => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, header};
    use http_body_util::{BodyExt, Full};

    use super::*;

    fn upload(bytes: usize) -> Upload {
        let trailers = HeaderMap::from_iter([(header::ETAG, HeaderValue::from_static("t"))]);
        let body = Full::new(Bytes::from(vec![7; bytes])).with_trailers(std::future::ready(Some(Ok(trailers))));
        Upload::new(Body::new(body))
    }

    #[tokio::test]
    async fn a_refused_body_is_whole_however_much_of_it_was_read() {
        for frames_read in 0..=2 {
            let mut upload = upload(5);
            for _ in 0..frames_read {
                upload.frame().await.unwrap().unwrap();
            }
            let unsent = upload.unsent().unwrap();
            let size = HttpBody::size_hint(&unsent).exact();
            let collected = unsent.collect().await.unwrap();
            assert!(collected.trailers().is_some(), "{frames_read}");
            assert_eq!(collected.to_bytes(), [7; 5].as_slice(), "{frames_read}");
            assert_eq!(size.unwrap_or(5), 5, "{frames_read}");
        }
    }

    #[tokio::test]
    async fn a_long_body_is_not_kept() {
        let mut upload = upload(Upload::MAX_KEPT_BYTES + 1);
        upload.frame().await.unwrap().unwrap();
        assert!(upload.unsent().is_none());
    }

    #[tokio::test]
    async fn a_body_that_has_failed_is_not_sent_again() {
        let mut upload = Upload::new(Body::new(crate::testing::HalfBody::default()));
        upload.frame().await.unwrap().unwrap();
        assert!(upload.frame().await.unwrap().is_err());
        assert!(upload.unsent().is_none());
    }
}
