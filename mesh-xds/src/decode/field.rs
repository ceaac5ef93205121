//! Positions in a message that is decoded, and what is refused or ignored there.

use std::cell::RefCell;
use std::fmt;

use thiserror::Error;

use super::sources::Sources;

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

/// Maximum number of errors that are reported for one resource, besides the one that ends decoding.
const MAX_FAULTS: usize = 50;

/// What was found so far.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// The sources that the message may name.
    sources: Sources,
    ignored: RefCell<Vec<Ignored>>,
    /// Errors after which decoding went on, to find others.
    faults: RefCell<Vec<FieldError>>,
}

impl Notes {
    /// For a message that may name these sources.
    pub(crate) fn with_sources(sources: Sources) -> Self {
        Self { sources, ..Self::default() }
    }

    /// The outcome of decoding, with the fields that were ignored, or all errors.
    pub(crate) fn finish<T>(self, result: Result<T>) -> std::result::Result<(T, Vec<Ignored>), Vec<FieldError>> {
        let mut faults = self.faults.into_inner();
        match result {
            Ok(value) if faults.is_empty() => return Ok((value, self.ignored.into_inner())),
            Ok(_) => {}
            Err(last) => faults.push(*last),
        }
        Err(faults)
    }
}

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

    /// The sources that the message may name.
    pub(crate) fn sources(&self) -> &'a Sources {
        &self.notes.sources
    }

    /// The error for this field.
    pub(crate) fn refuse(&self, reason: impl fmt::Display) -> Box<FieldError> {
        Box::new(FieldError { path: self.path(), reason: reason.to_string() })
    }

    /// Records an error for which decoding need not end, because the rest does not depend on it.
    pub(crate) fn report(&self, error: FieldError) {
        let mut faults = self.notes.faults.borrow_mut();
        if faults.len() < MAX_FAULTS {
            faults.push(error);
        }
    }

    /// Both values. If both are errors, both are reported.
    pub(crate) fn both<A, B>(&self, one: Result<A>, other: Result<B>) -> Result<(A, B)> {
        match (one, other) {
            (Ok(one), Ok(other)) => Ok((one, other)),
            (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error),
            (Err(error), Err(last)) => {
                self.report(*error);
                Err(last)
            }
        }
    }

    /// All values. All errors are reported.
    pub(crate) fn all<T>(&self, results: impl Iterator<Item = Result<T>>) -> Result<Vec<T>> {
        let (mut values, mut last) = (Vec::new(), None);
        for result in results {
            match result {
                Ok(value) => values.push(value),
                Err(error) => {
                    if let Some(before) = last.replace(error) {
                        self.report(*before);
                    }
                }
            }
        }
        last.map_or(Ok(values), Err)
    }

    /// Records that this field has no effect.
    pub(crate) fn ignore(&self, reason: impl fmt::Display) {
        self.notes.ignored.borrow_mut().push(Ignored { path: self.path(), reason: reason.to_string() });
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
/// recorded with the reason if set, and fields to `refuse` are an error if set, which does not end decoding. If a new version of the message has a new
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
            $at.report(*$at.field(stringify!($refused)).refuse("not supported"));
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
        let (_, ignored) = notes.finish(Ok(())).unwrap();
        assert_eq!(ignored[0].to_string(), "filters[\"a.b\"].x: harmless");
    }
}
