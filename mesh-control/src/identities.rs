//! The certificates that workloads identify themselves with.
//!
//! [`Identities`] is where they come from: the authority of this process (`ca`), or anything else that an embedder has.
//! [`Renewal`] decides when a workload gets a new one, without I/O.

use std::fmt;
use std::time::{Duration, SystemTime};

use mesh_core::rng::Rng;

/// Where certificates of workloads come from.
pub trait Identities: fmt::Debug + Send + Sync {
    /// A certificate of the identity, `spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT`, and the roots to verify others
    /// with.
    ///
    /// # Errors
    ///
    /// If there is none now. It is asked for again after a while; the workload keeps the one that it has.
    fn issue(&self, identity: &str, now: SystemTime) -> Result<WorkloadCertificate, Unavailable>;
}

/// Why a workload gets no certificate.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// A certificate, its key, and the roots of the mesh. Its `Debug` output has no key.
#[derive(Clone, PartialEq, Eq)]
pub struct WorkloadCertificate {
    /// The certificate and those between it and the root, in this order, PEM.
    pub certificate_chain: String,
    /// Its private key, PEM.
    pub private_key: String,
    /// The roots, PEM.
    pub roots: String,
    /// When it ends.
    pub not_after: SystemTime,
}

impl fmt::Debug for WorkloadCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkloadCertificate").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

/// First wait after a failure; the next ones are twice as long each.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Longest wait after a failure; also, at most a tenth of what is left of the certificate's life.
const MAX_RETRY: Duration = Duration::from_secs(150);
/// Half of the life, in per mille, and how much earlier a certificate may be renewed, so that those of many workloads that
/// have begun together are not renewed together.
const RENEW_AT: u64 = 500;
const JITTER: u64 = 100;

/// When a workload needs a certificate: at first, when its identity has changed, and at about half of the life of the one that it
/// has. After a failure it asks again; it recovers without a restart also when the certificate has expired meanwhile.
#[derive(Debug, Default)]
pub struct Renewal {
    identity: Option<String>,
    not_after: Option<SystemTime>,
    due: Option<SystemTime>,
    failures: u32,
}

impl Renewal {
    /// When [`Self::poll_issue`] has to be called next; `None` if there is nothing to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<SystemTime> {
        self.due
    }

    /// The identity for which a certificate is due.
    #[must_use]
    pub fn poll_issue(&self, now: SystemTime) -> Option<&str> {
        self.identity.as_deref().filter(|_| self.due.is_some_and(|due| due <= now))
    }

    /// Handles the identity of the workload, which may be the same as before; `None` if it needs no certificate.
    pub fn handle_identity(&mut self, identity: Option<String>, now: SystemTime) {
        if self.identity != identity {
            *self = Self { due: identity.as_ref().map(|_| now), identity, ..Self::default() };
        }
    }

    /// Handles a certificate that has been issued.
    pub fn handle_issued(&mut self, not_after: SystemTime, now: SystemTime, rng: &mut impl Rng) {
        let life = not_after.duration_since(now).unwrap_or_default();
        let part = RENEW_AT - rng.below(JITTER + 1);
        // The next one is due at once if this one ends at once, but not without a pause.
        let wait = part_of(life, part).max(FIRST_RETRY);
        (self.not_after, self.due, self.failures) = (Some(not_after), Some(now + wait), 0);
    }

    /// Handles a failure to issue one. Returns after which time it is tried again.
    pub fn handle_failure(&mut self, now: SystemTime, rng: &mut impl Rng) -> Duration {
        let left = self.not_after.and_then(|not_after| not_after.duration_since(now).ok());
        let cap = left.map_or(MAX_RETRY, |left| (left / 10).clamp(FIRST_RETRY, MAX_RETRY));
        let back_off = FIRST_RETRY.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX)).min(cap);
        self.failures = (self.failures + 1).min(31);
        let wait = part_of(back_off, 1000 - rng.below(JITTER + 1));
        self.due = Some(now + wait);
        wait
    }
}

fn part_of(whole: Duration, per_mille: u64) -> Duration {
    let millis = u64::try_from(whole.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(millis / 1000 * per_mille + millis % 1000 * per_mille / 1000)
}

#[cfg(test)]
mod tests {
    use mesh_core::rng::SplitMix64;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn start() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn identity(name: &str) -> Option<String> {
        Some(format!("spiffe://td/ns/n/sa/{name}"))
    }

    #[test]
    fn a_certificate_is_due_at_first_and_when_the_identity_changes() {
        let (mut renewal, mut rng) = (Renewal::default(), SplitMix64::new(1));
        assert_eq!((renewal.poll_issue(start()), renewal.poll_timeout()), (None, None));
        renewal.handle_identity(identity("a"), start());
        assert_eq!(renewal.poll_issue(start()), Some("spiffe://td/ns/n/sa/a"));
        renewal.handle_issued(start() + 24 * HOUR, start(), &mut rng);
        renewal.handle_identity(identity("a"), start() + HOUR);
        assert_eq!(renewal.poll_issue(start() + HOUR), None);
        renewal.handle_identity(identity("b"), start() + HOUR);
        assert_eq!(renewal.poll_issue(start() + HOUR), Some("spiffe://td/ns/n/sa/b"));
        renewal.handle_identity(None, start() + HOUR);
        assert_eq!(renewal.poll_timeout(), None);
    }

    #[test]
    fn it_is_renewed_at_about_half_of_its_life() {
        let mut rng = SplitMix64::new(1);
        let waits: Vec<_> = (0..200)
            .map(|_| {
                let mut renewal = Renewal::default();
                renewal.handle_identity(identity("a"), start());
                renewal.handle_issued(start() + 10 * HOUR, start(), &mut rng);
                let due = renewal.poll_timeout().unwrap();
                assert_eq!(renewal.poll_issue(due - Duration::from_millis(1)), None);
                assert!(renewal.poll_issue(due).is_some());
                due.duration_since(start()).unwrap()
            })
            .collect();
        assert!(waits.iter().all(|wait| (4 * HOUR..=5 * HOUR).contains(wait)), "{waits:?}");
        let (first, last) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
        assert!(*last - *first > HOUR / 2, "they are spread");
    }

    #[test]
    fn failures_are_retried_up_to_the_end_and_after_it() {
        let (mut renewal, mut rng) = (Renewal::default(), SplitMix64::new(1));
        renewal.handle_identity(identity("a"), start());
        renewal.handle_issued(start() + 24 * HOUR, start(), &mut rng);
        let mut now = start() + 23 * HOUR;
        let waits: Vec<_> = (0..10).map(|_| renewal.handle_failure(now, &mut rng).as_secs_f64()).collect();
        for (i, wait) in waits.iter().enumerate() {
            let expected = f64::from(1_u32 << i).min(150.0);
            assert!((expected * 0.9..=expected).contains(wait), "retry {i}: {wait}");
        }
        now = start() + 24 * HOUR - Duration::from_secs(100);
        assert!(renewal.handle_failure(now, &mut rng) <= Duration::from_secs(10), "a tenth of what is left");
        now = start() + 25 * HOUR;
        let wait = renewal.handle_failure(now, &mut rng);
        assert!((135..=150).contains(&wait.as_secs()), "{wait:?}");
        assert!(renewal.poll_issue(now + wait).is_some());
    }
}
