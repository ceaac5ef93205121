//! The type of a filter's configuration, which may be wrapped in a `TypedStruct`.

use prost_types::{Any, Struct};

use super::{peer_metadata, without_effect};
use crate::decode::{
    field::{At, Result},
    value::unpack,
};
use crate::descriptor::type_name;
use crate::proto::{udpa, xds};

/// A filter's configuration.
pub(super) struct Config {
    /// The full name of the message.
    pub(super) message_name: String,
    /// The JSON of the message, if it was wrapped.
    pub(super) value: Option<Struct>,
}

impl Config {
    /// Unwraps `any`. A message that must not be wrapped gets a name that no filter has. A message that must be wrapped
    /// is refused without a wrapper.
    pub(super) fn unwrap(at: &At<'_>, any: &Any) -> Result<Self> {
        let (inner, value) = match type_name(&any.type_url) {
            "udpa.type.v1.TypedStruct" => {
                let wrapper: udpa::r#type::v1::TypedStruct = unpack(at, any)?;
                (wrapper.type_url, wrapper.value)
            }
            "xds.type.v3.TypedStruct" => {
                let wrapper: xds::r#type::v3::TypedStruct = unpack(at, any)?;
                (wrapper.type_url, wrapper.value)
            }
            peer_metadata::MESSAGE_NAME => return Err(at.refuse("not supported outside of a TypedStruct")),
            plain => return Ok(Self { message_name: plain.to_owned(), value: None }),
        };
        let message_name = match type_name(&inner) {
            inner if without_effect::reason(inner).is_some() || inner == peer_metadata::MESSAGE_NAME => {
                inner.to_owned()
            }
            inner => format!("TypedStruct of {inner}"),
        };
        Ok(Self { message_name, value })
    }
}
