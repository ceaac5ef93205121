//! The time limits that a listener sets for a stream: silence on it, and the time until the whole request is received.
//! Envoy `stream_idle_timeout`, `RouteAction.idle_timeout` and `request_timeout`.

use std::{
    task::{Context, Poll},
    time::{Duration, Instant},
};

use mesh_core::local_reply::LocalReply;

use super::StreamInfo;
use crate::timer::{Deadline, Timers, now};

/// The limits of one stream. A timer is taken only when there is something to wait for.
#[derive(Debug, Default)]
pub(crate) struct StreamTimeouts {
    idle_timeout: Option<Duration>,
    request_deadline: Option<Instant>,
    deadline: Option<Deadline>,
    timers: Option<Timers>,
    /// Since when nothing has moved; `None` = something moved since the timer was looked at last.
    silent_since: Option<Instant>,
    received: u64,
}

/// The limit that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamExpired {
    /// Nothing moved, while the request was complete or not.
    Idle { request_complete: bool },
    /// The request did not arrive.
    Request,
}

impl StreamExpired {
    /// The response, if none has begun.
    pub(crate) fn reply(self) -> LocalReply {
        match self {
            Self::Idle { request_complete: true } => LocalReply::STREAM_IDLE_TIMEOUT,
            Self::Idle { request_complete: false } => LocalReply::REQUEST_IDLE_TIMEOUT,
            Self::Request => LocalReply::REQUEST_TIMEOUT,
        }
    }
}

impl StreamTimeouts {
    /// Limits for the stream of `info`; `None` and zero are unlimited.
    pub(crate) fn new(
        idle_timeout: Option<Duration>,
        request_timeout: Option<Duration>,
        info: &StreamInfo,
        timers: &Timers,
    ) -> Self {
        let limited = |timeout: Option<Duration>| timeout.filter(|timeout| !timeout.is_zero());
        let idle_timeout = limited(idle_timeout);
        let request_deadline = limited(request_timeout).and_then(|timeout| info.start().checked_add(timeout));
        if idle_timeout.is_none() && request_deadline.is_none() {
            return Self::default();
        }
        let (timers, silent_since) = (Some(timers.clone()), Some(info.start()));
        Self { idle_timeout, request_deadline, deadline: None, timers, silent_since, received: 0 }
    }

    /// Notes that something moved.
    pub(crate) fn moved(&mut self) {
        self.silent_since = None;
    }

    /// Ready once a limit is reached. To be called when nothing else is ready.
    pub(crate) fn poll_expired(&mut self, info: &StreamInfo, cx: &mut Context<'_>) -> Poll<StreamExpired> {
        let Some(timers) = &self.timers else { return Poll::Pending };
        loop {
            let received = info.bytes_received();
            if received != self.received {
                self.received = received;
                self.silent_since = None;
            }
            let silent_since = *self.silent_since.get_or_insert_with(now);
            let idle_at = self.idle_timeout.and_then(|timeout| silent_since.checked_add(timeout));
            let request_at = self.request_deadline.filter(|_| !info.is_request_complete());
            let Some(at) = idle_at.into_iter().chain(request_at).min() else { return Poll::Pending };
            let deadline = self.deadline.get_or_insert_with(|| timers.deadline(None));
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
