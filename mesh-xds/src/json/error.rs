//! What is wrong with a text, and where.

use std::fmt;

use thiserror::Error;

/// A text is not YAML or JSON, or does not describe the expected message.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct TextError {
    source_name: String,
    line: u64,
    column: u64,
    path: String,
    reason: String,
}

impl TextError {
    /// Line of the offending text, from 1; 0 if the error is about the text as a whole.
    #[must_use]
    pub fn line(&self) -> u64 {
        self.line
    }

    /// Column of the offending text in characters, from 1.
    #[must_use]
    pub fn column(&self) -> u64 {
        self.column
    }

    /// The field, such as `static_resources.clusters[3].connect_timeout`; empty if none is concerned.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What is wrong, with the offending value.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    pub(super) fn syntax(source_name: &str, position: (u64, u64), reason: String) -> Self {
        Self { source_name: source_name.to_owned(), line: position.0, column: position.1, path: String::new(), reason }
    }
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source_name)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// An error on its way out of nested values: each level adds its part of the path.
#[derive(Debug)]
pub(super) struct Fault {
    position: (u64, u64),
    /// Innermost part first.
    path: Vec<Step>,
    reason: String,
}

/// One step of a field path.
#[derive(Debug)]
pub(super) enum Step {
    Field(String),
    Index(usize),
    Key(String),
}

/// Boxed, because it travels through many frames that almost never carry it.
pub(super) type Result<T> = std::result::Result<T, Box<Fault>>;

impl Fault {
    pub(super) fn new(position: (u64, u64), reason: impl Into<String>) -> Box<Self> {
        Box::new(Self { position, path: Vec::new(), reason: reason.into() })
    }

    pub(super) fn at(mut self: Box<Self>, step: Step) -> Box<Self> {
        self.path.push(step);
        self
    }

    pub(super) fn in_source(&self, source_name: &str) -> TextError {
        let mut path = String::new();
        for step in self.path.iter().rev() {
            match step {
                Step::Field(name) if path.is_empty() => path.push_str(name),
                Step::Field(name) => path.extend([".", name]),
                Step::Index(index) => path.push_str(&format!("[{index}]")),
                Step::Key(key) => path.push_str(&format!("[{key:?}]")),
            }
        }
        let (line, column) = self.position;
        TextError { source_name: source_name.to_owned(), line, column, path, reason: self.reason.clone() }
    }
}
