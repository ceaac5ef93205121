//! YAML and JSON documents, and how typed values are read from them.
//!
//! [`parse`] turns the text of a file into a tree of [`Node`]s that keep their positions. A reader reads the fields
//! of an [`Object`] one after the other; a mistake in a field is recorded as a diagnostic at its position, and reading
//! goes on, so one run reports every mistake of a file. A field that no reader has read is reported by
//! [`Object::finish`].

mod number;
mod object;
mod suggest;
mod values;
mod yaml;

pub(crate) use object::Object;
pub(crate) use yaml::{Key, MAX_FILE_BYTES, Mark, Node, Part, Value, parse, parse_embedded, parse_part, parts};

use std::cell::RefCell;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::diagnostic::{Code, Diagnostic, Position, Severity, Source};

/// What happens to kinds, fields and values that Istio has and this version does not implement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// They are errors. A configuration that is served must be read like this.
    Strict,
    /// They are left out with a warning, so that the rest can be compared with another implementation.
    Lenient,
}

/// A value of a configuration file and its position.
#[derive(Clone, Debug)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Its position.
    pub position: Position,
}

impl<T> Deref for Located<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// A type that can be read from a node.
pub(crate) trait FromNode: Sized {
    /// `None` after a diagnostic was recorded.
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self>;
}

/// The context that all nodes of one document share.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) source: Arc<Source>,
    /// `VirtualService default/reviews`, once known.
    pub(crate) resource: String,
    /// Namespace in which short names are resolved.
    pub(crate) namespace: String,
    pub(crate) strictness: Strictness,
    pub(crate) diagnostics: RefCell<Vec<Diagnostic>>,
}

/// A document and the path to the node being read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    document: &'a Document,
    parent: Option<&'a Self>,
    segment: Segment<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Segment<'a> {
    Root,
    Field(&'a str),
    Index(usize),
}

impl<'a> Context<'a> {
    pub(crate) fn root(document: &'a Document) -> Self {
        Self { document, parent: None, segment: Segment::Root }
    }

    pub(crate) fn field<'b>(&'b self, name: &'b str) -> Context<'b> {
        Context { document: self.document, parent: Some(self), segment: Segment::Field(name) }
    }

    pub(crate) fn index(&self, index: usize) -> Context<'_> {
        Context { document: self.document, parent: Some(self), segment: Segment::Index(index) }
    }

    pub(crate) fn namespace(&self) -> &'a str {
        &self.document.namespace
    }

    pub(crate) fn position(&self, mark: Mark) -> Position {
        mark.in_source(&self.document.source)
    }

    pub(crate) fn report(&self, diagnostic: Diagnostic) {
        self.document.diagnostics.borrow_mut().push(diagnostic.at(self.document.resource.clone(), self.to_string()));
    }

    /// Forgets what was reported about the field itself.
    fn take_back(&self) {
        let field = self.to_string();
        self.document.diagnostics.borrow_mut().retain(|diagnostic| diagnostic.field != field);
    }

    /// Reports an invalid value; `expected` describes the valid ones.
    pub(crate) fn invalid(&self, mark: Mark, message: impl Into<String>, expected: impl Into<String>) {
        self.report(Diagnostic::error(Code::SchemaValidation, self.position(mark), message).label(expected));
    }

    /// As [`Self::invalid`], for a value of which only the position is known.
    pub(crate) fn refuse(&self, position: Position, message: impl Into<String>, expected: impl Into<String>) {
        self.report(Diagnostic::error(Code::SchemaValidation, position, message).label(expected));
    }

    /// Reports something that Istio has and this version does not implement: an error, or a warning if the reader is
    /// lenient.
    pub(crate) fn unsupported(&self, mark: Mark, message: impl Into<String>) {
        self.unsupported_at(self.position(mark), message, None);
    }

    /// As [`Self::unsupported`], with advice.
    pub(crate) fn unsupported_at(&self, position: Position, message: impl Into<String>, help: Option<String>) {
        let mut diagnostic = Diagnostic::error(Code::Unsupported, position, message).label("not supported");
        if self.document.strictness == Strictness::Lenient {
            diagnostic.severity = Severity::Warning;
            diagnostic.label.push_str(": left out");
        }
        diagnostic.help.extend(help);
        self.report(diagnostic);
    }

    /// Reports a value of the wrong kind.
    fn mismatch(&self, node: &Node, expected: &str) {
        let mut diagnostic = Diagnostic::error(
            Code::SchemaValidation,
            self.position(node.mark),
            format!("expected {expected}, found {}", node.value.describe()),
        )
        .label(format!("expected {expected}"));
        let is_scalar = matches!(node.value, Value::Bool(_) | Value::Integer(_) | Value::Float(_));
        if expected == "a string" && is_scalar {
            diagnostic = diagnostic.help("quote it to make it a string");
        }
        self.report(diagnostic);
    }

    /// Reads an enum by name, or by number as protobuf-JSON allows. `None` in the table marks a value that Istio has and
    /// this version does not implement.
    pub(crate) fn enumeration<T: Copy>(&self, node: &Node, table: &[(&str, i128, Option<T>)]) -> Option<T> {
        let found = match &node.value {
            Value::String(text) => table.iter().find(|(name, ..)| name == text),
            other => {
                let Some(number) = number::integer_value(other) else {
                    self.mismatch(node, "a string");
                    return None;
                };
                table.iter().find(|(_, value, _)| *value == number)
            }
        };
        if let Some((name, _, value)) = found {
            if value.is_none() {
                self.unsupported(node.mark, format!("{name} is not supported yet"));
            }
            return *value;
        }
        let names: Vec<_> = table.iter().filter(|(.., value)| value.is_some()).map(|(name, ..)| *name).collect();
        let message = format!("{} is not a value of this field", node.value.describe());
        let mut diagnostic = Diagnostic::error(Code::SchemaValidation, self.position(node.mark), message)
            .label(format!("expected one of {}", names.join(", ")));
        if let Value::String(text) = &node.value {
            diagnostic = suggest::suggest(diagnostic, text, &names);
        }
        self.report(diagnostic);
        None
    }
}

impl fmt::Display for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        let is_first = self.parent.is_none_or(|parent| matches!(parent.segment, Segment::Root));
        match self.segment {
            Segment::Root => Ok(()),
            Segment::Field(name) if is_first => f.write_str(name),
            Segment::Field(name) => write!(f, ".{name}"),
            Segment::Index(index) => write!(f, "[{index}]"),
        }
    }
}
