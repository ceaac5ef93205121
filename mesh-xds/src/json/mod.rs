//! Protobuf-JSON and Envoy's YAML, in both directions.
//!
//! Reading parses YAML or JSON text into a generated message, and takes what Envoy takes:
//!
//! | value | is written |
//! |---|---|
//! | a field's name | in snake_case or lowerCamelCase |
//! | an enum | as a name in any case, a number, or a number in a string |
//! | a boolean | `true`, `yes`, `on`, `y` and their opposites, or a string: also `"1"` and `"0"` |
//! | a number | also a string: `"8080"`, `"1e3"`, `"0x10"` |
//! | a duration, a time, a wrapper such as `UInt32Value` | as in protobuf-JSON (`1.5s`), or as an object of its fields |
//! | a list | also its only element |
//! | null | a field that is not set; a default value in a list or a map |
//! | an `Any` | an object with `@type`, which may be a `TypedStruct` around the JSON of the message |
//!
//! Anything else, including an unknown field, is an error with file, line, column, field path and the offending value.
//!
//! A message in an `Any` that Envoy publishes but that is not generated here is left out: its `Any` has a type and no
//! value, and its decoder decides by the type. Where a field is written in both spellings, Envoy takes either; here that is
//! an error.
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
pub use error::{Mark, Overridden, TextError};
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
    Document::parse(text, source_name)?.read().map_err(|mut errors| errors.swap_remove(0))
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
