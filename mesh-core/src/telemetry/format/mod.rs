//! Evaluation of the format language of [`model::format`](crate::model::format).
//!
//! [`Format::write`](crate::model::format::Format::write) reads an [`Attributes`](super::Attributes) and appends to a
//! buffer of the caller, so a log line costs no allocation of its own. Header values may hold bytes that are not UTF-8.
//! Text output passes them on as they are; JSON output replaces them.

mod evaluate;
mod json;

pub use evaluate::{Missing, Value};
pub use json::write_json;

#[cfg(test)]
mod tests;
