//! The timeout of the head of an HTTP/1 request. Envoy `HttpConnectionManager.request_headers_timeout`.
//!
//! The timeout runs from the first byte of the head. hyper's own timeout also runs between two requests, and closes the
//! connection without a response. A head that begins in the same read as the previous request is timed from the next
//! read.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Sleep;

use super::ConnectionInfo;

/// The timeout of a head.
#[derive(Clone, Debug)]
pub(crate) struct HeadLimit {
    pub(crate) request_headers_timeout: Duration,
    /// The response to a client that is too slow, in wire format.
    pub(crate) answer: Bytes,
}

/// Times the heads of one connection. A head that arrives in one read needs no timer.
pub(super) struct HeadTimer {
    limit: Option<HeadLimit>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl HeadTimer {
    pub(super) fn new(limit: Option<HeadLimit>) -> Self {
        Self { limit, timer: None }
    }

    /// Resolves to the response when an incomplete head has timed out. To be polled when there is nothing to read.
    pub(super) fn poll_expired(&mut self, info: &ConnectionInfo, cx: &mut Context<'_>) -> Poll<Bytes> {
        let (Some(limit), Some(since)) = (&self.limit, info.head_since()) else { return Poll::Pending };
        let at = since + limit.request_headers_timeout;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if timer.deadline() != at {
            timer.as_mut().reset(at);
        }
        timer.as_mut().poll(cx).map(|()| limit.answer.clone())
    }
}
