//! `google.protobuf.Struct` and the values of metadata.

use mesh_core::model::MetadataValue;
use prost_types::{ListValue, Struct, Value, value::Kind};

/// The object that a struct is.
pub(crate) fn object(values: &Struct) -> MetadataValue {
    MetadataValue::Object(values.fields.iter().map(|(key, field)| (key.as_str().into(), value(field))).collect())
}

fn value(proto: &Value) -> MetadataValue {
    match &proto.kind {
        None | Some(Kind::NullValue(_)) => MetadataValue::Null,
        Some(Kind::BoolValue(truth)) => MetadataValue::Bool(*truth),
        Some(Kind::NumberValue(number)) => MetadataValue::Number(*number),
        Some(Kind::StringValue(text)) => MetadataValue::String(text.as_str().into()),
        Some(Kind::ListValue(list)) => MetadataValue::List(list.values.iter().map(value).collect()),
        Some(Kind::StructValue(fields)) => object(fields),
    }
}

/// The struct of an object; empty if the value is no object.
pub(crate) fn to_struct(value: &MetadataValue) -> Struct {
    let MetadataValue::Object(fields) = value else { return Struct::default() };
    Struct { fields: fields.iter().map(|(key, value)| (key.to_string(), to_value(value))).collect() }
}

fn to_value(value: &MetadataValue) -> Value {
    let kind = match value {
        MetadataValue::Null => Kind::NullValue(0),
        MetadataValue::Bool(truth) => Kind::BoolValue(*truth),
        MetadataValue::Number(number) => Kind::NumberValue(*number),
        MetadataValue::String(text) => Kind::StringValue(text.to_string()),
        MetadataValue::List(items) => Kind::ListValue(ListValue { values: items.iter().map(to_value).collect() }),
        MetadataValue::Object(_) => Kind::StructValue(to_struct(value)),
    };
    Value { kind: Some(kind) }
}
