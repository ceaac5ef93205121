//! The interest of a client in a type of resource.

use std::collections::BTreeSet;
use std::sync::Arc;

/// The resources of a type that a client subscribes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Interest {
    /// Nothing: the kind is not requested.
    #[default]
    Nothing,
    /// All that the control plane has for this node.
    Everything,
    /// The named ones.
    Names(Arc<BTreeSet<Arc<str>>>),
}

impl Interest {
    /// Whether it includes a resource of this name.
    #[must_use]
    pub fn includes(&self, name: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Names(names) => names.contains(name),
        }
    }

    /// The names in a request, which are none for everything.
    pub(super) fn names(&self) -> Arc<BTreeSet<Arc<str>>> {
        match self {
            Self::Names(names) => Arc::clone(names),
            Self::Nothing | Self::Everything => Arc::default(),
        }
    }

    /// The names, empty for the other variants.
    pub(super) fn into_names(self) -> BTreeSet<Arc<str>> {
        match self {
            Self::Nothing | Self::Everything => BTreeSet::new(),
            Self::Names(names) => Arc::unwrap_or_clone(names),
        }
    }
}

impl FromIterator<Arc<str>> for Interest {
    /// These names; [`Interest::Nothing`] if there are none.
    fn from_iter<I: IntoIterator<Item = Arc<str>>>(names: I) -> Self {
        let names: BTreeSet<Arc<str>> = names.into_iter().collect();
        if names.is_empty() { Self::Nothing } else { Self::Names(Arc::new(names)) }
    }
}
