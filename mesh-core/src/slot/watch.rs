//! Observing changes, by polling or by waiting.
//!
//! A [`Version`] counts the changes of a value. A [`Watch`] remembers the last version that its owner has seen. Code on the
//! request path polls ([`Watch::has_changed`], one atomic load); a task waits ([`Watch::changed`]). Changes are not queued:
//! several changes may be seen as one.
//!
//! Create the watch before reading the value, so that a change between the two is not missed.

use std::{
    any::Any,
    collections::BTreeMap,
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

/// Counts the changes of a value and wakes the tasks that wait for the next one.
#[derive(Debug, Default)]
pub struct Version(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    number: AtomicU64,
    waiters: Mutex<Waiters>,
}

#[derive(Debug, Default)]
struct Waiters {
    wakers: BTreeMap<u64, Waker>,
    next_id: u64,
}

impl Version {
    /// Creates the version of a value that has not changed yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Observes the value from now on.
    #[must_use]
    pub fn watch(&self) -> Watch {
        self.watch_holding(None)
    }

    /// Observes the value from now on, and keeps `owner` alive.
    pub(super) fn watch_holding(&self, owner: Option<Arc<dyn Any + Send + Sync>>) -> Watch {
        Watch { shared: Arc::clone(&self.0), seen: self.0.number.load(Ordering::Acquire), id: None, _owner: owner }
    }

    /// Counts a change. Call it after the value has been replaced.
    ///
    /// Wakers run in the caller, which may hold locks of its own: a waker may read a store but must not change it.
    pub fn advance(&self) {
        self.0.number.fetch_add(1, Ordering::Release);
        let wakers = std::mem::take(&mut self.0.waiters().wakers);
        wakers.into_values().for_each(Waker::wake);
    }
}

impl Shared {
    fn waiters(&self) -> MutexGuard<'_, Waiters> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Observes a value. A clone starts with the same version and is then independent.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    seen: u64,
    /// The key of this watch's waker, set by the first poll.
    id: Option<u64>,
    /// An unreferenced slot is removed, and a new one of the same name would have another version.
    _owner: Option<Arc<dyn Any + Send + Sync>>,
}

impl Watch {
    /// Whether the value has changed since it was last marked as seen.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        self.shared.number.load(Ordering::Acquire) != self.seen
    }

    /// Marks every change so far as seen.
    pub fn mark_seen(&mut self) {
        self.seen = self.shared.number.load(Ordering::Acquire);
    }

    /// Waits for a change that has not been seen, and marks it as seen. Does not resolve if the value never changes again.
    ///
    /// # Cancel safety
    /// No change is lost if the future is dropped.
    pub async fn changed(&mut self) {
        poll_fn(|cx| self.poll_changed(cx)).await;
    }

    /// Polls [`Watch::changed`]. While it is pending, the next change wakes the waker of the last call.
    pub fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.has_changed() {
            let mut waiters = self.shared.waiters();
            // Checked again under the lock, because an earlier change does not wake the waker.
            if !self.has_changed() {
                let id = *self.id.get_or_insert_with(|| {
                    waiters.next_id += 1;
                    waiters.next_id
                });
                waiters.wakers.insert(id, cx.waker().clone());
                return Poll::Pending;
            }
        }
        self.mark_seen();
        Poll::Ready(())
    }
}

impl Clone for Watch {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), seen: self.seen, id: None, _owner: self._owner.clone() }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            // Dropped after the lock is released, because a waker may own a watch of the same version.
            let waker = self.shared.waiters().wakers.remove(&id);
            drop(waker);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{atomic::AtomicUsize, mpsc},
        task::Wake,
        time::Duration,
    };

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn counted() -> (Arc<Wakes>, Waker) {
        let wakes = Arc::new(Wakes::default());
        (Arc::clone(&wakes), Waker::from(wakes))
    }

    #[test]
    fn every_watch_sees_a_change_once() {
        let version = Version::new();
        let (mut first, second) = (version.watch(), version.watch());
        assert!(!first.has_changed() && !second.has_changed());
        version.advance();
        version.advance();
        assert!(first.has_changed() && second.clone().has_changed());
        assert!(!version.watch().has_changed(), "earlier changes are not seen");
        assert!(first.poll_changed(&mut Context::from_waker(Waker::noop())).is_ready());
        assert!(!first.has_changed() && second.has_changed());
    }

    #[test]
    fn a_task_is_woken_by_the_next_change_and_by_its_newest_waker() {
        let version = Version::new();
        let ((old, old_waker), (new, new_waker)) = (counted(), counted());
        let mut watch = version.watch();
        assert!(watch.poll_changed(&mut Context::from_waker(&old_waker)).is_pending());
        assert!(watch.poll_changed(&mut Context::from_waker(&new_waker)).is_pending());
        version.advance();
        version.advance();
        assert_eq!((old.0.load(Ordering::Relaxed), new.0.load(Ordering::Relaxed)), (0, 1));
        assert!(watch.poll_changed(&mut Context::from_waker(&new_waker)).is_ready());
        assert!(watch.poll_changed(&mut Context::from_waker(&new_waker)).is_pending());
    }

    #[test]
    fn a_dropped_watch_leaves_no_waker() {
        let version = Version::new();
        let (wakes, waker) = counted();
        for _ in 0..1_000 {
            assert!(version.watch().poll_changed(&mut Context::from_waker(&waker)).is_pending());
        }
        assert!(version.0.waiters().wakers.is_empty());
        version.advance();
        assert_eq!(wakes.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn no_change_is_missed_between_threads() {
        let version = Version::new();
        let mut watch = version.watch();
        let (seen, all_seen) = mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
                for number in 0..1_000 {
                    while watch.poll_changed(&mut Context::from_waker(&waker)).is_pending() {
                        std::thread::park();
                    }
                    seen.send(number).unwrap();
                }
            });
            for number in 0..1_000 {
                version.advance();
                assert_eq!(all_seen.recv_timeout(Duration::from_secs(10)), Ok(number));
            }
        });
    }

    struct Unpark(std::thread::Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
}
