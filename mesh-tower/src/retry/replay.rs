//! A request body that can be sent again.
//!
//! The frames that a try reads are buffered until they exceed the limit; then the buffer is dropped and the request is not
//! retried any more. Nothing is read ahead, so the first try streams. A later try supersedes earlier ones, which may still
//! be reading.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;

use crate::{Body, BoxError};

/// The buffer of a request body.
#[derive(Debug)]
pub(crate) enum Replay {
    /// An empty body or a single buffer, which is cheap to clone.
    Copy(Bytes),
    /// A stream that is buffered while it is sent.
    Recorded(Arc<Mutex<Recording>>),
}

impl Default for Replay {
    fn default() -> Self {
        Self::Copy(Bytes::new())
    }
}

impl Replay {
    /// Buffers at most `limit` bytes of `body`, which the first try sends.
    pub(crate) fn beside(body: &mut Body, limit: usize) -> Self {
        if let Some(bytes) = body.as_bytes() {
            return Self::Copy(bytes.clone());
        }
        let replay = Self::record(std::mem::take(body), limit);
        *body = replay.next_body();
        replay
    }

    fn record(body: Body, limit: usize) -> Self {
        Self::Recorded(Arc::new(Mutex::new(Recording {
            size_hint: body.size_hint(),
            source: body,
            frames: Vec::new(),
            trailers: None,
            limit,
            kept: 0,
            state: State::Recording,
            reader: 0,
        })))
    }

    /// The body of the next try.
    pub(crate) fn next_body(&self) -> Body {
        match self {
            Self::Copy(bytes) => Body::from(bytes.clone()),
            Self::Recorded(recording) => {
                let mut shared = recording.lock();
                shared.reader += 1;
                let reader = shared.reader;
                drop(shared);
                Body::new(ReplayBody { recording: Arc::clone(recording), reader, position: 0, is_live: false, sent: 0 })
            }
        }
    }

    /// Whether the whole body is buffered or has not been read yet.
    pub(crate) fn can_replay(&self) -> bool {
        match self {
            Self::Copy(_) => true,
            Self::Recorded(recording) => !matches!(recording.lock().state, State::Exceeded | State::BrokenOff),
        }
    }

    /// Stops buffering, because the request will not be retried.
    pub(crate) fn stop(&self) {
        if let Self::Recorded(recording) = self {
            Recording::stop(recording);
        }
    }
}

/// A body and the frames that were read from it.
pub(crate) struct Recording {
    source: Body,
    size_hint: SizeHint,
    frames: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    limit: usize,
    kept: usize,
    state: State,
    /// The number of the latest reader, which supersedes earlier ones.
    reader: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The source has not ended, and all frames are buffered.
    Recording,
    /// The source has ended, and all frames are buffered.
    Ended,
    /// The source has not ended. Frames are not buffered, because the request will not be retried.
    Stopped,
    /// The source has not ended. Frames are not buffered, because they have exceeded the limit.
    Exceeded,
    /// The source has failed, so the buffered frames are incomplete.
    BrokenOff,
}

impl Recording {
    #[inline(never)]
    fn stop(recording: &Mutex<Self>) {
        let mut recording = recording.lock();
        if recording.state == State::Recording {
            recording.state = State::Stopped;
        }
    }

    fn keep(&mut self, data: &Bytes) {
        if self.state != State::Recording {
            return;
        }
        self.kept += data.len();
        if self.kept > self.limit {
            self.state = State::Exceeded;
            self.frames = Vec::new();
        } else {
            self.frames.push(data.clone());
        }
    }

    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.source).poll_frame(cx)).transpose();
        let frame = frame.inspect_err(|_| self.state = State::BrokenOff)?;
        match &frame {
            Some(frame) => match (frame.data_ref(), frame.trailers_ref()) {
                (Some(data), _) => self.keep(data),
                (None, Some(trailers)) if self.state == State::Recording => self.trailers = Some(trailers.clone()),
                (None, _) => {}
            },
            None if self.state == State::Recording => self.state = State::Ended,
            None => {}
        }
        if self.state == State::Recording && self.source.is_end_stream() {
            self.state = State::Ended;
        }
        Poll::Ready(frame.map(Ok))
    }
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recording").field("kept", &self.kept).field("state", &self.state).finish_non_exhaustive()
    }
}

