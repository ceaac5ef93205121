//! Conversion of a parsed text to a message: fields, nested messages, lists, maps and `Any`.

use std::collections::HashMap;

use prost::Message as _;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};

use super::error::{Faults, Result, Step, all};
use super::scalar;
use super::text::{self, Key, Node};
use crate::descriptor::{POOL, is_known, type_name};

const ANY: &str = "google.protobuf.Any";
const TYPE: &str = "@type";

/// Wrappers around the JSON of a message, which Envoy reads as the message itself.
const TYPED_STRUCTS: [&str; 2] = ["udpa.type.v1.TypedStruct", "xds.type.v3.TypedStruct"];

/// Reads the value of a whole text as a message of type `descriptor`.
pub(super) fn root(descriptor: &MessageDescriptor, node: &Node) -> Result<DynamicMessage> {
    match &node.value {
        text::Value::Null => {
            Err(Faults::new(node.mark, format!("the text is empty: a {} is missing", descriptor.name())))
        }
        _ => message(descriptor, node),
    }
}

/// Reads `node` as a message of type `descriptor`.
pub(super) fn message(descriptor: &MessageDescriptor, node: &Node) -> Result<DynamicMessage> {
    if descriptor.full_name() == ANY {
        return any(descriptor, node);
    }
    if let Some(message) = scalar::well_known(descriptor, node)? {
        return Ok(message);
    }
    match &node.value {
        // Only in lists and maps: an element that is null is there, with default values.
        text::Value::Null => Ok(DynamicMessage::new(descriptor.clone())),
        _ => fields(descriptor, object(node, descriptor.name())?, None),
    }
}

fn object<'a>(node: &'a Node, what: &str) -> Result<&'a [(Key, Node)]> {
    match &node.value {
        text::Value::Object(entries) => Ok(entries),
        other => Err(Faults::new(node.mark, format!("expected an object ({what}), found {}", other.describe()))),
    }
}

/// Reads `entries` as the fields of a message, without the entry `skip`.
pub(super) fn fields(
    descriptor: &MessageDescriptor,
    entries: &[(Key, Node)],
    skip: Option<&str>,
) -> Result<DynamicMessage> {
    let mut message = DynamicMessage::new(descriptor.clone());
    let entries = entries.iter().filter(|(key, _)| Some(key.name.as_str()) != skip);
    all(entries.map(|(key, node)| {
        set_field(&mut message, descriptor, key, node).map_err(|faults| faults.at(|| Step::Field(key.name.clone())))
    }))?;
    Ok(message)
}

fn set_field(message: &mut DynamicMessage, descriptor: &MessageDescriptor, key: &Key, node: &Node) -> Result<()> {
    let field = find_field(descriptor, key)?;
    if is_absent(&field, node) {
        return Ok(());
    }
    refuse_second(message, &field, key)?;
    let value = field_value(&field, node)?;
    message.set_field(&field, value);
    Ok(())
}

fn find_field(descriptor: &MessageDescriptor, key: &Key) -> Result<FieldDescriptor> {
    let by_name = descriptor.get_field_by_name(&key.name);
    if let Some(field) = by_name.or_else(|| descriptor.get_field_by_json_name(&key.name)) {
        return Ok(field);
    }
    let known: Vec<FieldDescriptor> = descriptor.fields().collect();
    let hint = scalar::nearest(&key.name, known.iter().map(FieldDescriptor::name));
    Err(Faults::new(key.mark, format!("unknown field of {}{hint}", descriptor.full_name())))
}

/// Whether the field is left unset: null means unset, except for fields of type `google.protobuf.Value`.
fn is_absent(field: &FieldDescriptor, node: &Node) -> bool {
    let takes_null = matches!(field.kind(), Kind::Message(kind) if kind.full_name() == "google.protobuf.Value");
    matches!(node.value, text::Value::Null) && !takes_null
}

/// Refuses a field that is given twice, and a second field of a oneof.
fn refuse_second(message: &DynamicMessage, field: &FieldDescriptor, key: &Key) -> Result<()> {
    if message.has_field(field) {
        return Err(Faults::new(key.mark, "field is given twice, once in snake_case and once in lowerCamelCase"));
    }
    let rival = field.containing_oneof().and_then(|oneof| oneof.fields().find(|other| message.has_field(other)));
    match rival {
        Some(rival) => Err(Faults::new(key.mark, format!("cannot be given together with {}", rival.name()))),
        None => Ok(()),
    }
}

pub(super) fn field_value(field: &FieldDescriptor, node: &Node) -> Result<Value> {
    if field.is_map() {
        return map(field, node);
    }
    let kind = field.kind();
    if !field.is_list() {
        return single(&kind, node);
    }
    elements(&kind, node).map(Value::List)
}

