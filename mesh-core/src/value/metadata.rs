//! Opaque values that configuration attaches to resources. Envoy `core.v3.Metadata`.

use std::{collections::BTreeMap, io::Write as _};

/// Metadata of a resource. Only `filter_metadata` is kept, not `typed_filter_metadata`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// Values by namespace, which is the name of a filter (`envoy.lb`) or program (`istio`).
    pub filter_metadata: BTreeMap<Box<str>, MetadataValue>,
}

/// A metadata value: any JSON value.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum MetadataValue {
    /// Null.
    #[default]
    Null,
    /// A boolean.
    Bool(bool),
    /// A number.
    Number(f64),
    /// A string.
    String(Box<str>),
    /// A list.
    List(Vec<Self>),
    /// An object.
    Object(BTreeMap<Box<str>, Self>),
}

impl Metadata {
    /// The value at `path` within `namespace`; the whole namespace if the path is empty.
    #[must_use]
    pub fn get(&self, namespace: &str, path: &[Box<str>]) -> Option<&MetadataValue> {
        path.iter().try_fold(self.filter_metadata.get(namespace)?, |value, key| match value {
            MetadataValue::Object(fields) => fields.get(key),
            _ => None,
        })
    }

    /// Adds fields to the object of a namespace; they replace those of the same names.
    pub fn merge(&mut self, namespace: &str, fields: BTreeMap<Box<str>, MetadataValue>) {
        match self.filter_metadata.get_mut(namespace) {
            Some(MetadataValue::Object(known)) => known.extend(fields),
            _ => drop(self.filter_metadata.insert(namespace.into(), MetadataValue::Object(fields))),
        }
    }
}

impl MetadataValue {
    /// Appends the value to `out` as JSON.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Bool(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
            Self::Number(number) if number.is_finite() => number_json(*number, out),
            Self::Number(_) => out.extend_from_slice(b"null"),
            Self::String(text) => json_string(text.as_bytes(), out),
            Self::List(items) => {
                out.push(b'[');
                for (position, item) in items.iter().enumerate() {
                    out.extend_from_slice(if position == 0 { b"" } else { b"," });
                    item.write_json(out);
                }
                out.push(b']');
            }
            Self::Object(fields) => {
                out.push(b'{');
                for (position, (key, value)) in fields.iter().enumerate() {
                    out.extend_from_slice(if position == 0 { b"" } else { b"," });
                    json_string(key.as_bytes(), out);
                    out.push(b':');
                    value.write_json(out);
                }
                out.push(b'}');
            }
        }
    }
}

fn number_json(number: f64, out: &mut Vec<u8>) {
    write!(out, "{number}").expect("writing to memory does not fail");
}

/// Appends `bytes` to `out` as a JSON string. Bytes that are not UTF-8 become U+FFFD.
pub(crate) fn json_string(bytes: &[u8], out: &mut Vec<u8>) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_path_and_written_as_json() {
        let fields = |pairs: Vec<(&str, MetadataValue)>| {
            MetadataValue::Object(pairs.into_iter().map(|(key, value)| (key.into(), value)).collect())
        };
        let inner = fields(vec![
            ("a\"b", MetadataValue::Bool(true)),
            ("n", MetadataValue::Number(1.0)),
            ("l", MetadataValue::List(vec![MetadataValue::Null, MetadataValue::String("x\n".into())])),
        ]);
        let metadata = Metadata { filter_metadata: [("ns".into(), fields(vec![("k", inner)]))].into() };
        let mut json = Vec::new();
        metadata.get("ns", &["k".into()]).unwrap().write_json(&mut json);
        assert_eq!(String::from_utf8(json).unwrap(), r#"{"a\"b":true,"l":[null,"x\n"],"n":1}"#);
        assert_eq!(metadata.get("ns", &["k".into(), "n".into()]), Some(&MetadataValue::Number(1.0)));
        assert_eq!(metadata.get("ns", &["k".into(), "n".into(), "deeper".into()]), None);
        assert_eq!(metadata.get("other", &[]), None);
    }
}
