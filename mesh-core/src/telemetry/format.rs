//! The `%COMMAND(ARGUMENT):LENGTH%` language of Envoy's access logs and header values.

use std::fmt;

use thiserror::Error;

/// A compiled format: literals and commands in order.
#[derive(Clone, PartialEq, Eq)]
pub struct Format {
    source: Box<str>,
    parts: Vec<Part>,
}

/// A piece of a [`Format`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Text that stands for itself.
    Literal(Box<str>),
    /// Something of the request.
    Command(Command),
}

/// Something of the request. Envoy "Command Operators".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Such as `REQ` or `RESPONSE_CODE`.
    pub name: Box<str>,
    /// What stands in parentheses, if anything.
    pub argument: Option<Box<str>>,
    /// Longest output in bytes; `None` = unlimited.
    pub max_length: Option<usize>,
}

/// A format string that cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid format {format:?} at byte {at}: {reason}")]
pub struct FormatError {
    /// The format as given.
    pub format: String,
    /// Where the faulty command begins.
    pub at: usize,
    /// What is wrong.
    pub reason: String,
}

impl Format {
    /// Text without substitutions.
    #[must_use]
    pub fn literal(text: &str) -> Self {
        let parts = if text.is_empty() { Vec::new() } else { vec![Part::Literal(text.into())] };
        Self { source: text.into(), parts }
    }

    /// The format as configured.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// The pieces in order.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }
}

impl fmt::Debug for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}
