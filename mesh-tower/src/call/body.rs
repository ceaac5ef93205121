//! The body type of the data plane.
//!
//! If every layer were generic over bodies, each service would multiply the code; if every body were boxed, each request
//! would need an allocation. [`Body`] is therefore one concrete type that stores the common cases (empty, one buffer, a
//! stream from a connection) without an allocation, and any other body in a box. Bodies are streamed frame by frame,
//! including trailers.

use std::{
    error::Error,
    fmt,
    io::ErrorKind,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;

use super::StreamInfo;
use crate::{
    http1::{RequestBody, RequestBodyError},
    http2,
};

/// The error type of [`Body`].
pub type BoxError = Box<dyn Error + Send + Sync>;

/// The body of a request or a response.
#[derive(Default)]
pub struct Body {
    kind: Kind,
    /// Counts the bytes of a request and records its end.
    counted_by: Option<StreamInfo>,
    /// A buffer that counts when it is read: see [`Body::received`].
    counts_when_read: bool,
}

#[derive(Default)]
enum Kind {
    #[default]
    Empty,
    Full(Bytes),
    /// From a client, over HTTP/1.
    Received(RequestBody),
    /// From a client, over HTTP/2. It fails if the client resets the stream, so that no part of a body passes for all of it.
    Stream(http2::Incoming),
    /// From hyper.
    Incoming(Incoming),
    Boxed(Pin<Box<dyn HttpBody<Data = Bytes, Error = BoxError> + Send>>),
}

impl Body {
    /// Creates a body without data and trailers.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// Wraps any body. This needs one allocation, or none if it is a [`Body`].
    pub fn new<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let mut body = Some(body);
        if let Some(same) = (&mut body as &mut dyn std::any::Any).downcast_mut::<Option<Self>>() {
            return same.take().unwrap_or_default();
        }
        if let Some(incoming) = (&mut body as &mut dyn std::any::Any).downcast_mut::<Option<Incoming>>() {
            return incoming.take().map_or_else(Self::empty, Self::from);
        }
        body.map_or_else(Self::empty, |body| Kind::Boxed(Box::pin(Boxable { body })).into())
    }

    /// A body that a client has sent in one piece. The request counts as received when the body is read, as if it had been
    /// streamed: what happens before, such as a local reply, must not depend on how many bytes came with the head.
    pub(crate) fn received(bytes: Bytes) -> Self {
        Self { counts_when_read: true, ..Self::from(bytes) }
    }

    /// Lets `info` count the bytes of this request body and record its end. A body of one buffer is complete already, and is
    /// counted once even if it is sent several times.
    pub(crate) fn count(&mut self, info: &StreamInfo) {
        match self.as_bytes() {
            Some(bytes) if !self.counts_when_read => {
                info.add_bytes_received(bytes.len() as u64);
                info.complete_at_start();
            }
            None if self.is_end_stream() => info.complete_at_start(),
            _ => self.counted_by = Some(info.clone()),
        }
    }

    /// The whole body, if it is one buffer or empty.
    pub(crate) fn as_bytes(&self) -> Option<&Bytes> {
        static EMPTY: Bytes = Bytes::new();
        match &self.kind {
            Kind::Empty => Some(&EMPTY),
            Kind::Full(bytes) => Some(bytes),
            Kind::Received(_) | Kind::Stream(_) | Kind::Incoming(_) | Kind::Boxed(_) => None,
        }
    }
}

impl From<Kind> for Body {
    fn from(kind: Kind) -> Self {
        Self { kind, counted_by: None, counts_when_read: false }
    }
}

impl From<Incoming> for Body {
    fn from(incoming: Incoming) -> Self {
        Kind::Incoming(incoming).into()
    }
}

impl From<RequestBody> for Body {
    fn from(body: RequestBody) -> Self {
        Kind::Received(body).into()
    }
}

