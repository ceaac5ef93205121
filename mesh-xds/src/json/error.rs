//! Errors in texts, with their position.

use std::fmt;

use thiserror::Error;

/// A range of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Line, from 1.
    pub line: u64,
    /// Column in characters, from 1.
    pub column: u64,
    /// Length in characters; the range may span several lines.
    pub length: u64,
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

/// Something that a text says and that has no effect, as in Envoy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overridden {
    /// The position of the text.
    pub mark: Mark,
    /// The key, or what else stands there.
    pub key: String,
    /// Why it has no effect.
    pub reason: &'static str,
}

/// An error in a nested value. Each level adds its part of the path while the error is returned.
#[derive(Debug)]
struct Fault {
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

/// All errors in a value, at least one.
#[derive(Debug)]
pub(super) struct Faults(Vec<Fault>);

pub(super) type Result<T> = std::result::Result<T, Faults>;

impl Faults {
    pub(super) fn new(mark: Mark, reason: impl Into<String>) -> Self {
        Self(vec![Fault { mark, path: Vec::new(), reason: reason.into() }])
    }

    pub(super) fn at(mut self, step: impl Fn() -> Step) -> Self {
        self.0.iter_mut().for_each(|fault| fault.path.push(step()));
        self
    }

    pub(super) fn in_source(&self, source_name: &str) -> Vec<TextError> {
        self.0.iter().map(|fault| fault.in_source(source_name)).collect()
    }
}

/// The successful results, or the faults of all others.
pub(super) fn all<T>(results: impl Iterator<Item = Result<T>>) -> Result<Vec<T>> {
    let (mut values, mut faults) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(value) => values.push(value),
            Err(Faults(more)) => faults.extend(more),
        }
    }
    if faults.is_empty() { Ok(values) } else { Err(Faults(faults)) }
}

impl Fault {
    fn in_source(&self, source_name: &str) -> TextError {
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
