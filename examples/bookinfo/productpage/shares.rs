//! Which version of reviews answered lately.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use serde::Serialize;

use crate::reviews::VERSIONS;

/// The last [`Shares::WINDOW`] answers.
#[derive(Debug, Default)]
pub(super) struct Shares {
    seen: Mutex<VecDeque<String>>,
}

/// One version's part of the answers seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Share {
    pub(super) version: &'static str,
    pub(super) count: usize,
    /// Of all that were counted, rounded.
    pub(super) percent: usize,
}

impl Shares {
    /// How many answers are remembered.
    pub(super) const WINDOW: usize = 200;

    /// Remembers that `version` answered.
    pub(super) fn record(&self, version: &str) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() == Self::WINDOW {
            seen.pop_front();
        }
        seen.push_back(version.to_owned());
    }

    /// Every version's share, in order of versions.
    pub(super) fn table(&self) -> Vec<Share> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let total = seen.len().max(1);
        VERSIONS
            .iter()
            .map(|version| {
                let count = seen.iter().filter(|seen| *seen == version.name).count();
                Share { version: version.name, count, percent: (count * 100 + total / 2) / total }
            })
            .collect()
    }
}
