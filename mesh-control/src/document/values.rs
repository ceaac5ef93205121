//! Values of general types: booleans, strings, integers, lists, maps.

use std::collections::BTreeMap;

use super::yaml::{Key, Node, Value};
use super::{Context, FromNode, Located};

impl FromNode for bool {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let Value::Bool(value) = node.value else {
            cx.mismatch(node, "true or false");
            return None;
        };
        Some(value)
    }
}

impl FromNode for String {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let Value::String(value) = &node.value else {
            cx.mismatch(node, "a string");
            return None;
        };
        Some(value.clone())
    }
}

impl FromNode for u32 {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        cx.integer(node, 0, Self::MAX.into()).and_then(|value| Self::try_from(value).ok())
    }
}

impl<T: FromNode> FromNode for Located<T> {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let value = T::from_node(node, cx)?;
        Some(Self { value, position: cx.position(node.mark) })
    }
}

/// Items that cannot be read are reported and left out.
impl<T: FromNode> FromNode for Vec<T> {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let Value::Sequence(items) = &node.value else {
            cx.mismatch(node, "a list");
            return None;
        };
        Some(items.iter().enumerate().filter_map(|(i, item)| T::from_node(item, cx.index(i))).collect())
    }
}

impl<T: FromNode> FromNode for BTreeMap<String, T> {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let Value::Mapping(entries) = &node.value else {
            cx.mismatch(node, "an object");
            return None;
        };
        let read = |(key, value): &(Key, Node)| Some((key.name.clone(), T::from_node(value, cx.field(&key.name))?));
        Some(entries.iter().filter_map(read).collect())
    }
}
