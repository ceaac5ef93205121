//! Scalars, enums, and well-known types that JSON writes as a scalar, a list or an object of their own.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use prost_reflect::{DynamicMessage, EnumDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage as _, Value};
use prost_types::{Duration, Timestamp};

use super::error::{Faults, Result};
use super::read;
use super::text::{self, Key, Node};

/// Whether the message has a JSON form other than an object of its fields.
pub(super) fn is_well_known(descriptor: &MessageDescriptor) -> bool {
    const NAMES: &[&str] = &[
        "BoolValue",
        "BytesValue",
        "DoubleValue",
        "Duration",
        "Empty",
        "FloatValue",
        "Int32Value",
        "Int64Value",
        "ListValue",
        "StringValue",
        "Struct",
        "Timestamp",
        "UInt32Value",
        "UInt64Value",
        "Value",
    ];
    descriptor.package_name() == "google.protobuf" && NAMES.contains(&descriptor.name())
}

/// Reads a message of a well-known type. `None` if `descriptor` is another type, or one that is read as an object of its
/// fields.
pub(super) fn well_known(descriptor: &MessageDescriptor, node: &Node) -> Result<Option<DynamicMessage>> {
    if descriptor.package_name() != "google.protobuf" {
        return Ok(None);
    }
    let name = descriptor.name();
    let is_wrapper = name.ends_with("Value") && !matches!(name, "Value" | "ListValue");
    let mut message = DynamicMessage::new(descriptor.clone());
    match &node.value {
        text::Value::Null if name != "Value" => return Ok(Some(message)),
        text::Value::Object(entries) if is_wrapper || matches!(name, "Duration" | "Timestamp") => {
            return read::fields(descriptor, entries, None).map(Some);
        }
        _ => {}
    }
    match name {
        "Duration" => {
            let parsed: Duration = parse_string(node, "a duration such as \"1.5s\"", parse_duration)?;
            message.set_field_by_name("seconds", Value::I64(parsed.seconds));
            message.set_field_by_name("nanos", Value::I32(parsed.nanos));
        }
        "Timestamp" => {
            let expected = "a time such as \"2026-01-31T12:00:00Z\"";
            let parsed: Timestamp = parse_string(node, expected, |text| text.parse().ok())?;
            message.set_field_by_name("seconds", Value::I64(parsed.seconds));
            message.set_field_by_name("nanos", Value::I32(parsed.nanos));
        }
        _ if is_wrapper => {
            let field = descriptor.get_field_by_name("value").expect("a wrapper has this one field");
            message.set_field(&field, value(&field.kind(), node)?);
        }
        "Struct" => set_struct(&mut message, node)?,
        "ListValue" => set_list(&mut message, node)?,
        "Value" => set_value(&mut message, node)?,
        _ => return Ok(None),
    }
    Ok(Some(message))
}

/// Reads a value.
pub(super) fn value(kind: &Kind, node: &Node) -> Result<Value> {
    match kind {
        Kind::Bool => match &node.value {
            text::Value::Bool(truth) => Ok(Value::Bool(*truth)),
            text::Value::Null => Ok(Value::Bool(false)),
            text::Value::String(text) => {
                bool_word(text).map(Value::Bool).ok_or_else(|| expected(node, "true or false"))
            }
            _ => Err(expected(node, "true or false")),
        },
        Kind::String => match &node.value {
            text::Value::String(text) => Ok(Value::String(text.clone())),
            text::Value::Null => Ok(Value::String(String::new())),
            text::Value::Bool(_) | text::Value::Number(_) => Err(expected(node, "a string (put quotes around it)")),
            _ => Err(expected(node, "a string")),
        },
        Kind::Bytes => parse_string(node, "base64", decode_base64).map(Value::Bytes),
        Kind::Double => float(node).map(Value::F64),
        #[expect(clippy::cast_possible_truncation, reason = "a float field holds the nearest float, as in protobuf")]
        Kind::Float => float(node).map(|number| Value::F32(number as f32)),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => integer(node, i32::MIN, i32::MAX).map(Value::I32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => integer(node, i64::MIN, i64::MAX).map(Value::I64),
        Kind::Uint32 | Kind::Fixed32 => integer(node, u32::MIN, u32::MAX).map(Value::U32),
        Kind::Uint64 | Kind::Fixed64 => integer(node, u64::MIN, u64::MAX).map(Value::U64),
        Kind::Enum(descriptor) => enum_number(descriptor, node).map(Value::EnumNumber),
        Kind::Message(descriptor) => read::message(descriptor, node).map(Value::Message),
    }
}

/// Reads a map key, which is always a string in JSON.
pub(super) fn map_key(kind: &Kind, key: &Key) -> Result<MapKey> {
    let node = Node { mark: key.mark, value: text::Value::String(key.name.clone()) };
    match kind {
        Kind::String => Ok(MapKey::String(key.name.clone())),
        Kind::Bool => match key.name.as_str() {
            "true" => Ok(MapKey::Bool(true)),
            "false" => Ok(MapKey::Bool(false)),
            _ => Err(expected(&node, "true or false")),
        },
        kind => Ok(value(kind, &node)?.into_map_key().expect("every other key kind is an integer")),
    }
}

/// Returns ` (did you mean x?)` if a known name is similar to `name`.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let distance = |candidate: &str| strsim::damerau_levenshtein(&name.to_lowercase(), &candidate.to_lowercase());
    known
        .map(|candidate| (distance(candidate), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().max(name.len()) / 3)
        .min()
        .map_or_else(String::new, |(_, candidate)| format!(" (did you mean {candidate}?)"))
}

fn expected(node: &Node, what: &str) -> Faults {
    Faults::new(node.mark, format!("expected {what}, found {}", node.value.describe()))
}

fn parse_string<T>(node: &Node, what: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T> {
    match &node.value {
        text::Value::String(text) => parse(text).ok_or_else(|| expected(node, what)),
        _ => Err(expected(node, what)),
    }
}

/// Decodes base64 in either alphabet, with or without padding.
fn decode_base64(text: &str) -> Option<Bytes> {
    const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, CONFIG);
    const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, CONFIG);
    STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)).ok().map(Bytes::from)
}

