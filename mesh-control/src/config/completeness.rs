//! Which kinds of resources were read completely.
//!
//! A resource that could not be read would be reported as missing, and one that was read in part as incomplete. Checks
//! between resources look here first, so that one mistake does not cause reports of others that do not exist. Mistakes
//! in fields that no other resource refers to ([`Resource::LOCAL_FIELDS`]) prevent no check.
//!
//! [`Resource::LOCAL_FIELDS`]: super::kind::Resource::LOCAL_FIELDS

use std::collections::HashSet;

use super::Kind;
use crate::diagnostic::{Diagnostic, Severity};

/// What could not be read of a configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct Completeness {
    /// A resource whose kind is not known could not be read.
    lost_any: bool,
    lost: HashSet<Kind>,
    partial: HashSet<Kind>,
}

impl Completeness {
    /// Whether every resource of the kind was read, and whole: what is not found does not exist.
    pub(crate) fn is_complete(&self, kind: Kind) -> bool {
        !self.lost_any && !self.lost.contains(&kind) && !self.has_partial(kind)
    }

    /// Whether fields of a resource of the kind could not be read.
    pub(crate) fn has_partial(&self, kind: Kind) -> bool {
        self.partial.contains(&kind)
    }

    /// A file, or a resource whose kind is not known, could not be read.
    pub(crate) fn lose_any(&mut self) {
        self.lost_any = true;
    }

    /// A resource of the kind could not be read.
    pub(super) fn lose(&mut self, kind: Kind) {
        self.lost.insert(kind);
    }

    /// A resource of the kind was read, with these diagnostics.
    pub(super) fn record(&mut self, kind: Kind, diagnostics: &[Diagnostic]) {
        let is_local = |field: &str| kind.local_fields().iter().any(|local| field.starts_with(local));
        let mut errors = diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error);
        if errors.any(|error| !is_local(&error.field)) {
            self.partial.insert(kind);
        }
    }
}
