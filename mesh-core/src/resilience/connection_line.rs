//! Who waits for a connection when `max_connections` are open, in the order they came (E30).
//!
//! The limit counts the connections of a cluster to all of its endpoints and of all workers, while requests wait at the
//! pool of one endpoint and one worker. So that no pool waits for ever while others keep what they have, the pools stand
//! in a line: a place that becomes free is offered along it, first to those for whom it is urgent, and who holds a
//! connection can ask whether [that is so](ConnectionPermit::is_urgent_for_other).

use std::{
    collections::VecDeque,
    fmt::Debug,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::breaker::Permit;

/// Somebody who needs more connections than `max_connections` allow.
pub trait AwaitConnection: Debug + Send + Sync {
    /// There may be a place for a connection by now. False if it was not taken: because it is not needed any more, or
    /// was not there.
    ///
    /// Called when a [`ConnectionPermit`] is dropped, so by whoever closes a connection, on any thread.
    fn offer_place(self: Arc<Self>) -> bool;
}

/// The line of one cluster and priority.
#[derive(Debug, Default)]
pub(crate) struct Line {
    waiting: Mutex<VecDeque<Waiting>>,
    /// For how many of them it is urgent: lets those who use connections pass by without the lock.
    urgent: AtomicUsize,
}

#[derive(Debug)]
struct Waiting {
    who: Weak<dyn AwaitConnection>,
    is_urgent: bool,
}

impl Line {
    /// Puts `who` at the end.
    pub(crate) fn join(self: &Arc<Self>, who: Weak<dyn AwaitConnection>, is_urgent: bool) -> PlaceInLine {
        self.change(|waiting| waiting.push_back(Waiting { who: Weak::clone(&who), is_urgent }));
        PlaceInLine { line: Arc::clone(self), who }
    }

    /// Offers a place to each in turn until one takes it. Those who do not take it leave the line, or join it again.
    fn offer_place(&self) {
        let standing = self.waiting().len();
        for _ in 0..standing {
            let next = self.change(|waiting| {
                let urgent = waiting.iter().position(|one| one.is_urgent);
                waiting.remove(urgent.unwrap_or(0))
            });
            if next.and_then(|next| next.who.upgrade()).is_some_and(AwaitConnection::offer_place) {
                return;
            }
        }
    }

    fn is_urgent_for_other_than(&self, holder: *const ()) -> bool {
        let is_other = |one: &Waiting| one.is_urgent && one.who.as_ptr().cast() != holder;
        self.urgent.load(Ordering::Acquire) > 0 && self.waiting().iter().any(is_other)
    }

    fn change<T>(&self, change: impl FnOnce(&mut VecDeque<Waiting>) -> T) -> T {
        let mut waiting = self.waiting();
        let answer = change(&mut waiting);
        self.urgent.store(waiting.iter().filter(|one| one.is_urgent).count(), Ordering::Release);
        answer
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Standing in the line of a cluster. Dropped, it is left.
#[derive(Debug)]
#[must_use = "who drops it leaves the line at once"]
pub struct PlaceInLine {
    line: Arc<Line>,
    who: Weak<dyn AwaitConnection>,
}

impl PlaceInLine {
    /// It has become urgent.
    pub fn set_urgent(&self) {
        self.line.change(|waiting| {
            waiting.iter_mut().filter(|one| self.is_mine(one)).for_each(|one| one.is_urgent = true);
        });
    }

    fn is_mine(&self, waiting: &Waiting) -> bool {
        std::ptr::addr_eq(waiting.who.as_ptr(), self.who.as_ptr())
    }
}

impl Drop for PlaceInLine {
    fn drop(&mut self) {
        self.line.change(|waiting| waiting.retain(|one| !self.is_mine(one)));
    }
}

/// The right to one connection. Dropped, its place is offered to those who wait for one.
#[derive(Debug)]
#[must_use = "dropping the permit gives it back at once"]
pub struct ConnectionPermit {
    permit: Option<Permit>,
    line: Arc<Line>,
}

impl ConnectionPermit {
    pub(crate) fn new(permit: Permit, line: &Arc<Line>) -> Self {
        Self { permit: Some(permit), line: Arc::clone(line) }
    }

    /// Whether a connection is urgent for somebody other than `holder`. Cheap if it is for nobody.
    #[must_use]
    pub fn is_urgent_for_other<T: AwaitConnection>(&self, holder: &Weak<T>) -> bool {
        self.line.is_urgent_for_other_than(holder.as_ptr().cast())
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        // Given back first: who is offered the place looks for it.
        self.permit = None;
        self.line.offer_place();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::{
        model::{RoutingPriority, Thresholds},
        resilience::breaker::{CircuitBreaker, Resource},
    };

    /// Takes what it is offered as long as it needs more, and notes it.
    #[derive(Debug)]
    struct Pool {
        name: char,
        needs_one: AtomicBool,
        cluster: Arc<Cluster>,
        place: Mutex<Option<PlaceInLine>>,
    }

    #[derive(Debug, Default)]
    struct Cluster {
        breaker: Arc<CircuitBreaker>,
        line: Arc<Line>,
        taken: Mutex<Vec<(char, ConnectionPermit)>>,
    }

    impl Cluster {
        fn pool(self: &Arc<Self>, name: char) -> Arc<Pool> {
            let (needs_one, place) = (AtomicBool::new(true), Mutex::default());
            Arc::new(Pool { name, needs_one, cluster: Arc::clone(self), place })
        }

        fn connect(&self, max_connections: u32) -> Option<ConnectionPermit> {
            let thresholds = Thresholds { max_connections, ..Thresholds::default() };
            let permit = self.breaker.try_acquire(RoutingPriority::Default, Resource::Connections, &thresholds);
            permit.ok().map(|permit| ConnectionPermit::new(permit, &self.line))
        }

        /// Closes the connection that was taken last; tells whose it was.
        fn close(&self) -> Option<char> {
            let (name, permit) = self.taken.lock().unwrap().pop()?;
            drop(permit);
            Some(name)
        }
    }

    impl Pool {
        fn join(self: &Arc<Self>) {
            self.join_with(false);
        }

        fn join_with(self: &Arc<Self>, is_urgent: bool) {
            let me: Arc<dyn AwaitConnection> = Arc::<Self>::clone(self);
            *self.place.lock().unwrap() = Some(self.cluster.line.join(Arc::downgrade(&me), is_urgent));
        }
    }

    impl AwaitConnection for Pool {
        fn offer_place(self: Arc<Self>) -> bool {
            *self.place.lock().unwrap() = None;
            if !self.needs_one.load(Ordering::Relaxed) {
                return false;
            }
            let permit = self.cluster.connect(1);
            let is_taken = permit.is_some();
            match permit {
                Some(permit) => self.cluster.taken.lock().unwrap().push((self.name, permit)),
                None => self.join(),
            }
            is_taken
        }
    }

    #[test]
    fn a_place_goes_to_whoever_has_waited_longest() {
        let cluster = Arc::new(Cluster::default());
        let pools = ['a', 'b', 'c'].map(|name| cluster.pool(name));
        let open = cluster.connect(1).unwrap();
        pools.iter().for_each(Pool::join);
        drop(open);
        assert_eq!(
            [cluster.close(), cluster.close(), cluster.close(), cluster.close()],
            [Some('a'), Some('b'), Some('c'), None]
        );
    }

    #[test]
    fn who_is_gone_has_left_or_needs_none_is_passed_over() {
        let cluster = Arc::new(Cluster::default());
        let open = cluster.connect(1).unwrap();
        let [gone, left, content, last] = ['g', 'w', 'c', 'l'].map(|name| cluster.pool(name));
        [&gone, &left, &content, &last].into_iter().for_each(Pool::join);
        drop(gone);
        *left.place.lock().unwrap() = None;
        content.needs_one.store(false, Ordering::Relaxed);
        drop(open);
        assert_eq!([cluster.close(), cluster.close()], [Some('l'), None]);
    }

    #[test]
    fn who_finds_no_place_stays_in_the_line() {
        let cluster = Arc::new(Cluster::default());
        let (first, second) = (cluster.connect(2).unwrap(), cluster.connect(2).unwrap());
        let pools = ['a', 'b'].map(|name| cluster.pool(name));
        pools.iter().for_each(Pool::join);
        drop(first);
        assert!(cluster.taken.lock().unwrap().is_empty(), "the limit is one by now");
        drop(second);
        assert_eq!([cluster.close(), cluster.close()], [Some('a'), Some('b')]);
    }

    #[test]
    fn the_urgent_come_first() {
        let cluster = Arc::new(Cluster::default());
        let pools = ['a', 'b', 'c', 'd'].map(|name| cluster.pool(name));
        let open = cluster.connect(1).unwrap();
        pools.iter().zip([false, false, true, false]).for_each(|(pool, is_urgent)| pool.join_with(is_urgent));
        pools[3].place.lock().unwrap().as_ref().unwrap().set_urgent();
        drop(open);
        let order: Vec<_> = std::iter::from_fn(|| cluster.close()).collect();
        assert_eq!(order, ['c', 'd', 'a', 'b']);
    }

    #[test]
    fn a_holder_is_told_for_whom_it_is_urgent_other_than_itself() {
        let cluster = Arc::new(Cluster::default());
        let open = cluster.connect(1).unwrap();
        let [holder, other] = ['h', 'o'].map(|name| cluster.pool(name));
        let is_urgent = || open.is_urgent_for_other(&Arc::downgrade(&holder));
        assert!(!is_urgent());
        holder.join_with(true);
        other.join();
        assert!(!is_urgent());
        other.place.lock().unwrap().as_ref().unwrap().set_urgent();
        assert!(is_urgent());
        *other.place.lock().unwrap() = None;
        assert!(!is_urgent());
    }
}
