//! A request and its response.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Method, Version};
use http_body::{Body as _, Frame};
use mesh_core::http1::{BodyWriter, Framing};

use crate::{
    BoxError, ResponseBody,
    call::Interim,
    http1::{Output, RequestBodySender},
    upgrade::Tunnel,
};

/// A request and its response.
pub(super) struct Exchange {
    pub(super) method: Method,
    pub(super) version: Version,
    /// Passes the body of the request on; `None` = all of it was received.
    pub(super) body: Option<RequestBodySender>,
    /// Interim responses for the client; `None` = there are none.
    pub(super) interim: Option<Interim>,
    pub(super) response: Progress,
    pub(super) tunnel: Option<Tunnel>,
}

/// How far the response is.
pub(super) enum Progress {
    Awaited,
    Sending {
        body: ResponseBody,
        writer: BodyWriter,
    },
    /// All of it is in the output.
    Complete,
}

/// The connection has ended within a request or a response.
pub(super) struct CutOff;

impl Exchange {
    /// Moves the frames that are ready from the response to the output. Returns whether there may be more, but no room for them.
    ///
    /// # Errors
    /// If the response fails. What was received of it before is in the output.
    pub(super) fn fill(&mut self, output: &mut Output, cx: &mut Context<'_>) -> Result<bool, CutOff> {
        while let Progress::Sending { body, writer } = &mut self.response {
            if !output.has_room() {
                return Ok(true);
            }
            let frame = if body.is_end_stream() { None } else { Some(Pin::new(body).poll_frame(cx)) };
            let is_complete = match frame {
                Some(Poll::Pending) => return Ok(false),
                Some(Poll::Ready(Some(frame))) => write_frame(frame, writer, output)?,
                Some(Poll::Ready(None)) | None => {
                    writer.end(None, output.head()).map_err(|_| CutOff)?;
                    true
                }
            };
            if is_complete {
                self.response = Progress::Complete;
            }
        }
        Ok(false)
    }
}

/// Puts a frame into the output. Returns whether it ends the response.
fn write_frame(
    frame: Result<Frame<Bytes>, BoxError>,
    writer: &mut BodyWriter,
    output: &mut Output,
) -> Result<bool, CutOff> {
    let frame = frame.map_err(|_| CutOff)?;
    // A response such as 204 has no body, although a program may give it one.
    if writer.framing() == Framing::None { Ok(false) } else { output.frame(frame, writer).map_err(|_| CutOff) }
}
