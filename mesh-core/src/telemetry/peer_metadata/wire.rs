//! Wire format of `google.protobuf.Struct`, for strings and objects of strings.
//!
//! ```text
//! Struct { map<string, Value> fields = 1 }        a map entry is a message { key = 1, value = 2 }
//! Value  { oneof { .. string string_value = 3; .. Struct struct_value = 5; .. } }
//! ```

/// Field numbers of the messages above.
const FIELDS: u64 = 1;
const KEY: u64 = 1;
const VALUE: u64 = 2;
const STRING_VALUE: u64 = 3;
const STRUCT_VALUE: u64 = 5;

/// Wire types.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH_DELIMITED: u64 = 2;
const FIXED32: u64 = 5;

/// The bytes are not a message, or end too early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// A value of a `Struct`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    String(&'a str),
    /// The fields of a `Struct`, to be read by [`entries`].
    Object(&'a [u8]),
    Other,
}

/// Writes a `Struct`. The caller adds the keys in sorted order.
#[derive(Debug, Default)]
pub(super) struct StructWriter(Vec<u8>);

impl StructWriter {
    /// Writes nothing if `text` is empty.
    pub(super) fn string(&mut self, key: &str, text: &str) {
        if !text.is_empty() {
            self.entry(key, STRING_VALUE, text.as_bytes());
        }
    }

    pub(super) fn object(&mut self, key: &str, object: &Self) {
        self.entry(key, STRUCT_VALUE, &object.0);
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn entry(&mut self, key: &str, kind: u64, content: &[u8]) {
        let (mut value, mut entry) = (Vec::new(), Vec::new());
        length_delimited(&mut value, kind, content);
        length_delimited(&mut entry, KEY, key.as_bytes());
        length_delimited(&mut entry, VALUE, &value);
        length_delimited(&mut self.0, FIELDS, &entry);
    }
}

fn length_delimited(out: &mut Vec<u8>, field: u64, content: &[u8]) {
    varint(out, field << 3 | LENGTH_DELIMITED);
    varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = value.to_le_bytes()[0] & 0x7F;
        value >>= 7;
        if value == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

/// The fields of a `Struct` by name. The iterator ends after an error.
pub(super) fn entries(fields: &[u8]) -> impl Iterator<Item = Result<(&str, Value<'_>), Malformed>> {
    let mut reader = Reader(fields);
    std::iter::from_fn(move || {
        loop {
            match reader.field() {
                None => return None,
                Some(Ok((FIELDS, Some(entry)))) => return Some(read_entry(entry).inspect_err(|_| reader.0 = &[])),
                Some(Ok(_)) => {}
                Some(Err(malformed)) => {
                    reader.0 = &[];
                    return Some(Err(malformed));
                }
            }
        }
    })
}

fn read_entry(entry: &[u8]) -> Result<(&str, Value<'_>), Malformed> {
    let (mut key, mut value) = ("", Value::Other);
    let mut reader = Reader(entry);
    while let Some(field) = reader.field() {
        match field? {
            (KEY, Some(text)) => key = utf8(text)?,
            (VALUE, Some(message)) => value = read_value(message)?,
            _ => {}
        }
    }
    Ok((key, value))
}

fn read_value(message: &[u8]) -> Result<Value<'_>, Malformed> {
    let mut value = Value::Other;
    let mut reader = Reader(message);
    while let Some(field) = reader.field() {
        value = match field? {
            (STRING_VALUE, Some(text)) => Value::String(utf8(text)?),
            (STRUCT_VALUE, Some(object)) => Value::Object(object),
            _ => Value::Other,
        };
    }
    Ok(value)
}

fn utf8(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed)
}

/// Number of a field, and its content if it is length-delimited.
type Field<'a> = (u64, Option<&'a [u8]>);

/// Reads the fields of a message.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The next field; `None` at the end of the message.
    fn field(&mut self) -> Option<Result<Field<'a>, Malformed>> {
        (!self.0.is_empty()).then(|| self.read_field())
    }

    fn read_field(&mut self) -> Result<Field<'a>, Malformed> {
        let tag = self.varint()?;
        let content = match tag & 7 {
            VARINT => self.varint().map(|_| None)?,
            FIXED64 => self.take(8).map(|_| None)?,
            FIXED32 => self.take(4).map(|_| None)?,
            LENGTH_DELIMITED => {
                let length = self.varint()?;
                Some(self.take(usize::try_from(length).map_err(|_| Malformed)?)?)
            }
            _ => return Err(Malformed),
        };
        let number = tag >> 3;
        if number == 0 { Err(Malformed) } else { Ok((number, content)) }
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }
}
