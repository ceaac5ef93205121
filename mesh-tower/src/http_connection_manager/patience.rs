//! How long a listener lets a request take: silence on its stream, and the time until all of it is received.

use std::{
    task::{Context, Poll},
    time::{Duration, Instant},
};

use mesh_core::{local_reply::LocalReply, model::RouteAction};

use super::listener::ListenerContext;
use crate::{
    StreamInfo,
    timer::{Deadline, now},
};

/// The limits of one stream. A timer is taken only when there is something to wait for.
#[derive(Debug)]
pub(super) struct Patience {
    idle_timeout: Option<Duration>,
    request_deadline: Option<Instant>,
    deadline: Deadline,
    /// Since when nothing has moved; `None` = something moved since the timer was looked at last.
    silent_since: Option<Instant>,
    received: u64,
}

/// What took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expired {
    /// Nothing moved, while the request was complete or not.
    Idle { request_complete: bool },
    /// The request did not arrive.
    Request,
}

impl Expired {
    /// The answer, if none has begun.
    pub(super) fn reply(self) -> LocalReply {
        match self {
            Self::Idle { request_complete: true } => LocalReply::STREAM_IDLE_TIMEOUT,
            Self::Idle { request_complete: false } => LocalReply::REQUEST_IDLE_TIMEOUT,
            Self::Request => LocalReply::REQUEST_TIMEOUT,
        }
    }
}

impl Patience {
    pub(super) fn new(listener: &ListenerContext, action: Option<&RouteAction>, info: &StreamInfo) -> Self {
        let of_route = action.and_then(|action| action.idle_timeout);
        let idle_timeout = of_route.or(listener.config.stream_idle_timeout).filter(|timeout| !timeout.is_zero());
        let request_timeout = listener.config.request_timeout.filter(|timeout| !timeout.is_zero());
        Self {
            idle_timeout,
            request_deadline: request_timeout.and_then(|timeout| info.start().checked_add(timeout)),
            deadline: listener.timers.deadline(None),
            silent_since: Some(info.start()),
            received: 0,
        }
    }

    /// Something moved.
    pub(super) fn moved(&mut self) {
        self.silent_since = None;
    }

    /// Ready if there was nothing to do for too long; to be asked when there is nothing to do.
    pub(super) fn poll_expired(&mut self, info: &StreamInfo, cx: &mut Context<'_>) -> Poll<Expired> {
        if self.idle_timeout.is_none() && self.request_deadline.is_none() {
            return Poll::Pending;
        }
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
            self.deadline.set(Some(at));
            if self.deadline.poll_expired(cx).is_pending() {
                return Poll::Pending;
            }
            if request_at == Some(at) && !info.is_request_complete() {
                return Poll::Ready(Expired::Request);
            }
            if idle_at == Some(at) {
                return Poll::Ready(Expired::Idle { request_complete: info.is_request_complete() });
            }
        }
    }
}
