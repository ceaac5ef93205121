//! Who is told when routes change.

use std::{
    fmt,
    sync::{Mutex, PoisonError, Weak},
};

/// Keeps something made of routes, and makes it anew when it is told: what nobody uses must not keep old routes, and with
/// them the clusters that they name.
pub trait RouteFollower: Send + Sync {
    /// Routes have changed, perhaps others than those followed.
    fn routes_changed(&self);
}

/// All who follow. Those that are gone are forgotten when there is no more room; doubling makes that cheap.
#[derive(Default)]
pub(super) struct Followers(Mutex<Vec<Weak<dyn RouteFollower>>>);

impl Followers {
    pub(super) fn add(&self, follower: Weak<dyn RouteFollower>) {
        let mut followers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if followers.len() == followers.capacity() {
            followers.retain(|follower| follower.strong_count() > 0);
            let living = followers.len();
            followers.reserve(living + 1);
        }
        followers.push(follower);
    }

    /// Tells all, without the lock: who follows may do anything.
    pub(super) fn tell(&self) {
        let followers = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        followers.iter().filter_map(Weak::upgrade).for_each(|follower| follower.routes_changed());
    }
}

impl fmt::Debug for Followers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let followers = self.0.lock().unwrap_or_else(PoisonError::into_inner).len();
        f.debug_tuple("Followers").field(&followers).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    #[derive(Default)]
    struct Follower(AtomicUsize);

    impl RouteFollower for Follower {
        fn routes_changed(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn who_is_there_is_told_and_who_has_gone_takes_no_room() {
        let followers = Followers::default();
        let follow = || {
            let follower = Arc::new(Follower::default());
            let weak: Weak<Follower> = Arc::downgrade(&follower);
            followers.add(weak);
            follower
        };
        let staying = follow();
        for _ in 0..1_000 {
            drop(follow());
        }
        followers.tell();
        followers.tell();
        assert_eq!(staying.0.load(Ordering::Relaxed), 2);
        let remembered = followers.0.lock().unwrap().len();
        assert!(remembered < 20, "{remembered} are remembered");
    }
}
