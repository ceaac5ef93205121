//! A request and its response.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use http::{Method, Version};
use http_body::Body as _;
use mesh_core::http1::{BodyWriter, Framing};

use crate::{
    ResponseBody,
    call::Interim,
    http1::{Filled, Output, RequestBodySender},
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
    /// The request asks for another protocol on the connection.
    pub(super) is_upgrade: bool,
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
        let Progress::Sending { body, writer } = &mut self.response else { return Ok(false) };
        let filled = if writer.framing() == Framing::None {
            drop_frames(body, cx)?
        } else {
            output.fill(body, writer, cx).map_err(|_| CutOff)?
        };
        if filled == Filled::Complete {
            self.response = Progress::Complete;
        }
        Ok(filled == Filled::Full)
    }
}

/// Reads the body of a response such as 204, which has none on the wire, although a program may give it one.
fn drop_frames(body: &mut ResponseBody, cx: &mut Context<'_>) -> Result<Filled, CutOff> {
    while !body.is_end_stream() {
        match Pin::new(&mut *body).poll_frame(cx) {
            Poll::Pending => return Ok(Filled::Waits),
            Poll::Ready(None) => break,
            Poll::Ready(Some(frame)) => drop(frame.map_err(|_| CutOff)?),
        }
    }
    Ok(Filled::Complete)
}
