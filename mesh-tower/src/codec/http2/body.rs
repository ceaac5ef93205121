//! The body of an HTTP/2 request.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, HeaderName};
use http_body::{Body as HttpBody, Frame, SizeHint};
use mesh_core::{http1, model::HeadersWithUnderscoresAction as Underscores};

use super::Http2;
use crate::{Body, BoxError, http1::RequestBodyError, http2::Incoming, telemetry::CodecStats};

/// The body of a request with `headers`. There is none if the headers end the stream; otherwise there is one, also if the method
/// usually has none and there is no `content-length`.
pub(super) fn request_body(headers: &HeaderMap, receive: RecvStream, config: &Http2) -> Body {
    let body = Body::from(Incoming::new(headers, receive));
    match config.trailers {
        Underscores::Allow => body,
        _ if body.is_end_stream() => body,
        action => Body::new(CheckedBody { body, action, stats: Arc::clone(&config.stats) }),
    }
}

/// Removes the headers whose names have an underscore. Returns how many there were.
pub(crate) fn drop_underscores(headers: &mut HeaderMap) -> u64 {
    let names: Vec<_> = headers.keys().filter(|name| has_underscore(name)).cloned().collect();
    let before = headers.len();
    for name in &names {
        headers.remove(name);
    }
    (before - headers.len()) as u64
}

pub(crate) fn has_underscore(name: &HeaderName) -> bool {
    name.as_str().contains('_')
}

/// The body of a request to a listener that does not accept trailers whose names have an underscore.
struct CheckedBody {
    body: Body,
    action: Underscores,
    stats: Arc<CodecStats>,
}

impl CheckedBody {
    fn check(&self, trailers: &mut HeaderMap) -> Result<(), http1::Error> {
        match self.action {
            Underscores::Allow => {}
            Underscores::DropHeader => {
                self.stats.http2_dropped_headers_with_underscores.add(drop_underscores(trailers));
            }
            Underscores::RejectRequest if trailers.keys().any(has_underscore) => {
                self.stats.http2_requests_rejected_with_underscores_in_headers.inc();
                return Err(http1::Error::UnexpectedUnderscore);
            }
            Underscores::RejectRequest => {}
        }
        Ok(())
    }
}

impl HttpBody for CheckedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(cx)) else { return Poll::Ready(None) };
        let mut frame = frame?;
        if let Some(trailers) = frame.trailers_mut() {
            self.check(trailers).map_err(RequestBodyError::Malformed)?;
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
