//! Deadlines that are cheap unless they pass.
//!
//! Almost every request has a deadline, and almost none reaches it. Creating and dropping a tokio `Sleep` for each takes the
//! lock of the timer driver twice (388 ns). A [`Deadline`] therefore uses a timer only when it is polled, and takes it from
//! a free list. A timer that is still registered for an earlier time is moved with one atomic store and never deregistered.
//! In return, a timer in the free list may wake the task that used it last without need.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::time::Sleep;

/// The current time, which is virtual in tests with paused time.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The free list of timers of one worker.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timers(Arc<FreeList>);

#[derive(Default)]
struct FreeList(Mutex<Vec<Pin<Box<Sleep>>>>);

impl Timers {
    /// Maximum number of timers in the list. Further timers are freed.
    const MAX_FREE: usize = 4096;

    /// Creates a deadline at `at`; `None` = never.
    pub(crate) fn deadline(&self, at: Option<Instant>) -> Deadline {
        Deadline { at, timer: None, timers: self.clone() }
    }

    /// Waits for `duration`.
    pub(crate) async fn sleep(&self, duration: Duration) {
        if !duration.is_zero() {
            let mut deadline = self.deadline(now().checked_add(duration));
            std::future::poll_fn(|cx| deadline.poll_expired(cx)).await;
        }
    }
}

impl fmt::Debug for FreeList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FreeList").field(&self.0.lock().len()).finish()
    }
}

/// A time that can be waited for and changed.
#[derive(Debug)]
pub(crate) struct Deadline {
    at: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    timers: Timers,
}

impl Deadline {
    /// Changes the deadline; `None` = never.
    pub(crate) fn set(&mut self, at: Option<Instant>) {
        if self.at != at {
            self.at = at;
            if let (Some(timer), Some(at)) = (&mut self.timer, at) {
                timer.as_mut().reset(at.into());
            }
        }
    }

    /// Ready when the deadline has passed. Until then, the task is registered to be woken.
    pub(crate) fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| {
            let free = self.timers.0.0.lock().pop();
            match free {
                Some(mut timer) => {
                    timer.as_mut().reset(at.into());
                    timer
                }
                None => Box::pin(tokio::time::sleep_until(at.into())),
            }
        });
        timer.as_mut().poll(cx)
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        if let Some(timer) = self.timer.take() {
            let mut free = self.timers.0.0.lock();
            if free.len() < Timers::MAX_FREE {
                free.push(timer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    fn free(timers: &Timers) -> usize {
        timers.0.0.lock().len()
    }

    #[tokio::test(start_paused = true)]
    async fn a_reused_timer_keeps_each_deadline() {
        let timers = Timers::default();
        let start = now();
        for millis in [50, 20, 300, 5] {
            let at = now() + Duration::from_millis(millis);
            let mut deadline = timers.deadline(Some(at));
            poll_fn(|cx| deadline.poll_expired(cx)).await;
            assert_eq!(now(), at);
        }
        assert_eq!(now() - start, Duration::from_millis(375));
        assert_eq!(free(&timers), 1, "one timer served all");
    }

    #[tokio::test(start_paused = true)]
    async fn a_moved_deadline_counts_from_its_last_position() {
        let timers = Timers::default();
        let start = now();
        let mut deadline = timers.deadline(Some(start + Duration::from_secs(1)));
        let polled = poll_fn(|cx| Poll::Ready(deadline.poll_expired(cx))).await;
        assert!(polled.is_pending());
        deadline.set(Some(start + Duration::from_secs(3)));
        poll_fn(|cx| deadline.poll_expired(cx)).await;
        assert_eq!(now(), start + Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_is_never_waited_for_takes_no_timer() {
        let timers = Timers::default();
        drop(timers.deadline(Some(now() + Duration::from_secs(1))));
        let mut never = timers.deadline(None);
        assert!(poll_fn(|cx| Poll::Ready(never.poll_expired(cx))).await.is_pending());
        drop(never);
        assert_eq!(free(&timers), 0);
    }
}
