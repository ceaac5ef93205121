//! The one body type of the data plane.
//!
//! Requests and responses pass through many layers; were each generic over its body, every user's service would
//! multiply the code, and were each body boxed, every request would pay for it. [`Body`] is therefore one concrete type
//! that holds the common cases (nothing, one buffer, a stream from a connection) without an allocation and everything
//! else in one box. Bodies are streamed frame by frame, trailers included; nothing is ever collected here.

use std::{
    error::Error,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;

use crate::StreamInfo;

/// Any error; the error type of [`Body`].
pub type BoxError = Box<dyn Error + Send + Sync>;

/// The body of a request or a response.
#[derive(Default)]
pub struct Body(Kind);

#[derive(Default)]
enum Kind {
    #[default]
    Empty,
    Full(Bytes),
    Incoming(Incoming),
    /// A request body whose bytes are counted on their way.
    Counted(Incoming, StreamInfo),
    Boxed(Pin<Box<dyn HttpBody<Data = Bytes, Error = BoxError> + Send>>),
}

impl Body {
    /// A body without data or trailers.
    #[must_use]
    pub fn empty() -> Self {
        Self(Kind::Empty)
    }

    /// Wraps any body; one allocation, or none if it is a [`Body`] already.
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
        body.map_or_else(Self::empty, |body| Self(Kind::Boxed(Box::pin(Boxable { body }))))
    }
}

impl Body {
    /// The body of a request: `info` counts its bytes and learns when it has ended.
    #[must_use]
    pub(crate) fn counted(incoming: Incoming, info: &StreamInfo) -> Self {
        if incoming.is_end_stream() {
            info.complete_request();
            return Self::empty();
        }
        Self(Kind::Counted(incoming, info.clone()))
    }
}

impl From<Incoming> for Body {
    fn from(incoming: Incoming) -> Self {
        Self(Kind::Incoming(incoming))
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::empty() } else { Self(Kind::Full(bytes)) }
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

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let kind = &mut self.get_mut().0;
        match kind {
            Kind::Empty => Poll::Ready(None),
            Kind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *kind = Kind::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Kind::Incoming(incoming) => {
                Pin::new(incoming).poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(Into::into)))
            }
            Kind::Counted(incoming, info) => poll_counted(incoming, info, cx),
            Kind::Boxed(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Empty => true,
            Kind::Full(_) => false,
            Kind::Incoming(incoming) | Kind::Counted(incoming, _) => incoming.is_end_stream(),
            Kind::Boxed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Incoming(incoming) | Kind::Counted(incoming, _) => incoming.size_hint(),
            Kind::Boxed(body) => body.size_hint(),
        }
    }
}

fn poll_counted(
    incoming: &mut Incoming,
    info: &StreamInfo,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
    let frame = ready!(Pin::new(&mut *incoming).poll_frame(cx));
    if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
        info.add_bytes_received(data.len() as u64);
    }
    if frame.is_none() || incoming.is_end_stream() {
        info.complete_request();
    }
    Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.0 {
            Kind::Empty => "Empty",
            Kind::Full(_) => "Full",
            Kind::Incoming(_) => "Incoming",
            Kind::Counted(..) => "Counted",
            Kind::Boxed(_) => "Boxed",
        };
        f.debug_tuple("Body").field(&kind).field(&self.size_hint()).finish()
    }
}

pin_project_lite::pin_project! {
    /// Turns the error of a foreign body into ours.
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
        assert!(matches!(body.0, Kind::Boxed(_)));
        assert!(matches!(Body::new(Body::from("abc")).0, Kind::Full(_)));
        assert_eq!(Body::new(body).size_hint().exact(), Some(3));
    }

    #[test]
    fn a_body_without_bytes_ends_at_once() {
        assert!(Body::from("").is_end_stream());
        assert!(Body::default().is_end_stream());
        assert!(!Body::from("x").is_end_stream());
    }
}
