//! The timeouts of a downstream stream: Envoy `stream_idle_timeout`, `RouteAction.idle_timeout` and `request_timeout`.

use std::{
    task::{Context, Poll},
    time::{Duration, Instant},
};

use mesh_core::local_reply::LocalReply;

use super::StreamInfo;
use crate::timer::{Deadline, now};

/// The timeouts of a stream. A timer is used only while there is something to wait for.
#[derive(Debug, Default)]
pub(crate) struct StreamTimeouts {
    idle_timeout: Option<Duration>,
    request_deadline: Option<Instant>,
    deadline: Option<Deadline>,
    /// When the stream became idle; `None` = there was activity since the timer was last checked.
    idle_since: Option<Instant>,
    received: u64,
}

/// The timeout that has expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamExpired {
    /// The idle timeout.
    Idle { request_complete: bool },
    /// The timeout for receiving the request.
    Request,
}

impl StreamExpired {
    /// The local reply, if no response has begun.
    pub(crate) fn reply(self) -> LocalReply {
        match self {
            Self::Idle { request_complete: true } => LocalReply::STREAM_IDLE_TIMEOUT,
            Self::Idle { request_complete: false } => LocalReply::REQUEST_IDLE_TIMEOUT,
            Self::Request => LocalReply::REQUEST_TIMEOUT,
        }
    }
}

impl StreamTimeouts {
    /// The timeouts of the stream of `info`; `None` and zero are unlimited.
    pub(crate) fn new(idle_timeout: Option<Duration>, request_timeout: Option<Duration>, info: &StreamInfo) -> Self {
        let limited = |timeout: Option<Duration>| timeout.filter(|timeout| !timeout.is_zero());
        let idle_timeout = limited(idle_timeout);
        let request_deadline = limited(request_timeout).and_then(|timeout| info.start().checked_add(timeout));
        if idle_timeout.is_none() && request_deadline.is_none() {
            return Self::default();
        }
        Self { idle_timeout, request_deadline, deadline: None, idle_since: Some(info.start()), received: 0 }
    }

    /// The idle timeout of the stream; `None` = unlimited.
    pub(crate) fn idle_timeout(&self) -> Option<Duration> {
        self.idle_timeout
    }

    /// Records that the response has begun. The timeout for receiving the request does not apply from then on, as in Envoy.
    pub(crate) fn response_began(&mut self) {
        self.request_deadline = None;
        self.moved();
    }

    /// Records activity on the stream.
    pub(crate) fn moved(&mut self) {
        self.idle_since = None;
    }

    /// Ready when a timeout has expired. Call it when nothing else is ready.
    pub(crate) fn poll_expired(&mut self, info: &StreamInfo, cx: &mut Context<'_>) -> Poll<StreamExpired> {
        if self.idle_timeout.is_none() && self.request_deadline.is_none() {
            return Poll::Pending;
        }
        loop {
            let received = info.bytes_received();
            if received != self.received {
                self.received = received;
                self.idle_since = None;
            }
            let idle_since = *self.idle_since.get_or_insert_with(now);
            let idle_at = self.idle_timeout.and_then(|timeout| idle_since.checked_add(timeout));
            let request_at = self.request_deadline.filter(|_| !info.is_request_complete());
            let Some(at) = idle_at.into_iter().chain(request_at).min() else { return Poll::Pending };
            let deadline = self.deadline.get_or_insert_with(|| Deadline::new(None));
            deadline.set(Some(at));
            if deadline.poll_expired(cx).is_pending() {
                return Poll::Pending;
            }
            if request_at == Some(at) && !info.is_request_complete() {
                return Poll::Ready(StreamExpired::Request);
            }
            if idle_at == Some(at) {
                return Poll::Ready(StreamExpired::Idle { request_complete: info.is_request_complete() });
            }
        }
    }
}
