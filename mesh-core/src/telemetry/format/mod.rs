//! Evaluation of the format language of [`model::format`](crate::model::format).
//!
//! [`Format::write`](crate::model::format::Format::write) reads an [`Attributes`](super::Attributes) and appends to the
//! caller's buffer, so a log line needs no allocation. Header values may contain bytes that are not UTF-8. Text output
//! copies them; JSON output replaces them.

mod evaluate;
mod json;

pub use evaluate::{Missing, Value};
pub use json::write_json;

#[cfg(test)]
mod tests;
