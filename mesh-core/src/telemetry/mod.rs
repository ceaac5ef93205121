//! What is told about requests: the format language of access logs and header values.

mod format;

pub use format::{Command, Format, FormatError, Part};
