//! Writing of messages as protobuf-JSON.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost_reflect::{DynamicMessage, Kind, MapKey, ReflectMessage as _, Value};
use serde::ser::{Serialize, SerializeMap as _, SerializeSeq as _, Serializer};

use super::scalar;
use crate::descriptor::{POOL, type_name};

/// A message that is serialized as protobuf-JSON. `Display` writes it indented.
#[derive(Clone, Debug)]
pub struct Json {
    message: DynamicMessage,
}

impl Json {
    pub(super) fn new(message: DynamicMessage) -> Self {
        Self { message }
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Message(&self.message).serialize(serializer)
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = serde_json::to_string_pretty(self).map_err(|_| fmt::Error)?;
        f.write_str(&text)
    }
}

struct Message<'a>(&'a DynamicMessage);

impl Serialize for Message<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let descriptor = self.0.descriptor();
        if descriptor.full_name() == "google.protobuf.Any" {
            return serialize_any(self.0, serializer);
        }
        if scalar::is_well_known(&descriptor) && descriptor.name() != "Empty" {
            return serialize_well_known(self.0, serializer);
        }
        let mut object = serializer.serialize_map(None)?;
        serialize_fields(self.0, &mut object)?;
        object.end()
    }
}

fn serialize_fields<M: serde::ser::SerializeMap>(message: &DynamicMessage, object: &mut M) -> Result<(), M::Error> {
    for (field, value) in message.fields() {
        let kind = field.kind();
        // The kind of a map field is its entry message. Written are the values of the entries.
        let kind = match kind.as_message() {
            Some(entry) if field.is_map() => entry.map_entry_value_field().kind(),
            _ => kind,
        };
        object.serialize_entry(field.name(), &Field { value, kind: &kind })?;
    }
    Ok(())
}

/// A field's value, with the kind of its elements.
struct Field<'a> {
    value: &'a Value,
    kind: &'a Kind,
}

impl Serialize for Field<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let of_kind = |value| Field { value, kind: self.kind };
        match self.value {
            Value::Bool(truth) => serializer.serialize_bool(*truth),
            Value::I32(number) => serializer.serialize_i32(*number),
            Value::U32(number) => serializer.serialize_u32(*number),
            // Protobuf-JSON writes 64-bit integers as strings, because many parsers read numbers as doubles.
            Value::I64(number) => serializer.collect_str(number),
            Value::U64(number) => serializer.collect_str(number),
            Value::F32(number) => serialize_float(f64::from(*number), serializer, |s| s.serialize_f32(*number)),
            Value::F64(number) => serialize_float(*number, serializer, |s| s.serialize_f64(*number)),
            Value::String(text) => serializer.serialize_str(text),
            Value::Bytes(bytes) => serializer.serialize_str(&STANDARD.encode(bytes)),
            Value::EnumNumber(number) => match self.kind.as_enum().and_then(|kind| kind.get_value(*number)) {
                Some(value) => serializer.serialize_str(value.name()),
                None => serializer.serialize_i32(*number),
            },
            Value::Message(message) => Message(message).serialize(serializer),
            Value::List(values) => {
                let mut list = serializer.serialize_seq(Some(values.len()))?;
                values.iter().try_for_each(|value| list.serialize_element(&of_kind(value)))?;
                list.end()
            }
            Value::Map(values) => {
                let mut sorted: Vec<(String, &Value)> =
                    values.iter().map(|(key, value)| (key_text(key), value)).collect();
                sorted.sort_by(|(a, _), (b, _)| a.cmp(b));
                let mut object = serializer.serialize_map(Some(sorted.len()))?;
                sorted.iter().try_for_each(|(key, value)| object.serialize_entry(key, &of_kind(value)))?;
                object.end()
            }
        }
    }
}