/// The elements of a list. What is no list is its only element, and the elements of inner lists are elements.
fn elements(kind: &Kind, node: &Node) -> Result<Vec<Value>> {
    let takes_lists = matches!(kind, Kind::Message(kind) if kind.package_name() == "google.protobuf");
    let text::Value::List(nodes) = &node.value else {
        return Ok(vec![single(kind, node)?]);
    };
    let values = nodes.iter().enumerate().map(|(index, node)| {
        let values = match &node.value {
            text::Value::List(_) if !takes_lists => elements(kind, node),
            _ => single(kind, node).map(|value| vec![value]),
        };
        values.map_err(|faults| faults.at(|| Step::Index(index)))
    });
    Ok(all(values)?.into_iter().flatten().collect())
}

fn map(field: &FieldDescriptor, node: &Node) -> Result<Value> {
    let kind = field.kind();
    let entry = kind.as_message().expect("a map field has an entry message");
    let (key_kind, value_kind) = (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
    let entries = object(node, "map")?.iter().map(|(key, node)| {
        let pair = scalar::map_key(&key_kind, key).and_then(|key| Ok((key, single(&value_kind, node)?)));
        pair.map_err(|faults| faults.at(|| Step::Key(key.name.clone())))
    });
    Ok(Value::Map(all(entries)?.into_iter().collect::<HashMap<_, _>>()))
}

fn single(kind: &Kind, node: &Node) -> Result<Value> {
    match kind {
        Kind::Message(descriptor) => message(descriptor, node).map(Value::Message),
        kind => scalar::value(kind, node),
    }
}

/// Reads `{"@type": url, field: value, …}`, or `{"@type": url, "value": …}` for a well-known type. `{}` is an empty `Any`.
fn any(descriptor: &MessageDescriptor, node: &Node) -> Result<DynamicMessage> {
    let mut message = DynamicMessage::new(descriptor.clone());
    if matches!(node.value, text::Value::Null) {
        return Ok(message);
    }
    let entries = object(node, ANY)?;
    if entries.is_empty() {
        return Ok(message);
    }
    let (url, payload) = payload(entries, node)?;
    message.set_field_by_name("type_url", Value::String(url));
    message.set_field_by_name("value", Value::Bytes(payload.into()));
    Ok(message)
}

/// The type URL and the encoded message of an `Any`.
fn payload(entries: &[(Key, Node)], node: &Node) -> Result<(String, Vec<u8>)> {
    let Some((_, url_node)) = entries.iter().find(|(key, _)| key.name == TYPE) else {
        return Err(Faults::new(node.mark, format!("{TYPE} is missing: it names the message type")));
    };
    let refuse = |reason: String| Faults::new(url_node.mark, reason).at(|| Step::Field(TYPE.to_owned()));
    let text::Value::String(url) = &url_node.value else {
        return Err(refuse(format!("expected a type URL, found {}", url_node.value.describe())));
    };
    if url.rsplit_once('/').is_none_or(|(authority, _)| authority.is_empty()) {
        return Err(refuse(format!("{url:?} is not a type URL, such as \"type.googleapis.com/{}\"", type_name(url))));
    }
    let name = type_name(url);
    let Some(inner) = POOL.get_message_by_name(name) else {
        // The decoder of the field refuses it, or knows that it has no effect.
        return if is_known(name) {
            Ok((url.clone(), Vec::new()))
        } else {
            Err(refuse(format!("unknown message type {url:?}")))
        };
    };
    if let Some((wrapped, value)) = unwrapped(name, entries) {
        return Ok((wrapped, value?.encode_to_vec()));
    }
    let payload = if scalar::is_well_known(&inner) || inner.full_name() == ANY {
        any_value(&inner, entries, node)?
    } else {
        fields(&inner, entries, Some(TYPE))?
    };
    Ok((url.clone(), payload.encode_to_vec()))
}

/// The type URL and the message in a `TypedStruct`, if it is a generated one. Others stay wrapped.
fn unwrapped(wrapper: &str, entries: &[(Key, Node)]) -> Option<(String, Result<DynamicMessage>)> {
    if !TYPED_STRUCTS.contains(&wrapper) {
        return None;
    }
    let entry = |names: &[&str]| entries.iter().find(|(key, _)| names.contains(&&*key.name));
    let (_, Node { value: text::Value::String(url), .. }) = entry(&["type_url", "typeUrl"])? else { return None };
    let inner = POOL.get_message_by_name(type_name(url))?;
    let read = match entry(&["value"]) {
        None => Ok(DynamicMessage::new(inner)),
        Some((key, node)) => message(&inner, node).map_err(|faults| faults.at(|| Step::Field(key.name.clone()))),
    };
    Some((url.clone(), read))
}

fn any_value(inner: &MessageDescriptor, entries: &[(Key, Node)], node: &Node) -> Result<DynamicMessage> {
    if let Some((key, _)) = entries.iter().find(|(key, _)| key.name != TYPE && key.name != "value") {
        return Err(Faults::new(key.mark, format!("unknown field: a {} stands in `value`", inner.full_name()))
            .at(|| Step::Field(key.name.clone())));
    }
    let Some((key, value)) = entries.iter().find(|(key, _)| key.name == "value") else {
        return Err(Faults::new(node.mark, format!("`value` is missing: it holds the {}", inner.full_name())));
    };
    message(inner, value).map_err(|faults| faults.at(|| Step::Field(key.name.clone())))
}
