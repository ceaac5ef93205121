//! Access log lines as JSON objects.

use super::{Missing, Value};
use crate::{
    model::{JsonField, json_string},
    telemetry::Attributes,
};

/// Appends one line to `out`: an object of `fields` in their order, and a line end.
///
/// A field that is a single command keeps its type: numbers stay numbers, and a missing value is null. Any other field is
/// a string, in which a missing value is `-`.
pub fn write_json(fields: &[(Box<str>, JsonField)], attributes: &Attributes<'_>, out: &mut Vec<u8>) {
    object(fields, attributes, out);
    out.push(b'\n');
}

fn object(fields: &[(Box<str>, JsonField)], attributes: &Attributes<'_>, out: &mut Vec<u8>) {
    out.push(b'{');
    for (position, (key, value)) in fields.iter().enumerate() {
        out.extend_from_slice(if position == 0 { b"" } else { b"," });
        json_string(key.as_bytes(), out);
        out.push(b':');
        field(value, attributes, out);
    }
    out.push(b'}');
}

fn field(value: &JsonField, attributes: &Attributes<'_>, out: &mut Vec<u8>) {
    match value {
        JsonField::Object(fields) => object(fields, attributes, out),
        JsonField::List(items) => {
            out.push(b'[');
            for (position, item) in items.iter().enumerate() {
                out.extend_from_slice(if position == 0 { b"" } else { b"," });
                field(item, attributes, out);
            }
            out.push(b']');
        }
        JsonField::Format(format) => match format.typed_value(attributes) {
            Some(Value::Missing) => out.extend_from_slice(b"null"),
            Some(number @ Value::Number(_)) => number.write(Missing::Dash, out),
            Some(Value::Text(text)) => json_string(text.as_bytes(), out),
            Some(Value::Bytes(bytes)) => json_string(bytes, out),
            Some(Value::Metadata(value)) => value.write_json(out),
            _ => {
                let mut text = Vec::new();
                format.write(attributes, Missing::Dash, &mut text);
                json_string(&text, out);
            }
        },
    }
}
