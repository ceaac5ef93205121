//! Replaces an authority by another one, in the order in which no connection fails.
//!
//! ```text
//!                 begin                    every workload trusts both         every workload has a new certificate
//!   Steady(old) ────────► TrustBoth ───────────────────────────────► IssueNew ────────────────────────────────► Steady(new)
//!   roots    old          old and new                               old and new                                new
//!   signs    old          old                                       new                                        new
//! ```
//!
//! A workload that gets a certificate before its peers trust the new root would be refused by them, and so would one that keeps
//! its old certificate after the old root is removed. Each step therefore lasts until all workloads that are known here
//! have taken it, and at least [`SETTLE`], in which workloads that are served by other processes take it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::Authority;

/// Shortest duration of a step.
pub const SETTLE: Duration = Duration::from_secs(300);

/// An authority, which another one may be replacing.
#[derive(Clone, Debug)]
pub struct Rotation {
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    Steady(Arc<Authority>),
    Changing { old: Arc<Authority>, new: Arc<Authority>, issues_new: bool, since: SystemTime },
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// One authority is in use.
    Steady,
    /// Workloads are told to trust both roots.
    TrustBoth,
    /// Workloads get certificates of the new authority.
    IssueNew,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Steady => "steady",
            Self::TrustBoth => "workloads learn to trust both roots",
            Self::IssueNew => "workloads get certificates of the new root",
        })
    }
}

/// How far the workloads that are known here are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fleet {
    /// Number of workloads.
    pub workloads: usize,
    /// Those that have taken what the current step gives them.
    pub done: usize,
}

impl Fleet {
    /// `done` of `workloads`.
    #[must_use]
    pub fn new(done: usize, workloads: usize) -> Self {
        Self { workloads, done }
    }
}

/// A rotation cannot begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RotationError {
    /// Another one has not ended.
    #[error("another rotation is under way: {0}")]
    UnderWay(Step),
}

impl Rotation {
    /// One authority.
    #[must_use]
    pub fn new(authority: Arc<Authority>) -> Self {
        Self { state: State::Steady(authority) }
    }

    /// What is being done.
    #[must_use]
    pub fn step(&self) -> Step {
        match self.state {
            State::Steady(_) => Step::Steady,
            State::Changing { issues_new: false, .. } => Step::TrustBoth,
            State::Changing { issues_new: true, .. } => Step::IssueNew,
        }
    }

    /// The authority that signs.
    #[must_use]
    pub fn signs(&self) -> &Arc<Authority> {
        match &self.state {
            State::Steady(authority) => authority,
            State::Changing { old, new, issues_new, .. } => {
                if *issues_new {
                    new
                } else {
                    old
                }
            }
        }
    }

    /// The roots that workloads trust, PEM.
    #[must_use]
    pub fn roots(&self) -> String {
        match &self.state {
            State::Steady(authority) => authority.roots().to_owned(),
            State::Changing { old, new, .. } => [old.roots(), new.roots()].concat(),
        }
    }

    /// How far it is, for display; `None` if nothing is being replaced.
    #[must_use]
    pub fn progress(&self, fleet: Fleet, now: SystemTime) -> Option<String> {
        let State::Changing { since, .. } = self.state else { return None };
        let waited = now.duration_since(since).unwrap_or_default().min(SETTLE).as_secs();
        let Fleet { workloads, done } = fleet;
        Some(format!("{}: {done} of {workloads} workloads, {waited} of {} s", self.step(), SETTLE.as_secs()))
    }

    /// Begins to replace the authority.
    ///
    /// # Errors
    ///
    /// If another one is being replaced.
    pub fn begin(&mut self, new: Arc<Authority>, now: SystemTime) -> Result<(), RotationError> {
        let State::Steady(old) = &self.state else { return Err(RotationError::UnderWay(self.step())) };
        self.state = State::Changing { old: Arc::clone(old), new, issues_new: false, since: now };
        Ok(())
    }

    /// Goes on to the next step if the current one has been taken by all workloads and has lasted long enough. Returns whether
    /// it has: then workloads have to be told what has changed.
    pub fn handle_progress(&mut self, fleet: Fleet, now: SystemTime) -> bool {
        let State::Changing { old, new, issues_new, since } = &self.state else { return false };
        let has_settled = now.duration_since(*since).is_ok_and(|waited| waited >= SETTLE);
        if fleet.done < fleet.workloads || !has_settled {
            return false;
        }
        self.state = if *issues_new {
            State::Steady(Arc::clone(new))
        } else {
            State::Changing { old: Arc::clone(old), new: Arc::clone(new), issues_new: true, since: now }
        };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(now: SystemTime) -> Arc<Authority> {
        Arc::new(Authority::generate("td", now).unwrap().0)
    }

    #[test]
    fn trust_comes_first_and_removal_last() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let (old, new) = (authority(start), authority(start));
        let mut rotation = Rotation::new(Arc::clone(&old));
        let state = |rotation: &Rotation| {
            let roots = rotation.roots();
            (
                rotation.step(),
                roots.contains(old.roots()),
                roots.contains(new.roots()),
                Arc::ptr_eq(rotation.signs(), &new),
            )
        };
        assert_eq!(state(&rotation), (Step::Steady, true, false, false));
        assert!(!rotation.handle_progress(Fleet::new(1, 1), start + SETTLE * 9));
        rotation.begin(Arc::clone(&new), start).unwrap();
        assert_eq!(state(&rotation), (Step::TrustBoth, true, true, false));
        assert_eq!(rotation.begin(Arc::clone(&new), start), Err(RotationError::UnderWay(Step::TrustBoth)));
        assert!(!rotation.handle_progress(Fleet::new(2, 2), start + SETTLE / 2), "others need time");
        assert!(!rotation.handle_progress(Fleet::new(1, 2), start + SETTLE), "one does not trust the new root");
        assert!(rotation.handle_progress(Fleet::new(2, 2), start + SETTLE));
        assert_eq!(state(&rotation), (Step::IssueNew, true, true, true));
        assert!(!rotation.handle_progress(Fleet::new(2, 2), start + SETTLE), "the step has just begun");
        assert!(!rotation.handle_progress(Fleet::new(1, 2), start + SETTLE * 2), "one has an old certificate");
        assert_eq!(
            rotation.progress(Fleet::new(1, 2), start + SETTLE * 2).unwrap(),
            "workloads get certificates of the new root: 1 of 2 workloads, 300 of 300 s"
        );
        assert!(rotation.handle_progress(Fleet::new(2, 2), start + SETTLE * 2));
        assert_eq!(state(&rotation), (Step::Steady, false, true, true));
        assert_eq!(rotation.progress(Fleet::default(), start), None);
    }
}
