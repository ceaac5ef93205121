//! Positions in a message that is decoded, and what is refused or ignored there.

use std::cell::RefCell;
use std::fmt;

use thiserror::Error;

/// A field is not supported or has an invalid value.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{path}{}{reason}", if path.is_empty() { "" } else { ": " })]
pub struct FieldError {
    /// The path of the field, such as `outlier_detection.max_ejection_percent`; empty for the whole resource.
    pub path: String,
    /// What is wrong, with the value and its bounds.
    pub reason: String,
}

/// A field that is set and has no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ignored {
    /// The path of the field, such as `filter_chains[0].filters[0]`.
    pub path: String,
    /// Why it may be ignored.
    pub reason: String,
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.reason)
    }
}

/// Boxed, because most decoding succeeds and the error is larger than most results.
pub(crate) type Result<T> = std::result::Result<T, Box<FieldError>>;

/// The fields that were ignored so far.
pub(crate) type Notes = RefCell<Vec<Ignored>>;

/// A position in a message. It is a linked list on the stack, so a path is built only if it is reported.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At<'a> {
    parent: Option<&'a Self>,
    step: Step<'a>,
    notes: &'a Notes,
}

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Root,
    Field(&'a str),
    Item(&'a str, usize),
    Entry(&'a str, &'a str),
}

impl<'a> At<'a> {
    pub(crate) fn root(notes: &'a Notes) -> Self {
        Self { parent: None, step: Step::Root, notes }
    }

    /// The field `name` of this message. The prefix `r#` of Rust keywords is removed.
    pub(crate) fn field(&'a self, name: &'a str) -> Self {
        let name = name.strip_prefix("r#").unwrap_or(name);
        Self { parent: Some(self), step: Step::Field(name), notes: self.notes }
    }

    /// Element `index` of the repeated field `name`.
    pub(crate) fn item(&'a self, name: &'a str, index: usize) -> Self {
        Self { parent: Some(self), step: Step::Item(name, index), notes: self.notes }
    }

    /// The value of `key` in the map field `name`.
    pub(crate) fn entry(&'a self, name: &'a str, key: &'a str) -> Self {
        Self { parent: Some(self), step: Step::Entry(name, key), notes: self.notes }
    }

    /// The error for this field.
    pub(crate) fn refuse(&self, reason: impl fmt::Display) -> Box<FieldError> {
        Box::new(FieldError { path: self.path(), reason: reason.to_string() })
    }

    /// Records that this field has no effect.
    pub(crate) fn ignore(&self, reason: impl fmt::Display) {
        self.notes.borrow_mut().push(Ignored { path: self.path(), reason: reason.to_string() });
    }

    fn path(&self) -> String {
        let mut path = self.parent.map_or_else(String::new, At::path);
        if !path.is_empty() && !matches!(self.step, Step::Root) {
            path.push('.');
        }
        match self.step {
            Step::Root => {}
            Step::Field(name) => path.push_str(name),
            Step::Item(name, index) => path.push_str(&format!("{name}[{index}]")),
            Step::Entry(name, key) => path.push_str(&format!("{name}[{key:?}]")),
        }
        path
    }
}

/// Whether a protobuf field is set: its value is not the default of its type.
pub(crate) fn is_set<T: Default + PartialEq>(value: &T) -> bool {
    *value != T::default()
}

/// Destructures a protobuf message. Every field is listed once: fields to `use` become variables, fields to `ignore` are
/// recorded with the reason if set, and fields to `refuse` are an error if set. If a new version of the message has a new
/// field, the code does not compile until the field is listed.
macro_rules! fields {
    ($message:path = $value:expr, $at:expr;
     use { $($used:ident),* $(,)? }
     ignore { $($ignored:ident: $reason:expr),* $(,)? }
     refuse { $($refused:ident),* $(,)? }) => {
        let $message { $($used,)* $($ignored,)* $($refused,)* } = $value;
        $(if $crate::decode::field::is_set($ignored) {
            $at.field(stringify!($ignored)).ignore($reason);
        })*
        $(if $crate::decode::field::is_set($refused) {
            return Err($at.field(stringify!($refused)).refuse("not supported"));
        })*
    };
}
pub(crate) use fields;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_written_as_in_the_configuration() {
        let notes = Notes::default();
        let root = At::root(&notes);
        let (hosts, map) = (root.item("virtual_hosts", 2), root.entry("filters", "a.b"));
        assert_eq!(hosts.field("r#match").refuse("no").to_string(), "virtual_hosts[2].match: no");
        map.field("x").ignore("harmless");
        assert_eq!(root.refuse("not a cluster").to_string(), "not a cluster");
        assert_eq!(notes.borrow()[0].to_string(), "filters[\"a.b\"].x: harmless");
    }
}
