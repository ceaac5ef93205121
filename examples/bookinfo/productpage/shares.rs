//! The share of each version in the latest responses of reviews.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use serde::Serialize;

use crate::reviews::VERSIONS;

/// The versions of the last [`Shares::WINDOW`] responses.
#[derive(Debug, Default)]
pub(super) struct Shares {
    seen: Mutex<VecDeque<String>>,
}

/// The share of one version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Share {
    pub(super) version: &'static str,
    pub(super) count: usize,
    /// Percentage of the counted responses, rounded.
    pub(super) percent: usize,
}

impl Shares {
    /// Number of responses that are counted.
    pub(super) const WINDOW: usize = 200;

    /// Counts a response of `version`.
    pub(super) fn record(&self, version: &str) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() == Self::WINDOW {
            seen.pop_front();
        }
        seen.push_back(version.to_owned());
    }

    /// The share of each version, sorted by version.
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
