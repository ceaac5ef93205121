//! Errors in texts, with their position.

use std::fmt;

use thiserror::Error;

/// A range of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Line, from 1; 0 means the whole text.
    pub line: u64,
    /// Column in characters, from 1.
    pub column: u64,
    /// Length in characters; the range may span several lines.
    pub length: u64,
}

impl Mark {
    pub(super) const WHOLE_TEXT: Self = Self { line: 0, column: 0, length: 0 };
}

/// A text is not YAML or JSON, or does not describe the expected message.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct TextError {
    source_name: String,
    mark: Mark,
    path: String,
    reason: String,
    is_syntax: bool,
}

impl TextError {
    /// The position of the offending text.
    #[must_use]
    pub fn mark(&self) -> Mark {
        self.mark
    }

    /// Whether the text is not valid YAML.
    #[must_use]
    pub fn is_syntax(&self) -> bool {
        self.is_syntax
    }

    /// The path of the field, such as `static_resources.clusters[3].connect_timeout`; empty if the error is not in a field.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What is wrong, with the offending value.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    pub(super) fn syntax(source_name: &str, mark: Mark, reason: String) -> Self {
        Self { source_name: source_name.to_owned(), mark, path: String::new(), reason, is_syntax: true }
    }
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source_name)?;
        if self.mark.line > 0 {
            write!(f, ":{}:{}", self.mark.line, self.mark.column)?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// An error in a nested value. Each level adds its part of the path while the error is returned.
#[derive(Debug)]
pub(super) struct Fault {
    mark: Mark,
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

/// Boxed, because most results are smaller than the error.
pub(super) type Result<T> = std::result::Result<T, Box<Fault>>;

impl Fault {
    pub(super) fn new(mark: Mark, reason: impl Into<String>) -> Box<Self> {
        Box::new(Self { mark, path: Vec::new(), reason: reason.into() })
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
        let (source_name, reason) = (source_name.to_owned(), self.reason.clone());
        TextError { source_name, mark: self.mark, path, reason, is_syntax: false }
    }
}
