//! What of a configuration could not be read.
//!
//! A resource that could not be read looks missing to everything that refers to it, and one that was read in part seems to
//! say something else than it does. Whoever mends the one mistake must not be told of ten others that are none, so checks
//! between resources ask here first. Mistakes in fields that no other resource looks at keep nothing from being checked.

use std::collections::HashSet;

use crate::diagnostic::{Diagnostic, Severity};

/// Where mistakes in a resource of a kind change nothing for others.
const OWN_AFFAIRS: [(&str, &str); 3] =
    [("VirtualService", "spec.http"), ("DestinationRule", "spec.trafficPolicy"), ("ServiceEntry", "spec.endpoints")];

/// Kinds of resources that are incomplete.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gaps {
    /// Resources of some kind are missing, and nobody knows which.
    any_missing: bool,
    missing: HashSet<&'static str>,
    partial: HashSet<&'static str>,
}

impl Gaps {
    /// Whether something that seems not to be there may be in a resource of this kind.
    pub(crate) fn may_hide(&self, kind: &str) -> bool {
        self.any_missing || self.missing.contains(kind) || self.is_partial(kind)
    }

    /// Whether a resource of this kind says more than what was read.
    pub(crate) fn is_partial(&self, kind: &str) -> bool {
        self.partial.contains(kind)
    }

    /// A file, or a resource of a kind that is not known, could not be read.
    pub(crate) fn add_unknown(&mut self) {
        self.any_missing = true;
    }

    /// A resource could not be read.
    pub(crate) fn add_missing(&mut self, kind: &'static str) {
        self.missing.insert(kind);
    }

    /// A resource was read, and this was found.
    pub(crate) fn add_read(&mut self, kind: &'static str, found: &[Diagnostic]) {
        let is_own_affair = |field: &str| OWN_AFFAIRS.iter().any(|own| own.0 == kind && field.starts_with(own.1));
        let mut errors = found.iter().filter(|diagnostic| diagnostic.severity == Severity::Error);
        if errors.any(|error| !is_own_affair(&error.field)) {
            self.partial.insert(kind);
        }
    }
}
