//! Which idle connections keep the memory that only requests need, so that the next request finds it.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use crate::timer::{Deadline, now};

/// How many connections of the process may keep it.
const MAX_READY: usize = 64;

/// How long an idle connection may keep it.
const KEPT_READY: Duration = Duration::from_millis(100);

static READY: AtomicUsize = AtomicUsize::new(0);

/// A connection that has the memory of a request.
pub(super) struct Ready {
    /// `None` = there are too many, so the connection gives the memory up whenever it is idle.
    idle_timer: Option<Deadline>,
}

impl Ready {
    pub(super) fn take() -> Self {
        let others = READY.fetch_add(1, Ordering::Relaxed);
        Self { idle_timer: (others < MAX_READY).then(|| Deadline::new(None)) }
    }

    /// Ready when the connection, which has been idle since `idle_since`, is to give the memory up. The timer is set again only
    /// when it has fired.
    pub(super) fn poll_expired(&mut self, idle_since: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let Some(timer) = &mut self.idle_timer else { return Poll::Ready(()) };
        let until = idle_since + KEPT_READY;
        timer.set_if_never(until);
        while timer.poll_expired(cx).is_ready() {
            if until <= now() {
                return Poll::Ready(());
            }
            timer.set(Some(until));
        }
        Poll::Pending
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        READY.fetch_sub(1, Ordering::Relaxed);
    }
}
