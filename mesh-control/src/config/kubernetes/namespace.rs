//! `Namespace`, with its labels.
//!
//! Source: `core/v1`.

use crate::config::Metadata;
use crate::config::kind::Resource;
use crate::document::{Context, Node};

/// A namespace.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Namespace {
    /// Name and labels.
    pub metadata: Metadata,
}

impl Resource for Namespace {
    const IS_CLUSTER_SCOPED: bool = true;

    fn read(metadata: Metadata, _: &Node, _: Context<'_>) -> Option<Self> {
        Some(Self { metadata })
    }
}
