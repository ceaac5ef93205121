//! When keys are fetched.
//!
//! ```text
//!              ┌──────────── succeeded ────────────┐
//!              ▼                                   │
//!   none ──► fetching ──► fresh ── cache_duration ──► expired ──► fetching
//!              │  ▲                                              │
//!            failed │ back-off                                   └─ failed: the last good keys for MAX_STALE, then none
//!              ▼  │
//!            (refuse)
//! ```
//!
//! One fetch runs at a time, and requests wait for it. After a failure the next one waits for a back-off, in which requests use
//! the last good keys or are refused at once. A token with a `kid` that no key has leads to a fetch, because issuers
//! rotate keys; so that strangers cannot cause many, there is one in [`RemoteKeys::UNKNOWN_KID_INTERVAL`].
//!
//! Envoy refuses tokens as soon as keys have expired and cannot be fetched, has no back-off between requests, and does not fetch
//! for an unknown `kid`.

use std::time::{Duration, Instant};

/// The times of fetches. It does not hold the keys.
#[derive(Clone, Debug)]
pub struct RemoteKeys {
    cache_duration: Duration,
    /// When the keys in use arrived.
    fetched: Option<Instant>,
    /// When the last fetch began.
    began: Option<Instant>,
    /// When the last fetch failed, and how many did in a row.
    failed: Option<(Instant, u32)>,
    fetching: bool,
}

/// What a request does about keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeysDecision {
    /// Use those that are there.
    Use,
    /// Fetch them, and then decide again.
    Fetch,
    /// Wait for the fetch that is under way, and then decide again.
    Wait,
    /// Refuse the token: there are none.
    Fail,
}

impl RemoteKeys {
    /// Time between two fetches because of an unknown `kid`.
    pub const UNKNOWN_KID_INTERVAL: Duration = Duration::from_secs(5);

    /// Time for which keys are used after they have expired, if they cannot be fetched.
    pub const MAX_STALE: Duration = Duration::from_secs(3600);

    /// Time between the first failure and the next fetch; it doubles with each failure.
    pub const MIN_BACK_OFF: Duration = Duration::from_secs(1);

    /// Maximum time between a failure and the next fetch.
    pub const MAX_BACK_OFF: Duration = Duration::from_secs(10);

    /// No keys yet. They are to be used for `cache_duration`.
    #[must_use]
    pub fn new(cache_duration: Duration) -> Self {
        Self { cache_duration, fetched: None, began: None, failed: None, fetching: false }
    }

    /// A request needs keys. After [`KeysDecision::Fetch`], a fetch is under way.
    pub fn decide(&mut self, now: Instant) -> KeysDecision {
        if self.age(now).is_some_and(|age| age < self.cache_duration) {
            return KeysDecision::Use;
        }
        if self.fetching {
            return KeysDecision::Wait;
        }
        match self.failed {
            Some((failed, failures)) if now < failed + back_off(failures) => self.after_failure(now),
            _ => self.begin(now),
        }
    }

    /// The fetch for which a request has waited has failed.
    #[must_use]
    pub fn after_failure(&self, now: Instant) -> KeysDecision {
        let limit = self.cache_duration.saturating_add(Self::MAX_STALE);
        match self.age(now) {
            Some(age) if age < limit => KeysDecision::Use,
            _ => KeysDecision::Fail,
        }
    }

    /// A token has a `kid` that no key has.
    pub fn unknown_kid(&mut self, now: Instant) -> KeysDecision {
        match self.began {
            _ if self.fetching => KeysDecision::Wait,
            Some(began) if now < began + Self::UNKNOWN_KID_INTERVAL => KeysDecision::Use,
            _ => self.begin(now),
        }
    }

    /// Begins a fetch in advance, unless one is under way.
    pub fn refresh(&mut self, now: Instant) -> KeysDecision {
        if self.fetching { KeysDecision::Wait } else { self.begin(now) }
    }

    /// Whether a fetch is under way.
    #[must_use]
    pub fn is_fetching(&self) -> bool {
        self.fetching
    }

