//! The rules that Envoy validates messages by: the `validate` options of its `.proto` files, as a table in Rust.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use protox::prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, MessageDescriptor, OneofDescriptor, Value,
};

use super::Error;

const HEAD: &str = "//! The rules that Envoy validates messages by, from the `validate` options of its `.proto` files.

use crate::validate::rule::{MessageRules, Rule::*};

/// The rules of each message that has any, sorted by its full name.
pub(crate) const RULES: &[MessageRules] = &[
";

/// Fields whose rules the current Envoy does not have, although the `.proto` files do: decoding requires what is needed.
const LIFTED: [&str; 1] = ["envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig.trust_domains"];

/// The generated table of the rules of the messages that `is_generated`.
pub(super) fn table(pool: &DescriptorPool, is_generated: impl Fn(&str) -> bool) -> Result<String, Error> {
    let options = Options::of(pool)?;
    let mut messages: BTreeMap<String, MessageDescriptor> = BTreeMap::new();
    for message in pool.all_messages().filter(|message| is_generated(message.full_name())) {
        messages.insert(message.full_name().to_owned(), message);
    }
    let mut code = HEAD.to_owned();
    for (name, message) in &messages {
        let oneofs: Vec<OneofDescriptor> = message.oneofs().filter(|oneof| options.is_required(oneof)).collect();
        let fields: Vec<(FieldDescriptor, String)> =
            message.fields().filter_map(|field| Some((field.clone(), options.rules(&field)?))).collect();
        if oneofs.is_empty() && fields.is_empty() {
            continue;
        }
        let oneofs: Vec<String> = oneofs.iter().map(|oneof| format!("{:?}", oneof.name())).collect();
        writeln!(code, "MessageRules {{ message: {name:?}, required_oneofs: &[{}], fields: &[", oneofs.join(", "))?;
        for (field, rules) in fields {
            writeln!(code, "({}, &[{rules}]),", field.number())?;
        }
        code.push_str("]},\n");
    }
    code.push_str("];\n");
    Ok(code)
}

/// The options of `validate/validate.proto`.
struct Options {
    rules: protox::prost_reflect::ExtensionDescriptor,
    required: protox::prost_reflect::ExtensionDescriptor,
}

impl Options {
    fn of(pool: &DescriptorPool) -> Result<Self, Error> {
        let find = |name: &str| pool.get_extension_by_name(name).ok_or_else(|| format!("{name}: no such option"));
        Ok(Self { rules: find("validate.rules")?, required: find("validate.required")? })
    }

    fn is_required(&self, oneof: &OneofDescriptor) -> bool {
        oneof.options().get_extension(&self.required).as_bool() == Some(true)
    }

    /// The rules of a field as Rust; `None` if it has none.
    fn rules(&self, field: &FieldDescriptor) -> Option<String> {
        let options = field.options();
        if !options.has_extension(&self.rules) || LIFTED.contains(&field.full_name()) {
            return None;
        }
        let rules = constraints(options.get_extension(&self.rules).as_message()?);
        (!rules.is_empty()).then(|| rules.join(", "))
    }
}

/// The constraints in a `FieldRules`.
fn constraints(rules: &DynamicMessage) -> Vec<String> {
    let types = rules.fields().filter_map(|(field, value)| Some((field.name().to_owned(), value.as_message()?)));
    types
        .flat_map(|(kind, constraints)| {
            // A regular expression for headers is strict by default.
            let is_lenient =
                constraints.fields().any(|(field, value)| field.name() == "strict" && value.as_bool() == Some(false));
            let constraints: Vec<_> = constraints.fields().collect();
            let code = constraints.into_iter().filter_map(|(field, value)| constraint(&kind, field.name(), value));
            code.map(|code| match &*code {
                "HeaderName" | "HeaderValue" if is_lenient => "HeaderText".to_owned(),
                _ => code,
            })
            .collect::<Vec<_>>()
        })
        .collect()
}

/// One constraint as a `Rule`: its name in `validate.proto` in upper camel case, with its bound.
fn constraint(kind: &str, name: &str, value: &Value) -> Option<String> {
    let variant: String = name.split('_').map(capitalized).collect();
    Some(match (kind, name, value) {
        (
            _,
            "unique" | "required" | "skip" | "defined_only" | "ignore_empty" | "uri_ref" | "uri" | "ip" | "ipv4"
            | "ipv6" | "hostname" | "email" | "address" | "uuid",
            Value::Bool(true),
        ) => variant,
        (_, _, Value::Bool(false)) => return None,
        ("bool", "const", Value::Bool(true)) => "ConstTrue".to_owned(),
        ("string" | "any", "in", Value::List(texts)) => format!("OneOf(&[{}])", list(texts, text)),
        ("string" | "any", "not_in", Value::List(texts)) => format!("NoneOf(&[{}])", list(texts, text)),
        ("string", "well_known_regex", Value::EnumNumber(1)) => "HeaderName".to_owned(),
        ("string", "well_known_regex", Value::EnumNumber(2)) => "HeaderValue".to_owned(),
        ("repeated", "items", Value::Message(rules)) => format!("Items(&[{}])", constraints(rules).join(", ")),
        ("map", "keys", Value::Message(rules)) => format!("Keys(&[{}])", constraints(rules).join(", ")),
        ("map", "values", Value::Message(rules)) => format!("Values(&[{}])", constraints(rules).join(", ")),
        (_, "not_in", Value::List(values)) => format!("NumberNotIn(&[{}])", list(values, number)),
        (_, "lt" | "lte" | "gt" | "gte", value) => format!("{variant}({})", number(value)?),
        (_, _, Value::U64(bound)) => format!("{variant}({bound})"),
        (_, _, Value::String(bound)) => format!("{variant}({bound:?})"),
        (_, _, other) => panic!("{kind}.{name}: {other:?} has no counterpart among the rules of mesh-xds"),
    })
}

fn capitalized(word: &str) -> String {
    word.chars().take(1).flat_map(char::to_uppercase).chain(word.chars().skip(1)).collect()
}

fn list(values: &[Value], code: impl Fn(&Value) -> Option<String>) -> String {
    values.iter().filter_map(code).collect::<Vec<_>>().join(", ")
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(|text| format!("{text:?}"))
}

/// A number as a floating-point literal; a duration in seconds.
fn number(value: &Value) -> Option<String> {
    let part = |duration: &DynamicMessage, name: &str| {
        duration.get_field_by_name(name).and_then(|value| value.as_i64().or_else(|| value.as_i32().map(i64::from)))
    };
    Some(match value {
        Value::Message(duration) => {
            let (seconds, nanos) = (part(duration, "seconds")?, part(duration, "nanos")?);
            format!("{seconds}.{nanos:09}")
        }
        Value::U64(number) => format!("{number}.0"),
        Value::U32(number) => format!("{number}.0"),
        Value::I64(number) => format!("{number}.0"),
        Value::I32(number) | Value::EnumNumber(number) => format!("{number}.0"),
        Value::F64(number) => format!("{number:?}"),
        Value::F32(number) => format!("{number:?}"),
        _ => return None,
    })
}