impl From<http2::Incoming> for Body {
    fn from(body: http2::Incoming) -> Self {
        if body.is_end_stream() { Self::empty() } else { Kind::Stream(body).into() }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::empty() } else { Kind::Full(bytes).into() }
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Bytes::from_static(text.as_bytes()).into()
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl From<()> for Body {
    fn from((): ()) -> Self {
        Self::empty()
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Self { kind, counted_by, .. } = &mut *self;
        let frame = kind.poll_frame(cx);
        if let (Some(info), Poll::Ready(frame)) = (&counted_by, &frame)
            && count_request(info, frame.as_ref(), kind)
        {
            *counted_by = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.kind.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.kind.size_hint()
    }
}

/// Counts a frame of a request. Returns whether the request has ended.
fn count_request(info: &StreamInfo, frame: Option<&Result<Frame<Bytes>, BoxError>>, kind: &Kind) -> bool {
    match frame {
        Some(Ok(frame)) => info.add_bytes_received(frame.data_ref().map_or(0, Bytes::len) as u64),
        Some(Err(error)) if is_malformed(error) => {
            info.mark_request_malformed();
            return true;
        }
        Some(Err(_)) => {
            info.mark_request_aborted();
            return true;
        }
        None => {}
    }
    // A reader does not poll again after trailers.
    let has_trailers = matches!(frame, Some(Ok(frame)) if frame.is_trailers());
    let is_complete = frame.is_none() || has_trailers || kind.is_end_stream();
    if is_complete {
        info.complete_request();
    }
    is_complete
}

/// Whether `error` is a violation of HTTP/1, such as a chunk size that is not a number.
fn is_malformed(error: &BoxError) -> bool {
    if let Some(RequestBodyError::Malformed(_)) = error.downcast_ref() {
        return true;
    }
    let hyper = error.downcast_ref::<hyper::Error>();
    let of_codec = hyper.and_then(|error| error.source()?.downcast_ref::<std::io::Error>());
    of_codec.is_some_and(|error| matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::InvalidData))
}

impl Kind {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Self::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Self::Received(body) => {
                Pin::new(body).poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(Into::into)))
            }
            Self::Stream(body) => body.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(Into::into))),
            Self::Incoming(incoming) => {
                Pin::new(incoming).poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(Into::into)))
            }
            Self::Boxed(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(_) => false,
            Self::Received(body) => body.is_end_stream(),
            Self::Stream(body) => body.is_end_stream(),
            Self::Incoming(incoming) => incoming.is_end_stream(),
            Self::Boxed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Received(body) => body.size_hint(),
            Self::Stream(body) => body.size_hint(),
            Self::Incoming(incoming) => incoming.size_hint(),
            Self::Boxed(body) => body.size_hint(),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.kind {
            Kind::Empty => "Empty",
            Kind::Full(_) => "Full",
            Kind::Received(_) => "Received",
            Kind::Stream(_) => "Stream",
            Kind::Incoming(_) => "Incoming",
            Kind::Boxed(_) => "Boxed",
        };
        f.debug_tuple("Body").field(&kind).field(&self.size_hint()).finish()
    }
}

pin_project_lite::pin_project! {
    /// Converts the errors of a body.
    struct Boxable<B> {
        #[pin]
        body: B,
    }
}

impl<B> HttpBody for Boxable<B>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.project().body.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};
    use http_body_util::{BodyExt, Full};
    use mesh_core::http1::{BodyLength, BodyPart};

    use super::*;

    #[tokio::test]
    async fn a_wrapped_body_keeps_its_data_and_trailers() {
        let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))]);
        let foreign = Full::new(Bytes::from("a")).with_trailers(std::future::ready(Some(Ok(trailers.clone()))));
        let collected = Body::new(foreign).collect().await.unwrap();
        assert_eq!(collected.trailers(), Some(&trailers));
        assert_eq!(collected.to_bytes(), "a");
    }

    #[test]
    fn a_body_is_not_boxed_twice() {
        let body = Body::new(Full::new(Bytes::from("abc")));
        assert!(matches!(body.kind, Kind::Boxed(_)));
        assert!(matches!(Body::new(Body::from("abc")).kind, Kind::Full(_)));
        assert_eq!(Body::new(body).size_hint().exact(), Some(3));
    }

    #[tokio::test]
    async fn a_request_has_been_received_with_its_trailers() {
        let parts = [BodyPart::Data(Bytes::from("a")), BodyPart::Trailers(HeaderMap::new()), BodyPart::End];
        let mut body = Body::from(RequestBody::new(BodyLength::Chunked, parts.into()).1);
        let info = StreamInfo::new(crate::timer::now());
        body.count(&info);
        assert!(body.frame().await.unwrap().unwrap().is_data() && !info.is_request_complete());
        assert!(body.frame().await.unwrap().unwrap().is_trailers() && info.is_request_complete());
        assert_eq!(info.bytes_received(), 1);
    }

    #[test]
    fn a_body_without_bytes_ends_at_once() {
        assert!(Body::from("").is_end_stream());
        assert!(Body::default().is_end_stream());
        assert!(!Body::from("x").is_end_stream());
    }
}
