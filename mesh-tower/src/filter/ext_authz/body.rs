//! Reads the beginning of a request's body, and puts it back.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use mesh_core::filter::ext_authz::{BufferSettings, CheckBody};

use crate::{Body, BoxError};

/// The outcome of reading.
pub(super) enum ReadBody {
    /// The beginning, or all of it; `None` = the request has no body.
    Read(Option<CheckBody>),
    /// It is larger than is allowed.
    TooLarge,
    /// The client has not sent all of it.
    Failed,
}

/// Reads `body` as far as `settings` say. Afterwards it has the same contents as before, unless reading has failed.
pub(super) async fn read(body: &mut Option<Body>, settings: BufferSettings) -> ReadBody {
    let Some(mut rest) = body.take().filter(|body| !body.is_end_stream()) else {
        body.get_or_insert_default();
        return ReadBody::Read(None);
    };
    let mut data = BytesMut::new();
    let mut trailers = None;
    loop {
        let Some(frame) = rest.frame().await else { break };
        let Ok(frame) = frame else { return ReadBody::Failed };
        match frame.into_data() {
            Ok(chunk) => data.extend_from_slice(&chunk),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
        if settings.allow_partial_message {
            if data.len() >= settings.max_request_bytes && !rest.is_end_stream() {
                break;
            }
        } else if data.len() > settings.max_request_bytes {
            return ReadBody::TooLarge;
        }
    }
    let (data, is_whole) = (data.freeze(), rest.is_end_stream() || trailers.is_some());
    *body = Some(match (&trailers, is_whole) {
        (None, true) => Body::from(data.clone()),
        _ => Body::new(Restored { data: Some(data.clone()), trailers, rest }),
    });
    ReadBody::Read(Some(CheckBody::new(data, is_whole)))
}

/// A body whose beginning was read.
struct Restored {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
    rest: Body,
}

impl HttpBody for Restored {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(data) = self.data.take().filter(|data| !data.is_empty()) {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if let Some(trailers) = self.trailers.take() {
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        Pin::new(&mut self.rest).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.data.as_ref().is_none_or(Bytes::is_empty) && self.trailers.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let before = self.data.as_ref().map_or(0, |data| data.len() as u64);
        let rest = self.rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + before);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + before);
        }
        hint
    }
}