/// The body of a try.
#[derive(Debug)]
struct ReplayBody {
    recording: Arc<Mutex<Recording>>,
    reader: u64,
    /// Number of buffered frames that were returned.
    position: usize,
    /// All buffered frames were returned; further frames come from the source.
    is_live: bool,
    sent: u64,
}

impl HttpBody for ReplayBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let mut recording = this.recording.lock();
        if recording.reader != this.reader {
            return Poll::Ready(Some(Err("superseded by another try".into())));
        }
        if recording.state == State::BrokenOff {
            return Poll::Ready(Some(Err("the body broke off".into())));
        }
        if !this.is_live {
            if let Some(data) = recording.frames.get(this.position) {
                this.position += 1;
                this.sent += data.len() as u64;
                return Poll::Ready(Some(Ok(Frame::data(data.clone()))));
            }
            this.is_live = true;
            if let Some(trailers) = &recording.trailers {
                return Poll::Ready(Some(Ok(Frame::trailers(trailers.clone()))));
            }
        }
        if recording.state == State::Ended {
            return Poll::Ready(None);
        }
        let frame = ready!(recording.poll_source(cx)).transpose()?;
        this.sent += frame.as_ref().and_then(Frame::data_ref).map_or(0, |data| data.len() as u64);
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        let recording = self.recording.lock();
        if recording.state == State::BrokenOff {
            return false;
        }
        let has_all = self.is_live || (self.position >= recording.frames.len() && recording.trailers.is_none());
        has_all && (recording.state == State::Ended || recording.source.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match self.recording.lock().size_hint.exact() {
            Some(total) => SizeHint::with_exact(total.saturating_sub(self.sent)),
            None => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header};
    use http_body_util::{BodyExt, Full};

    use super::*;
    use crate::testing::HalfBody;

    fn stream(text: &'static str) -> Body {
        let trailers = HeaderMap::from_iter([(header::ETAG, HeaderValue::from_static("t"))]);
        Body::new(Full::new(Bytes::from(text)).with_trailers(std::future::ready(Some(Ok(trailers)))))
    }

    async fn text_and_trailers(body: Body) -> (Bytes, bool) {
        let collected = body.collect().await.unwrap();
        let has_trailers = collected.trailers().is_some();
        (collected.to_bytes(), has_trailers)
    }

    #[tokio::test]
    async fn every_try_gets_the_whole_body() {
        let mut first = stream("hello");
        let replay = Replay::beside(&mut first, 5);
        first.frame().await.unwrap().unwrap();
        for _ in 0..2 {
            assert_eq!(text_and_trailers(replay.next_body()).await, (Bytes::from("hello"), true));
        }
        assert!(replay.can_replay());
        assert!(first.frame().await.unwrap().is_err(), "the first try is superseded");
    }

    #[tokio::test]
    async fn more_than_the_limit_is_sent_once_and_not_kept() {
        let mut body = stream("hello");
        let replay = Replay::beside(&mut body, 4);
        assert!(replay.can_replay());
        assert_eq!(text_and_trailers(body).await, (Bytes::from("hello"), true));
        assert!(!replay.can_replay());
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_never_looks_whole() {
        let mut first = Body::new(HalfBody::default());
        let replay = Replay::beside(&mut first, 100);
        assert_eq!(first.frame().await.unwrap().unwrap().into_data().unwrap(), "half");
        assert!(first.frame().await.unwrap().is_err());
        assert!(!replay.can_replay());
        for mut body in [first, replay.next_body()] {
            assert!(!http_body::Body::is_end_stream(&body));
            assert!(body.frame().await.unwrap().is_err());
        }
    }

    #[tokio::test]
    async fn after_a_stopped_recording_the_rest_passes() {
        let mut body = stream("hello");
        let replay = Replay::beside(&mut body, 4);
        replay.stop();
        assert_eq!(text_and_trailers(body).await, (Bytes::from("hello"), true));
    }

    #[tokio::test]
    async fn bodies_in_one_piece_are_copied() {
        let replay = Replay::beside(&mut Body::from("hello"), 0);
        assert!(matches!(replay, Replay::Copy(_)));
        for _ in 0..2 {
            assert_eq!(replay.next_body().collect().await.unwrap().to_bytes(), "hello");
        }
    }
}
