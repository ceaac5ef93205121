//! Protobuf-JSON and Envoy's YAML, in both directions.
//!
//! Reading parses YAML or JSON text (JSON is a subset of YAML) into a generated message. As in Envoy, fields may be named
//! in snake_case or lowerCamelCase, enum values by name or number, durations are written as `1.5s`, and an `Any` is an
//! object with `@type`. Anything else, including an unknown field, is an error with file, line, column, field path and
//! the offending value.
//!
//! Writing has the format of Envoy's admin endpoint: fields have their proto names, defaults are omitted, and each `Any`
//! is expanded. A message of an unknown type is written as base64, so writing never fails.
//!
//! Both use the descriptors in [`proto::DESCRIPTORS`](crate::proto::DESCRIPTORS); no code is generated for each message.

mod document;
mod error;
mod read;
mod scalar;
mod text;
mod write;

use prost::{Message, Name};
use prost_reflect::{DynamicMessage, MessageDescriptor};
use prost_types::Any;

pub use document::{Document, Located};
pub use error::{Mark, TextError};
pub use write::Json;

use crate::descriptor::POOL;

/// Reads YAML or JSON `text` into a message. `source_name`, usually a file path, is shown in errors.
///
/// # Errors
/// If the text is not YAML, or has an unknown field or an invalid value. Only the first error is reported.
///
/// # Panics
/// If `M` is not one of the messages of [`crate::proto`] or Google's well-known types.
pub fn from_text<M: Message + Name + Default>(text: &str, source_name: &str) -> Result<M, TextError> {
    Document::parse(text, source_name)?.read()
}

/// A copy of `message` that is displayed as protobuf-JSON.
///
/// # Panics
/// If `M` is not one of the messages of [`crate::proto`] or Google's well-known types.
#[must_use]
pub fn to_json<M: Message + Name>(message: &M) -> Json {
    let mut dynamic = DynamicMessage::new(descriptor::<M>());
    dynamic.transcode_from(message).expect("a message and its descriptor come from the same definition");
    Json::new(dynamic)
}

/// A copy of `any` that is displayed as protobuf-JSON, with its message expanded next to `@type`.
#[must_use]
pub fn any_to_json(any: &Any) -> Json {
    to_json(any)
}

fn descriptor<M: Name>() -> MessageDescriptor {
    let name = M::full_name();
    POOL.get_message_by_name(&name).unwrap_or_else(|| panic!("{name} is not among the generated messages"))
}

fn transcode<M: Message + Default>(message: &DynamicMessage) -> M {
    message.transcode_to().expect("a message and its descriptor come from the same definition")
}

#[cfg(test)]
mod tests;