    /// Whether the last fetch has failed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// The fetch has brought keys.
    pub fn handle_success(&mut self, now: Instant) {
        (self.fetching, self.fetched, self.failed) = (false, Some(now), None);
    }

    /// The fetch has failed.
    pub fn handle_failure(&mut self, now: Instant) {
        let failures = self.failed.map_or(0, |(_, failures)| failures);
        (self.fetching, self.failed) = (false, Some((now, failures.saturating_add(1))));
    }

    fn begin(&mut self, now: Instant) -> KeysDecision {
        (self.fetching, self.began) = (true, Some(now));
        KeysDecision::Fetch
    }

    fn age(&self, now: Instant) -> Option<Duration> {
        self.fetched.map(|fetched| now.saturating_duration_since(fetched))
    }
}

fn back_off(failures: u32) -> Duration {
    let factor = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    RemoteKeys::MIN_BACK_OFF.saturating_mul(factor).min(RemoteKeys::MAX_BACK_OFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DURATION: Duration = Duration::from_secs(600);

    #[expect(clippy::disallowed_methods, reason = "an epoch for the test")]
    fn start() -> (RemoteKeys, impl Fn(u64) -> Instant) {
        let epoch = Instant::now();
        (RemoteKeys::new(DURATION), move |seconds| epoch + Duration::from_secs(seconds))
    }

    #[test]
    fn one_fetch_serves_all_requests_until_the_keys_expire() {
        let (mut keys, at) = start();
        assert_eq!(keys.decide(at(0)), KeysDecision::Fetch);
        assert_eq!(keys.decide(at(1)), KeysDecision::Wait);
        keys.handle_success(at(2));
        assert_eq!(keys.decide(at(601)), KeysDecision::Use);
        assert_eq!(keys.decide(at(602)), KeysDecision::Fetch);
        assert_eq!(keys.decide(at(602)), KeysDecision::Wait);
    }

    #[test]
    fn without_keys_requests_are_refused_and_fetches_back_off() {
        let (mut keys, at) = start();
        let mut fetches = Vec::new();
        for second in 0..40 {
            match keys.decide(at(second)) {
                KeysDecision::Fetch => {
                    fetches.push(second);
                    keys.handle_failure(at(second));
                    assert_eq!(keys.after_failure(at(second)), KeysDecision::Fail);
                }
                decision => assert_eq!(decision, KeysDecision::Fail),
            }
        }
        assert_eq!(fetches, [0, 1, 3, 7, 15, 25, 35]);
        keys.handle_success(at(40));
        assert_eq!(keys.decide(at(40)), KeysDecision::Use);
    }

    #[test]
    fn the_last_good_keys_are_used_for_a_limited_time() {
        let (mut keys, at) = start();
        assert_eq!(keys.decide(at(0)), KeysDecision::Fetch);
        keys.handle_success(at(0));
        assert_eq!(keys.decide(at(600)), KeysDecision::Fetch);
        keys.handle_failure(at(600));
        assert_eq!(keys.after_failure(at(600)), KeysDecision::Use);
        assert_eq!(keys.decide(at(600)), KeysDecision::Use, "within the back-off");
        assert_eq!(keys.after_failure(at(4199)), KeysDecision::Use);
        assert_eq!(keys.after_failure(at(4200)), KeysDecision::Fail);
    }

    #[test]
    fn an_unknown_kid_causes_few_fetches() {
        let (mut keys, at) = start();
        assert_eq!(keys.decide(at(0)), KeysDecision::Fetch);
        keys.handle_success(at(1));
        let mut fetches = Vec::new();
        for second in 1..20 {
            if keys.unknown_kid(at(second)) == KeysDecision::Fetch {
                assert_eq!(keys.unknown_kid(at(second)), KeysDecision::Wait);
                fetches.push(second);
                keys.handle_failure(at(second));
            }
            assert_eq!(keys.decide(at(second)), KeysDecision::Use, "the keys are still fresh");
        }
        assert_eq!(fetches, [5, 10, 15]);
    }
}
