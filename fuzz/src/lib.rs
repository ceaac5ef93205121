//! Decoding of arbitrary input as an xDS resource, shared by the targets.

pub mod http1;

use mesh_xds::json;
use mesh_xds::resource::{self, ResourceType};
use prost::{Message, Name};
use prost_types::Any;

/// Decodes `input` as the resource `M`, from protobuf bytes or, if it begins with a brace, from protobuf-JSON.
///
/// No xDS message begins with a brace, which would be the start of a group. Seeds can therefore be written by hand, and the
/// bytes of a discovery response are tried unchanged.
pub fn decode<M: Message + Name + Default>(input: &[u8], kind: ResourceType) {
    let value = if input.first() == Some(&b'{') {
        let Some(message) = std::str::from_utf8(input).ok().and_then(|text| json::from_text::<M>(text, "input").ok())
        else {
            return;
        };
        message.encode_to_vec()
    } else {
        input.to_vec()
    };
    match resource::decode(&Any { type_url: kind.type_url(), value }) {
        Ok(decoded) => assert_eq!(decoded.resource.resource_type(), kind),
        Err(refused) => {
            assert!(!refused.error.reason.is_empty(), "refused without a reason: {refused}");
            assert!(refused.to_string().contains(&refused.error.reason), "{refused} hides its reason");
        }
    }
}
