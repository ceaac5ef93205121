//! A mapping whose fields are read by name.

use std::cell::{Cell, RefCell};

use mesh_core::nearest::nearest;

use super::suggest::suggest;
use super::yaml::{Key, Mark, Node, Value};
use super::{Context, FromNode};
use crate::diagnostic::{Code, Diagnostic, Position};

/// A mapping whose fields are read by name.
#[derive(Debug)]
pub(crate) struct Object<'a> {
    pub(crate) cx: Context<'a>,
    node: &'a Node,
    entries: &'a [(Key, Node)],
    /// In a cell, so that fields can be read while a context that is borrowed from the object is in use.
    known: RefCell<Vec<&'static str>>,
    unsupported: Cell<&'static [&'static str]>,
    ignored: Cell<&'static [&'static str]>,
}

impl<'a> Object<'a> {
    pub(crate) fn new(node: &'a Node, cx: Context<'a>) -> Option<Self> {
        let Value::Mapping(entries) = &node.value else {
            cx.mismatch(node, "an object");
            return None;
        };
        Some(Self {
            cx,
            node,
            entries,
            known: RefCell::default(),
            unsupported: Cell::default(),
            ignored: Cell::default(),
        })
    }

    /// Position of the object itself.
    pub(crate) fn mark(&self) -> Mark {
        self.node.mark
    }

    pub(crate) fn position(&self) -> Position {
        self.cx.position(self.node.mark)
    }

    /// The field's node; protobuf-JSON's `null` is an absent field.
    pub(crate) fn node(&self, name: &'static str) -> Option<&'a Node> {
        self.know(name);
        let (_, node) = self.entries.iter().find(|(key, _)| key.name == name)?;
        (!matches!(node.value, Value::Null)).then_some(node)
    }

    fn know(&self, name: &'static str) {
        let mut known = self.known.borrow_mut();
        if !known.contains(&name) {
            known.push(name);
        }
    }

    /// Position of the field's name, or of the object if the field is absent.
    pub(crate) fn key_mark(&self, name: &str) -> Mark {
        self.entries.iter().find(|(key, _)| key.name == name).map_or(self.node.mark, |(key, _)| key.mark)
    }

    /// Position of the field's value, or of the object if the field is absent.
    pub(crate) fn value_mark(&self, name: &str) -> Mark {
        self.entries.iter().find(|(key, _)| key.name == name).map_or(self.node.mark, |(_, node)| node.mark)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|(key, node)| key.name == name && !matches!(node.value, Value::Null))
    }

    pub(crate) fn is_empty_list(&self, name: &str) -> bool {
        let mut named = self.entries.iter().filter(|(key, _)| key.name == name);
        named.any(|(_, node)| matches!(&node.value, Value::Sequence(items) if items.is_empty()))
    }

    /// Whether it has any field with a value.
    pub(crate) fn has_any_field(&self) -> bool {
        self.entries.iter().any(|(_, node)| !matches!(node.value, Value::Null))
    }

    /// Calls `report` with the name and the position of each field that is an empty list.
    pub(crate) fn for_each_empty_list(&self, report: impl Fn(&str, Mark)) {
        for (key, node) in self.entries {
            if matches!(&node.value, Value::Sequence(items) if items.is_empty()) {
                report(&key.name, key.mark);
            }
        }
    }

    pub(crate) fn optional<T: FromNode>(&self, name: &'static str) -> Option<T> {
        let node = self.node(name)?;
        T::from_node(node, self.cx.field(name))
    }

    /// Reports the field if it is missing.
    pub(crate) fn required<T: FromNode>(&self, name: &'static str) -> Option<T> {
        if !self.has(name) {
            self.know(name);
            self.missing(name);
            return None;
        }
        self.optional(name)
    }

    pub(crate) fn missing(&self, name: &str) {
        let cx = self.cx.field(name);
        cx.invalid(self.node.mark, format!("{name} is missing"), format!("{name} is required here"));
    }

    /// A list that must have items.
    pub(crate) fn filled_list<T: FromNode>(&self, name: &'static str) -> Vec<T> {
        if self.is_empty_list(name) {
            let cx = self.cx.field(name);
            cx.invalid(self.key_mark(name), format!("{name} is empty"), "expected at least one item");
        }
        self.required(name).unwrap_or_default()
    }

    /// A list, empty if absent.
    pub(crate) fn list<T: FromNode>(&self, name: &'static str) -> Vec<T> {
        self.optional(name).unwrap_or_default()
    }

    pub(crate) fn flag(&self, name: &'static str) -> bool {
        self.optional(name).unwrap_or(false)
    }

    /// An integer between the bounds.
    pub(crate) fn integer<T: TryFrom<i128>>(&self, name: &'static str, minimum: i128, maximum: i128) -> Option<T> {
        let node = self.node(name)?;
        self.cx.field(name).integer(node, minimum, maximum).and_then(|value| T::try_from(value).ok())
    }

    /// A port, 1-65535.
    pub(crate) fn port(&self, name: &'static str) -> Option<u16> {
        self.integer(name, 1, 65_535)
    }

    /// Fields that Istio has in this object and this version does not implement.
    pub(crate) fn unsupported(&self, names: &'static [&'static str]) {
        self.unsupported.set(names);
    }

    /// Fields that have no meaning for a mesh and are accepted.
    pub(crate) fn ignored(&self, names: &'static [&'static str]) {
        self.ignored.set(names);
    }

    /// Reports all but the first of the fields if several are there; at most one may be.
    pub(crate) fn at_most_one_of(&self, names: &[&str]) {
        let mut present = names.iter().filter(|name| self.has(name));
        let Some(first) = present.next() else { return };
        for name in present {
            let message = format!("{name} cannot be set together with {first}");
            let expected = format!("expected at most one of {}", names.join(", "));
            self.cx.field(name).invalid(self.key_mark(name), message, expected);
        }
    }

    /// Reports the fields that no reader has read.
    pub(crate) fn finish(self) {
        let known = self.known.borrow();
        for (key, node) in self.entries {
            let name = key.name.as_str();
            if known.contains(&name) || self.ignored.get().contains(&name) {
                continue;
            }
            let cx = self.cx.field(&key.name);
            if self.unsupported.get().contains(&name) {
                if !matches!(node.value, Value::Null) {
                    cx.unsupported(key.mark, format!("{} is not supported yet", key.name));
                }
                continue;
            }
            if let Some(meant) = nearest(&key.name, known.iter().copied()).filter(|meant| !self.has(meant)) {
                // Otherwise one mistake is reported twice: as unknown field and as missing field.
                self.cx.field(meant).take_back();
            }
            let message = format!("unknown field {:?}", key.name);
            let diagnostic = Diagnostic::error(Code::SchemaValidation, cx.position(key.mark), message);
            cx.report(suggest(diagnostic.label("unknown field"), &key.name, &known));
        }
    }
}
