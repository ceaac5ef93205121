//! How long the head of an HTTP/1 request may take to come in. Envoy `HttpConnectionManager.request_headers_timeout`.
//!
//! The time counts from the head's first byte. hyper's own timer also runs between two requests, and ends the connection
//! without an answer. What came together with the request before counts from the bytes that follow it.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Sleep;

use super::ConnectionInfo;

/// The longest time for a head.
#[derive(Clone, Debug)]
pub(crate) struct HeadLimit {
    pub(crate) request_headers_timeout: Duration,
    /// The response to the client, as it goes over the wire.
    pub(crate) answer: Bytes,
}

/// Watches one connection's heads. A head that comes at once costs no timer.
pub(super) struct HeadTimer {
    limit: Option<HeadLimit>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl HeadTimer {
    pub(super) fn new(limit: Option<HeadLimit>) -> Self {
        Self { limit, timer: None }
    }

    /// The answer once the head that has begun takes too long. To be asked when there is nothing to read.
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
