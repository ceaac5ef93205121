//! `Node`: a machine, whose labels say where it is.
//!
//! Source: `core/v1`; the labels are those that istiod reads (`getPodLocality`).

use crate::config::Metadata;
use crate::config::kind::Resource;
use crate::document::{self, Context};

/// Labels of region, zone and subzone, in the order of preference.
const LABELS: [&[&str]; 3] = [
    &["topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"],
    &["topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"],
    &["topology.istio.io/subzone"],
];

/// A machine.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Node {
    /// Name and labels.
    pub metadata: Metadata,
}

impl Resource for Node {
    const IS_CLUSTER_SCOPED: bool = true;

    fn read(metadata: Metadata, _: &document::Node, _: Context<'_>) -> Option<Self> {
        Some(Self { metadata })
    }
}

impl Node {
    /// `region/zone/subzone`; empty if it has no label that says so.
    pub fn locality(&self) -> String {
        let label = |names: &[&str]| names.iter().find_map(|name| self.metadata.labels.get(*name));
        let parts = LABELS.map(|names| label(names).map_or("", String::as_str));
        parts.join("/").trim_end_matches('/').to_owned()
    }

    /// The zone; empty if it has no label that says so.
    pub fn zone(&self) -> &str {
        LABELS[1].iter().find_map(|name| self.metadata.labels.get(*name)).map_or("", String::as_str)
    }
}