fn serialize_float<S: Serializer>(
    number: f64,
    serializer: S,
    finite: impl FnOnce(S) -> Result<S::Ok, S::Error>,
) -> Result<S::Ok, S::Error> {
    if number.is_finite() {
        finite(serializer)
    } else if number.is_nan() {
        serializer.serialize_str("NaN")
    } else {
        serializer.serialize_str(if number > 0.0 { "Infinity" } else { "-Infinity" })
    }
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(truth) => truth.to_string(),
        MapKey::I32(number) => number.to_string(),
        MapKey::I64(number) => number.to_string(),
        MapKey::U32(number) => number.to_string(),
        MapKey::U64(number) => number.to_string(),
        MapKey::String(text) => text.clone(),
    }
}

/// Writes the message in an `Any`, or its bytes as base64 if the type is unknown or the bytes are malformed.
fn serialize_any<S: Serializer>(any: &DynamicMessage, serializer: S) -> Result<S::Ok, S::Error> {
    let text = |name| any.get_field_by_name(name).expect("an Any has a type_url and a value");
    let (url, value) = (text("type_url"), text("value"));
    let url = url.as_str().unwrap_or_default();
    let bytes = value.as_bytes().cloned().unwrap_or_default();
    if url.is_empty() && bytes.is_empty() {
        return serializer.serialize_map(Some(0))?.end();
    }
    let payload = POOL
        .get_message_by_name(type_name(url))
        .and_then(|descriptor| DynamicMessage::decode(descriptor, bytes.clone()).ok());

    let mut object = serializer.serialize_map(None)?;
    object.serialize_entry("@type", url)?;
    match payload {
        Some(payload) if scalar::is_well_known(&payload.descriptor()) => {
            object.serialize_entry("value", &Message(&payload))?;
        }
        Some(payload) => serialize_fields(&payload, &mut object)?,
        None => object.serialize_entry("value", &STANDARD.encode(bytes))?,
    }
    object.end()
}

fn serialize_well_known<S: Serializer>(message: &DynamicMessage, serializer: S) -> Result<S::Ok, S::Error> {
    let descriptor = message.descriptor();
    match descriptor.name() {
        "Duration" => serializer.serialize_str(&duration_text(seconds_and_nanos(message))),
        "Timestamp" => {
            let (seconds, nanos) = seconds_and_nanos(message);
            serializer.collect_str(&prost_types::Timestamp { seconds, nanos })
        }
        "Value" => match message.fields().next() {
            Some((_, Value::EnumNumber(_))) | None => serializer.serialize_unit(),
            Some((field, value)) => Field { value, kind: &field.kind() }.serialize(serializer),
        },
        // Wrappers, Struct and ListValue are written as their only field.
        _ => {
            let field = descriptor.fields().next().expect("these messages have one field");
            let kind = match field.kind() {
                Kind::Message(entry) if field.is_map() => entry.map_entry_value_field().kind(),
                kind => kind,
            };
            Field { value: &message.get_field(&field), kind: &kind }.serialize(serializer)
        }
    }
}

fn seconds_and_nanos(message: &DynamicMessage) -> (i64, i32) {
    let number = |name| message.get_field_by_name(name).expect("this type has seconds and nanos");
    (number("seconds").as_i64().unwrap_or_default(), number("nanos").as_i32().unwrap_or_default())
}

/// Writes seconds with zero, three, six or nine fractional digits, as protobuf does.
fn duration_text((seconds, nanos): (i64, i32)) -> String {
    let sign = if seconds < 0 || nanos < 0 { "-" } else { "" };
    let (seconds, nanos) = (seconds.unsigned_abs(), nanos.unsigned_abs());
    match nanos {
        0 => format!("{sign}{seconds}s"),
        nanos if nanos % 1_000_000 == 0 => format!("{sign}{seconds}.{:03}s", nanos / 1_000_000),
        nanos if nanos % 1_000 == 0 => format!("{sign}{seconds}.{:06}s", nanos / 1_000),
        nanos => format!("{sign}{seconds}.{nanos:09}s"),
    }
}
