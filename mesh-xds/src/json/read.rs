//! Conversion of a parsed text to a message: fields, nested messages, lists, maps and `Any`.

use std::collections::HashMap;

use prost::Message as _;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};

use super::error::{Fault, Result, Step};
use super::scalar;
use super::text::{self, Key, Node};
use crate::descriptor::{POOL, type_name};

const ANY: &str = "google.protobuf.Any";
const TYPE: &str = "@type";

/// Reads `node` as a message of type `descriptor`.
pub(super) fn message(descriptor: &MessageDescriptor, node: &Node) -> Result<DynamicMessage> {
    if descriptor.full_name() == ANY {
        return any(descriptor, node);
    }
    if let Some(message) = scalar::well_known(descriptor, node)? {
        return Ok(message);
    }
    fields(descriptor, object(node, descriptor.name())?, None)
}

fn object<'a>(node: &'a Node, what: &str) -> Result<&'a [(Key, Node)]> {
    match &node.value {
        text::Value::Object(entries) => Ok(entries),
        other => Err(Fault::new(node.mark, format!("expected an object ({what}), found {}", other.describe()))),
    }
}

fn fields(descriptor: &MessageDescriptor, entries: &[(Key, Node)], skip: Option<&str>) -> Result<DynamicMessage> {
    let mut message = DynamicMessage::new(descriptor.clone());
    for (key, node) in entries.iter().filter(|(key, _)| Some(key.name.as_str()) != skip) {
        let step = || Step::Field(key.name.clone());
        let field = find_field(descriptor, key).map_err(|fault| fault.at(step()))?;
        if is_absent(&field, node) {
            continue;
        }
        refuse_second(&message, &field, key).map_err(|fault| fault.at(step()))?;
        let value = field_value(&field, node).map_err(|fault| fault.at(step()))?;
        message.set_field(&field, value);
    }
    Ok(message)
}

fn find_field(descriptor: &MessageDescriptor, key: &Key) -> Result<FieldDescriptor> {
    let by_name = descriptor.get_field_by_name(&key.name);
    if let Some(field) = by_name.or_else(|| descriptor.get_field_by_json_name(&key.name)) {
        return Ok(field);
    }
    let known: Vec<FieldDescriptor> = descriptor.fields().collect();
    let hint = scalar::nearest(&key.name, known.iter().map(FieldDescriptor::name));
    Err(Fault::new(key.mark, format!("unknown field of {}{hint}", descriptor.full_name())))
}

/// Whether the field is left unset: null means unset, except for fields of type `google.protobuf.Value`.
fn is_absent(field: &FieldDescriptor, node: &Node) -> bool {
    let takes_null = matches!(field.kind(), Kind::Message(kind) if kind.full_name() == "google.protobuf.Value");
    matches!(node.value, text::Value::Null) && !takes_null
}

/// Refuses a field that is given twice, and a second field of a oneof.
fn refuse_second(message: &DynamicMessage, field: &FieldDescriptor, key: &Key) -> Result<()> {
    if message.has_field(field) {
        return Err(Fault::new(key.mark, "field is given twice, once in snake_case and once in lowerCamelCase"));
    }
    let rival = field.containing_oneof().and_then(|oneof| oneof.fields().find(|other| message.has_field(other)));
    match rival {
        Some(rival) => Err(Fault::new(key.mark, format!("cannot be given together with {}", rival.name()))),
        None => Ok(()),
    }
}

pub(super) fn field_value(field: &FieldDescriptor, node: &Node) -> Result<Value> {
    if field.is_map() {
        return map(field, node);
    }
    if !field.is_list() {
        return single(&field.kind(), node);
    }
    let text::Value::List(nodes) = &node.value else {
        return Err(Fault::new(node.mark, format!("expected a list, found {}", node.value.describe())));
    };
    let kind = field.kind();
    let values = nodes
        .iter()
        .enumerate()
        .map(|(index, node)| single(&kind, node).map_err(|fault| fault.at(Step::Index(index))))
        .collect::<Result<_>>()?;
    Ok(Value::List(values))
}

fn map(field: &FieldDescriptor, node: &Node) -> Result<Value> {
    let kind = field.kind();
    let entry = kind.as_message().expect("a map field has an entry message");
    let (key_kind, value_kind) = (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
    let mut values = HashMap::new();
    for (key, node) in object(node, "map")? {
        let map_key = scalar::map_key(&key_kind, key).map_err(|fault| fault.at(Step::Key(key.name.clone())))?;
        let value = single(&value_kind, node).map_err(|fault| fault.at(Step::Key(key.name.clone())))?;
        values.insert(map_key, value);
    }
    Ok(Value::Map(values))
}

fn single(kind: &Kind, node: &Node) -> Result<Value> {
    match kind {
        Kind::Message(descriptor) => message(descriptor, node).map(Value::Message),
        kind => scalar::value(kind, node),
    }
}

/// Reads `{"@type": url, field: value, …}`, or `{"@type": url, "value": …}` for a well-known type. `{}` is an empty `Any`.
fn any(descriptor: &MessageDescriptor, node: &Node) -> Result<DynamicMessage> {
    let entries = object(node, ANY)?;
    if entries.is_empty() {
        return Ok(DynamicMessage::new(descriptor.clone()));
    }
    let Some((_, url_node)) = entries.iter().find(|(key, _)| key.name == TYPE) else {
        return Err(Fault::new(node.mark, format!("{TYPE} is missing: it names the message type")));
    };
    let in_type = |fault: Box<Fault>| fault.at(Step::Field(TYPE.to_owned()));
    let text::Value::String(url) = &url_node.value else {
        let reason = format!("expected a type URL, found {}", url_node.value.describe());
        return Err(in_type(Fault::new(url_node.mark, reason)));
    };
    let inner = POOL
        .get_message_by_name(type_name(url))
        .ok_or_else(|| in_type(Fault::new(url_node.mark, format!("unknown message type {url:?}"))))?;
    let payload = if scalar::is_well_known(&inner) || inner.full_name() == ANY {
        any_value(&inner, entries, node)?
    } else {
        fields(&inner, entries, Some(TYPE))?
    };

    let mut message = DynamicMessage::new(descriptor.clone());
    message.set_field_by_name("type_url", Value::String(url.clone()));
    message.set_field_by_name("value", Value::Bytes(payload.encode_to_vec().into()));
    Ok(message)
}

fn any_value(inner: &MessageDescriptor, entries: &[(Key, Node)], node: &Node) -> Result<DynamicMessage> {
    if let Some((key, _)) = entries.iter().find(|(key, _)| key.name != TYPE && key.name != "value") {
        return Err(Fault::new(key.mark, format!("unknown field: a {} stands in `value`", inner.full_name()))
            .at(Step::Field(key.name.clone())));
    }
    let Some((key, value)) = entries.iter().find(|(key, _)| key.name == "value") else {
        return Err(Fault::new(node.mark, format!("`value` is missing: it holds the {}", inner.full_name())));
    };
    message(inner, value).map_err(|fault| fault.at(Step::Field(key.name.clone())))
}
