//! Deadlines that are cheap unless they pass.
//!
//! Almost every request has a deadline, and almost none reaches it. Creating and dropping a tokio `Sleep` for each takes the
//! lock of the timer driver twice (388 ns). A [`Deadline`] therefore uses a timer only when it is polled, and takes it from
//! a free list. A timer that is still registered for an earlier time is moved with one atomic store and never deregistered.
//! In return, a timer in the free list may wake the task that used it last without need.
//!
//! Each thread has its own free list. A timer belongs to a runtime, and panics if it is polled after the runtime has shut down.
//! The list therefore contains timers of one runtime only: the one that last took a timer on this thread.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::{
    runtime::{self, Handle},
    time::Sleep,
};

/// The current time, which is virtual in tests with paused time.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Waits for `duration`.
pub(crate) async fn sleep(duration: Duration) {
    if !duration.is_zero() {
        let mut deadline = Deadline::new(now().checked_add(duration));
        poll_fn(|cx| deadline.poll_expired(cx)).await;
    }
}

/// A time that can be waited for and changed.
#[derive(Debug)]
pub(crate) struct Deadline {
    at: Option<Instant>,
    timer: Option<Timer>,
}

impl Deadline {
    /// A deadline at `at`; `None` = never.
    pub(crate) fn new(at: Option<Instant>) -> Self {
        Self { at, timer: None }
    }

    /// Whether there is no deadline.
    pub(crate) fn is_never(&self) -> bool {
        self.at.is_none()
    }

    /// Changes the deadline; `None` = never.
    pub(crate) fn set(&mut self, at: Option<Instant>) {
        if self.at != at {
            self.at = at;
            if let (Some(timer), Some(at)) = (&mut self.timer, at) {
                timer.sleep.as_mut().reset(at.into());
            }
        }
    }

    /// Sets the deadline if there is none.
    pub(crate) fn set_if_never(&mut self, at: Instant) {
        self.at.get_or_insert(at);
    }

    /// Ready when the deadline has passed. Until then, the task is registered to be woken.
    pub(crate) fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else { return Poll::Pending };
        self.timer.get_or_insert_with(|| Timer::take(at)).sleep.as_mut().poll(cx)
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        if let Some(timer) = self.timer.take() {
            timer.release();
        }
    }
}

/// A timer of one runtime.
#[derive(Debug)]
struct Timer {
    sleep: Pin<Box<Sleep>>,
    runtime: runtime::Id,
}

impl Timer {
    /// Takes a timer of the current runtime from this thread's free list, or makes one.
    fn take(at: Instant) -> Self {
        let runtime = Handle::current().id();
        match FREE.with(|free| free.borrow_mut().take(runtime)) {
            Ok(Some(mut sleep)) => {
                sleep.as_mut().reset(at.into());
                Self { sleep, runtime }
            }
            // Timers of another runtime are dropped here, after the borrow has ended: they may hold the last waker of a task.
            Ok(None) | Err(OtherRuntime(_)) => Self { sleep: Box::pin(tokio::time::sleep_until(at.into())), runtime },
        }
    }

    /// Returns the timer to this thread's free list; drops it if the list is full or belongs to another runtime.
    fn release(self) {
        // `try_with` fails while the thread exits. A timer that is not kept is dropped after the borrow has ended.
        let _freed = FREE.try_with(|free| free.borrow_mut().keep(self)).ok().flatten();
    }
}

thread_local! {
    static FREE: RefCell<FreeList> = const { RefCell::new(FreeList { runtime: None, timers: Vec::new() }) };
}

/// Unused timers of one runtime.
struct FreeList {
    runtime: Option<runtime::Id>,
    timers: Vec<Pin<Box<Sleep>>>,
}

/// The previous contents of the list, which belong to another runtime.
struct OtherRuntime(#[expect(dead_code, reason = "dropped after the borrow has ended")] Vec<Pin<Box<Sleep>>>);

impl FreeList {
    /// Maximum number of timers in the list. Further timers are freed.
    const MAX_FREE: usize = 4096;

    /// Takes a timer of `runtime`. From now on the list belongs to this runtime.
    fn take(&mut self, runtime: runtime::Id) -> Result<Option<Pin<Box<Sleep>>>, OtherRuntime> {
        if self.runtime == Some(runtime) {
            return Ok(self.timers.pop());
        }
        self.runtime = Some(runtime);
        Err(OtherRuntime(std::mem::take(&mut self.timers)))
    }

    /// Keeps the timer, or returns it if the list is full or belongs to another runtime.
    fn keep(&mut self, timer: Timer) -> Option<Timer> {
        if self.runtime != Some(timer.runtime) || self.timers.len() >= Self::MAX_FREE {
            return Some(timer);
        }
        self.timers.push(timer.sleep);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free() -> usize {
        FREE.with(|free| free.borrow().timers.len())
    }

    #[tokio::test(start_paused = true)]
    async fn a_reused_timer_keeps_each_deadline() {
        let start = now();
        for millis in [50, 20, 300, 5] {
            let at = now() + Duration::from_millis(millis);
            let mut deadline = Deadline::new(Some(at));
            poll_fn(|cx| deadline.poll_expired(cx)).await;
            assert_eq!(now(), at);
        }
        assert_eq!(now() - start, Duration::from_millis(375));
        assert_eq!(free(), 1, "one timer served all");
    }

    #[tokio::test(start_paused = true)]
    async fn a_moved_deadline_counts_from_its_last_position() {
        let start = now();
        let mut deadline = Deadline::new(Some(start + Duration::from_secs(1)));
        let polled = poll_fn(|cx| Poll::Ready(deadline.poll_expired(cx))).await;
        assert!(polled.is_pending());
        deadline.set(Some(start + Duration::from_secs(3)));
        poll_fn(|cx| deadline.poll_expired(cx)).await;
        assert_eq!(now(), start + Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_is_never_waited_for_takes_no_timer() {
        drop(Deadline::new(Some(now() + Duration::from_secs(1))));
        let mut never = Deadline::new(None);
        assert!(poll_fn(|cx| Poll::Ready(never.poll_expired(cx))).await.is_pending());
        drop(never);
        assert_eq!(free(), 0);
    }

    #[test]
    fn timers_are_not_shared_between_runtimes() {
        let run = || {
            let runtime = runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                sleep(Duration::from_millis(1)).await;
                sleep(Duration::from_millis(1)).await;
            });
            assert_eq!(free(), 1);
            runtime
        };
        drop(run());
        let (one, other) = (run(), run());
        let mut deadline = Deadline::new(Some(now() + Duration::from_secs(60)));
        one.block_on(poll_fn(|cx| Poll::Ready(deadline.poll_expired(cx).is_pending())));
        other.block_on(sleep(Duration::from_millis(1)));
        drop(deadline);
        assert_eq!(free(), 1, "a timer of another runtime is freed");
    }
}
