//! Kubernetes objects that have nothing to do with a mesh.

use std::collections::BTreeMap;
use std::fmt;

use crate::diagnostic::Position;

/// The objects of one kind that are left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeftAlone {
    /// Field `kind`.
    pub kind: String,
    /// Field `apiVersion`.
    pub api_version: String,
    /// Number of them, at least 1.
    pub count: usize,
    /// Place of the first one's kind.
    pub first: Position,
}

impl fmt::Display for LeftAlone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, api_version, count, first } = self;
        match count {
            1 => write!(f, "{kind} ({api_version}): 1 object is left alone, at {first}"),
            _ => write!(f, "{kind} ({api_version}): {count} objects are left alone, the first at {first}"),
        }
    }
}

/// Counts them.
#[derive(Debug, Default)]
pub(super) struct Counter(BTreeMap<(String, String), LeftAlone>);

impl Counter {
    pub(super) fn add(&mut self, kind: String, api_version: String, position: Position) {
        let counted = self.0.entry((kind.clone(), api_version.clone()));
        counted.or_insert_with(|| LeftAlone { kind, api_version, count: 0, first: position }).count += 1;
    }

    /// Sorted by kind.
    pub(super) fn finish(self) -> Vec<LeftAlone> {
        self.0.into_values().collect()
    }
}
