//! The selector of workloads that security policies share.
//!
//! Source: `type/v1beta1/selector.proto`, `WorkloadSelector`.

use super::scalar::{Labels, labels};
use crate::document::Object;

/// Reads `selector.matchLabels`; empty if the field is absent, `None` after a mistake.
pub(super) fn read_selector(object: &Object<'_>) -> Option<Labels> {
    let Some(node) = object.node("selector") else { return Some(Labels::new()) };
    let selector = Object::new(node, object.cx.field("selector"))?;
    let read = if selector.has("matchLabels") { labels(&selector, "matchLabels") } else { Some(Labels::new()) };
    selector.finish();
    read
}