/// A boolean in a string, as Abseil's `SimpleAtob` has it.
fn bool_word(text: &str) -> Option<bool> {
    let is_one_of = |words: [&str; 5]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is_one_of(["true", "t", "yes", "y", "1"]) {
        return Some(true);
    }
    is_one_of(["false", "f", "no", "n", "0"]).then_some(false)
}

/// The text of a number, which may be in a string. Null is 0.
fn number_text(node: &Node) -> Option<&str> {
    match &node.value {
        text::Value::Number(text) | text::Value::String(text) => Some(text),
        text::Value::Null => Some("0"),
        _ => None,
    }
}

fn float(node: &Node) -> Result<f64> {
    number_text(node).and_then(parse_float).ok_or_else(|| expected(node, "a number"))
}

fn parse_float(text: &str) -> Option<f64> {
    match text {
        "NaN" => return Some(f64::NAN),
        "Infinity" => return Some(f64::INFINITY),
        "-Infinity" => return Some(f64::NEG_INFINITY),
        _ => {}
    }
    let text = text.trim_ascii();
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return u32::from_str_radix(digits, 16).ok().map(f64::from);
    }
    // Rust also parses "inf" and "nan".
    let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    text.parse().ok().filter(|_| is_decimal)
}

fn integer<N>(node: &Node, min: N, max: N) -> Result<N>
where
    N: TryFrom<i128> + Copy + std::fmt::Display,
{
    number_text(node)
        .and_then(parse_integer)
        .and_then(|number| N::try_from(number).ok())
        .ok_or_else(|| expected(node, &format!("an integer in {min}..={max}")))
}

/// Parses an integer. A fraction of zero and an exponent are allowed: `1.0`, `1e3`; both are exact up to 2^53.
fn parse_integer(text: &str) -> Option<i128> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let number = parse_float(text).filter(|_| text.trim_ascii() == text)?;
    #[expect(clippy::cast_possible_truncation, reason = "the condition leaves whole numbers that fit")]
    (number.fract() == 0.0 && number.abs() < 9.0e15).then_some(number as i128)
}

fn enum_number(descriptor: &EnumDescriptor, node: &Node) -> Result<i32> {
    let named = |name: &str| descriptor.values().find(|value| value.name().eq_ignore_ascii_case(name));
    let number = match &node.value {
        text::Value::Null => Some(descriptor.default_value().number()),
        text::Value::String(text) => named(text).map(|value| value.number()).or_else(|| text.trim_ascii().parse().ok()),
        text::Value::Number(_) => return integer(node, i32::MIN, i32::MAX),
        _ => None,
    };
    number.ok_or_else(|| {
        let known: Vec<String> = descriptor.values().map(|value| value.name().to_owned()).collect();
        expected(node, &format!("one of {}", known.join(", ")))
    })
}

/// Parses a protobuf-JSON duration: decimal seconds with up to nine fractional digits, followed by `s`.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    const MAX_SECONDS: i64 = 315_576_000_000;
    let number = text.strip_suffix('s')?;
    let (negative, number) = number.strip_prefix('-').map_or((false, number), |number| (true, number));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let seconds: i64 = whole.parse().ok().filter(|seconds| *seconds <= MAX_SECONDS)?;
    let nanos: i32 = format!("{fraction:0<9}").parse().ok()?;
    let sign = if negative { -1 } else { 1 };
    Some(Duration { seconds: seconds * i64::from(sign), nanos: nanos * sign })
}

fn set_struct(message: &mut DynamicMessage, node: &Node) -> Result<()> {
    let text::Value::Object(_) = &node.value else { return Err(expected(node, "an object")) };
    let field = message.descriptor().get_field_by_name("fields").expect("a Struct has this one field");
    message.set_field(&field, read::field_value(&field, node)?);
    Ok(())
}

fn set_list(message: &mut DynamicMessage, node: &Node) -> Result<()> {
    let field = message.descriptor().get_field_by_name("values").expect("a ListValue has this one field");
    message.set_field(&field, read::field_value(&field, node)?);
    Ok(())
}

fn set_value(message: &mut DynamicMessage, node: &Node) -> Result<()> {
    let name = match &node.value {
        text::Value::Null => {
            message.set_field_by_name("null_value", Value::EnumNumber(0));
            return Ok(());
        }
        text::Value::Bool(_) => "bool_value",
        text::Value::Number(_) => "number_value",
        text::Value::String(_) => "string_value",
        text::Value::List(_) => "list_value",
        text::Value::Object(_) => "struct_value",
    };
    let field = message.descriptor().get_field_by_name(name).expect("a Value has a field for each kind");
    message.set_field(&field, value(&field.kind(), node)?);
    Ok(())
}
