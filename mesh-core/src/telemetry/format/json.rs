//! Access log lines as JSON objects.

use std::io::Write as _;

use super::{Missing, Value};
use crate::{model::JsonField, telemetry::Attributes};

/// Appends one line to `out`: an object of `fields`, keys in their order, and a line end.
///
/// A field that is one command keeps its type: numbers stay numbers, what is missing is null. Any other is text, in
/// which a missing fact is `-`.
pub fn write_json(fields: &[(Box<str>, JsonField)], attributes: &Attributes<'_>, out: &mut Vec<u8>) {
    object(fields, attributes, out);
    out.push(b'\n');
}

fn object(fields: &[(Box<str>, JsonField)], attributes: &Attributes<'_>, out: &mut Vec<u8>) {
    out.push(b'{');
    for (position, (key, value)) in fields.iter().enumerate() {
        out.extend_from_slice(if position == 0 { b"" } else { b"," });
        string(key.as_bytes(), out);
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
            Some(Value::Text(text)) => string(text.as_bytes(), out),
            Some(Value::Bytes(bytes)) => string(bytes, out),
            _ => {
                let mut text = Vec::new();
                format.write(attributes, Missing::Dash, &mut text);
                string(&text, out);
            }
        },
    }
}

/// A JSON string; what is not UTF-8 becomes U+FFFD.
fn string(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\t' => out.extend_from_slice(b"\\t"),
                control if u32::from(control) < 0x20 => {
                    write!(out, "\\u{:04x}", u32::from(control)).expect("writing to memory does not fail");
                }
                c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    out.push(b'"');
}
