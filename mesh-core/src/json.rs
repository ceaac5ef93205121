//! Reading of JSON from strangers: bounded depth, and no key twice.
//!
//! Two readers that see different values of a repeated key see different tokens, so such an object is refused. Escapes are
//! decoded before keys are compared.

use std::{collections::BTreeMap, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::value::MetadataValue;

/// Maximum number of nested objects and lists.
pub(crate) const MAX_DEPTH: u8 = 32;

/// Reads an object. `None` if the text is anything else.
pub(crate) fn object(json: &[u8]) -> Option<MetadataValue> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let value = Value { depth: MAX_DEPTH }.deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    matches!(value, MetadataValue::Object(_)).then_some(value)
}

/// The text of a string.
pub(crate) fn string(value: &MetadataValue) -> Option<&str> {
    match value {
        MetadataValue::String(text) => Some(text),
        _ => None,
    }
}

/// The field `name` of an object.
pub(crate) fn field<'v>(object: &'v MetadataValue, name: &str) -> Option<&'v MetadataValue> {
    match object {
        MetadataValue::Object(fields) => fields.get(name),
        _ => None,
    }
}

/// A value in which `depth` more levels may be nested.
#[derive(Clone, Copy)]
struct Value {
    depth: u8,
}

impl Value {
    fn nested<E: serde::de::Error>(self) -> Result<Self, E> {
        self.depth.checked_sub(1).map(|depth| Self { depth }).ok_or_else(|| E::custom("nested too deeply"))
    }
}

impl<'de> DeserializeSeed<'de> for Value {
    type Value = MetadataValue;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<MetadataValue, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value {
    type Value = MetadataValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<MetadataValue, E> {
        Ok(MetadataValue::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<MetadataValue, E> {
        Ok(MetadataValue::Bool(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<MetadataValue, E> {
        Ok(MetadataValue::Number(value))
    }

    #[expect(clippy::cast_precision_loss, reason = "numbers of metadata are doubles, as in Envoy")]
    fn visit_u64<E>(self, value: u64) -> Result<MetadataValue, E> {
        Ok(MetadataValue::Number(value as f64))
    }

    #[expect(clippy::cast_precision_loss, reason = "numbers of metadata are doubles, as in Envoy")]
    fn visit_i64<E>(self, value: i64) -> Result<MetadataValue, E> {
        Ok(MetadataValue::Number(value as f64))
    }

    fn visit_str<E>(self, value: &str) -> Result<MetadataValue, E> {
        Ok(MetadataValue::String(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<MetadataValue, A::Error> {
        let nested = self.nested()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(nested)? {
            list.push(item);
        }
        Ok(MetadataValue::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<MetadataValue, A::Error> {
        let nested = self.nested()?;
        let mut fields = BTreeMap::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(nested)?;
            if fields.insert(key.into_boxed_str(), value).is_some() {
                return Err(A::Error::custom("a key occurs twice"));
            }
        }
        Ok(MetadataValue::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_occurs_twice_is_refused_in_any_spelling() {
        for json in [r#"{"a":1,"a":1}"#, r#"{"a":1,"\u0061":2}"#, r#"{"b":{"c":[],"c":[]}}"#, r#"[{"a":1}]"#, "{}x", ""]
        {
            assert_eq!(object(json.as_bytes()), None, "{json}");
        }
        let read = object(br#"{"a":{"a":"\u0061"},"n":1.5,"l":[null,true]}"#).unwrap();
        assert_eq!(field(field(&read, "a").unwrap(), "a").and_then(string), Some("a"));
        let list = vec![MetadataValue::Null, MetadataValue::Bool(true)];
        assert_eq!(field(&read, "l"), Some(&MetadataValue::List(list)));
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |levels: usize| format!(r#"{{"a":{}1{}}}"#, "[".repeat(levels), "]".repeat(levels));
        assert!(object(nested(31).as_bytes()).is_some());
        assert!(object(nested(32).as_bytes()).is_none());
        assert!(object(nested(100_000).as_bytes()).is_none());
    }

    #[test]
    fn text_that_is_not_unicode_is_refused() {
        assert!(object(b"{\"a\":\"\xff\"}").is_none());
        assert!(object(br#"{"a":"\ud800"}"#).is_none());
        assert!(object(b"{\"a\":\"line\nbreak\"}").is_none());
    }
}
