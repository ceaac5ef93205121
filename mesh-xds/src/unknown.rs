//! Unknown fields of encoded messages: those of a newer version of the API.
//!
//! prost skips unknown fields silently, so this module finds them in the encoded bytes, including those of each `Any` of a
//! known type. The search ends at malformed bytes, which decoding reports.

use prost::encoding::{WireType, decode_key, decode_varint};
use prost_reflect::{Kind, MessageDescriptor};

use crate::descriptor::{POOL, type_name};

/// Maximum depth of nested messages. prost refuses deeper ones.
const MAX_DEPTH: usize = 100;

/// A field that the generated type does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownField {
    /// The path of the message with the field, such as `filter_chains.filters.typed_config`; empty for the outermost.
    pub path: String,
    /// Full name of the message's type.
    pub message: String,
    /// The field's number.
    pub number: u32,
}

/// The unknown fields in an encoded message of the type called `full_name`.
#[must_use]
pub fn unknown_fields(full_name: &str, bytes: &[u8]) -> Vec<UnknownField> {
    let mut found = Vec::new();
    if let Some(descriptor) = POOL.get_message_by_name(full_name) {
        let mut search = Search { path: Vec::new(), found: &mut found };
        search.message(&descriptor, bytes);
    }
    found
}

struct Search<'f> {
    path: Vec<String>,
    found: &'f mut Vec<UnknownField>,
}

impl Search<'_> {
    /// `None` if the bytes are malformed.
    fn message(&mut self, descriptor: &MessageDescriptor, mut bytes: &[u8]) -> Option<()> {
        if self.path.len() > MAX_DEPTH {
            return None;
        }
        let is_any = descriptor.full_name() == "google.protobuf.Any";
        let mut any_type = None;
        while !bytes.is_empty() {
            let (number, wire_type) = decode_key(&mut bytes).ok()?;
            let content = content(wire_type, &mut bytes)?;
            let Some(field) = descriptor.get_field(number) else {
                let message = descriptor.full_name().to_owned();
                self.found.push(UnknownField { path: self.path.join("."), message, number });
                continue;
            };
            match (field.kind(), number) {
                (_, 1) if is_any => any_type = std::str::from_utf8(content).ok(),
                (_, 2) if is_any => {
                    // Encoders write the type before the value. Without the type the value cannot be searched.
                    let inner = any_type.and_then(|url| POOL.get_message_by_name(type_name(url)));
                    if let Some(inner) = inner {
                        self.message(&inner, content)?;
                    }
                }
                (Kind::Message(inner), _) if wire_type == WireType::LengthDelimited => {
                    self.path.push(field.name().to_owned());
                    self.message(&inner, content)?;
                    self.path.pop();
                }
                _ => {}
            }
        }
        Some(())
    }
}

/// The content of a length-delimited field; empty for other fields, which contain no messages.
fn content<'b>(wire_type: WireType, bytes: &mut &'b [u8]) -> Option<&'b [u8]> {
    let length = match wire_type {
        WireType::Varint => {
            decode_varint(bytes).ok()?;
            return Some(&[]);
        }
        WireType::ThirtyTwoBit => 4,
        WireType::SixtyFourBit => 8,
        WireType::LengthDelimited => usize::try_from(decode_varint(bytes).ok()?).ok()?,
        WireType::StartGroup | WireType::EndGroup => return None,
    };
    let (content, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(if wire_type == WireType::LengthDelimited { content } else { &[] })
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::proto::envoy::config::cluster::v3::Cluster;

    #[test]
    fn fields_of_a_newer_api_are_found_at_any_depth() {
        let cluster: Cluster = crate::json::from_text(
            "{name: a, load_assignment: {endpoints: [{priority: 1}]}, transport_socket: {name: t, typed_config: \
             {'@type': type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer}}}",
            "",
        )
        .unwrap();
        let mut bytes = cluster.encode_to_vec();
        assert_eq!(unknown_fields("envoy.config.cluster.v3.Cluster", &bytes), []);

        // Field 1000, varint 1, in the cluster itself; then a load assignment with the same in an endpoint group.
        let unknown = [0xc0, 0x3e, 0x01];
        bytes.extend(unknown);
        bytes.extend([0x8a, 0x02, 5, 0x12, 3]);
        bytes.extend(unknown);
        let found: Vec<String> = unknown_fields("envoy.config.cluster.v3.Cluster", &bytes)
            .into_iter()
            .map(|field| format!("{}: {} {}", field.path, field.message, field.number))
            .collect();
        let group = "load_assignment.endpoints: envoy.config.endpoint.v3.LocalityLbEndpoints 1000";
        assert_eq!(found, [": envoy.config.cluster.v3.Cluster 1000", group]);
    }

    #[test]
    fn malformed_bytes_end_the_search() {
        for bytes in [&[0xff][..], &[0x0a, 0x7f], &[0x0b], &[0x92, 0x01, 0x01, 0x92]] {
            assert_eq!(unknown_fields("envoy.config.cluster.v3.Cluster", bytes), [], "{bytes:?}");
        }
    }
}
