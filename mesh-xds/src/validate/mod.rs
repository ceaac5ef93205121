//! The rules by which Envoy refuses messages before it looks at them: required fields, lengths, ranges.
//!
//! They are those of the `validate` options in Envoy's `.proto` files, one generated table ([`crate::proto::rules`]) over all
//! generated messages. A message is checked with everything in it, also the messages in each `Any`. All violations are
//! reported.

pub(crate) mod rule;

use std::sync::LazyLock;

use hashbrown::HashMap;
use prost::{Message, Name};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, ReflectMessage as _, Value};

use self::rule::{MessageRules, Rule};
use crate::decode::field::FieldError;
use crate::descriptor::{POOL, type_name};
use crate::proto::rules::RULES;

static BY_MESSAGE: LazyLock<HashMap<&str, &MessageRules>> =
    LazyLock::new(|| RULES.iter().map(|rules| (rules.message, rules)).collect());

/// Adds the violations of the rules in a message to the outcome of decoding it.
///
/// Violations inside of a field that is not supported are left out, and so is what else decoding says about the place of a
/// violation, as it would say the same again.
pub(crate) fn with_violations<T>(
    violations: Vec<FieldError>,
    decoded: Result<T, Vec<FieldError>>,
) -> Result<T, Vec<FieldError>> {
    let mut errors = violations;
    let faults = match decoded {
        Ok(value) if errors.is_empty() => return Ok(value),
        Ok(_) => Vec::new(),
        Err(faults) => faults,
    };
    let (refused, invalid): (Vec<_>, Vec<_>) =
        faults.into_iter().partition(|fault| fault.reason.ends_with("not supported"));
    let is_inside = |error: &FieldError, of: &FieldError| {
        error.path.strip_prefix(&of.path).is_some_and(|rest| rest.starts_with(['.', '[']))
    };
    errors.retain(|error| !refused.iter().any(|refused| is_inside(error, refused)));
    let is_new = |fault: &FieldError| !errors.iter().any(|error| error.path.starts_with(&fault.path));
    let invalid: Vec<FieldError> = invalid.into_iter().filter(is_new).collect();
    errors.extend(invalid);
    errors.extend(refused);
    Err(errors)
}

/// The violations of the rules in `message`, without those in its field `except`.
pub(crate) fn violations<M: Message + Name>(message: &M, except: Option<&str>) -> Vec<FieldError> {
    let descriptor = POOL.get_message_by_name(&M::full_name()).expect("all messages are among the descriptors");
    let mut dynamic = DynamicMessage::new(descriptor);
    dynamic.transcode_from(message).expect("a message and its descriptor come from the same definition");
    if let Some(except) = except {
        dynamic.clear_field_by_name(except);
    }
    let mut check = Check { path: String::new(), found: Vec::new() };
    check.message(&dynamic);
    check.found
}

struct Check {
    /// The path of the value under check.
    path: String,
    found: Vec<FieldError>,
}

impl Check {
    fn refuse(&mut self, reason: String) {
        self.found.push(FieldError { path: self.path.clone(), reason });
    }

    /// Runs `check` at `step` below the current path.
    fn at(&mut self, step: &str, check: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        if length > 0 && !step.starts_with('[') {
            self.path.push('.');
        }
        self.path.push_str(step);
        check(self);
        self.path.truncate(length);
    }

    fn message(&mut self, message: &DynamicMessage) {
        let descriptor = message.descriptor();
        let rules = BY_MESSAGE.get(descriptor.full_name());
        for name in rules.into_iter().flat_map(|rules| rules.required_oneofs) {
            let oneof = descriptor.oneofs().find(|oneof| oneof.name() == *name);
            let fields: Vec<FieldDescriptor> = oneof.iter().flat_map(prost_reflect::OneofDescriptor::fields).collect();
            if !fields.iter().any(|field| message.has_field(field)) {
                let names: Vec<&str> = fields.iter().map(FieldDescriptor::name).collect();
                self.refuse(match &names[..] {
                    [name] => format!("{name} is missing"),
                    [names @ .., last] => format!("none of {} and {last} is given", names.join(", ")),
                    [] => continue,
                });
            }
        }
        for (number, rules) in rules.into_iter().flat_map(|rules| rules.fields) {
            let field = descriptor.get_field(*number).expect("the rules are of the same definition");
            self.at(field.name(), |check| check.field(message, &field, rules));
        }
        for (field, value) in message.fields() {
            let own = rules.and_then(|rules| rules.fields.iter().find(|(number, _)| *number == field.number()));
            if !own.is_some_and(|(_, rules)| rules.contains(&Rule::Skip)) {
                self.at(field.name(), |check| check.inner(value));
            }
        }
    }

    /// The messages in a value.
    fn inner(&mut self, value: &Value) {
        match value {
            Value::Message(message) if message.descriptor().full_name() == "google.protobuf.Any" => self.any(message),
            Value::Message(message) => self.message(message),
            Value::List(values) => {
                for (index, value) in values.iter().enumerate() {
                    self.at(&format!("[{index}]"), |check| check.inner(value));
                }
            }
            Value::Map(values) => {
                let mut values: Vec<_> = values.iter().map(|(key, value)| (map_key(key), value)).collect();
                values.sort_by(|one, other| one.0.cmp(&other.0));
                for (key, value) in values {
                    self.at(&format!("[{key}]"), |check| check.inner(value));
                }
            }
            _ => {}
        }
    }

    /// The message in an `Any`, if it is a known one. Malformed ones are left to the decoder.
    fn any(&mut self, any: &DynamicMessage) {
        let (url, bytes) = (any.get_field_by_name("type_url"), any.get_field_by_name("value"));
        let (Some(url), Some(bytes)) = (url, bytes) else { return };
        let descriptor = url.as_str().and_then(|url| POOL.get_message_by_name(type_name(url)));
        let bytes = bytes.as_bytes().cloned().unwrap_or_default();
        if let Some(Ok(message)) = descriptor.map(|descriptor| DynamicMessage::decode(descriptor, bytes)) {
            self.message(&message);
        }
    }

    fn field(&mut self, message: &DynamicMessage, field: &FieldDescriptor, rules: &[Rule]) {
        if field.supports_presence() && !message.has_field(field) {
            // A oneof is required as a whole.
            if rules.contains(&Rule::Required) && field.containing_oneof().is_none() {
                self.refuse("is missing".to_owned());
            }
            return;
        }
        let value = message.get_field(field);
        match &*value {
            Value::List(values) => self.list(&field.kind(), values, rules),
            Value::Map(values) => {
                let entries = rules.iter().find_map(|rule| match rule {
                    Rule::MinPairs(min) if values.len() < *min => Some(*min),
                    _ => None,
                });
                if let Some(min) = entries {
                    self.refuse(format!("must have at least {}", counted(min, "entry", "entries")));
                }
                for rule in rules {
                    if let Rule::Keys(rules) = rule {
                        for key in values.keys() {
                            self.at(&format!("[{}]", map_key(key)), |check| {
                                check.single(&Kind::String, &Value::from(key.clone()), rules);
                            });
                        }
                    }
                }
            }
            value => self.single(&field.kind(), value, rules),
        }
    }

    fn list(&mut self, kind: &Kind, values: &[Value], rules: &[Rule]) {
        if values.is_empty() && rules.contains(&Rule::IgnoreEmpty) {
            return;
        }
        for rule in rules {
            match rule {
                Rule::MinItems(min) if values.len() < *min => {
                    let found = if values.is_empty() { String::new() } else { format!("has {}, but ", values.len()) };
                    self.refuse(format!("{found}must have at least {}", counted(*min, "item", "items")));
                }
                Rule::MaxItems(max) if values.len() > *max => {
                    let items = counted(*max, "item", "items");
                    self.refuse(format!("has {}, but must have at most {items}", values.len()));
                }
                Rule::Unique => {
                    if let Some(index) = (1..values.len()).find(|index| values[..*index].contains(&values[*index])) {
                        self.at(&format!("[{index}]"), |check| check.refuse("is given twice".to_owned()));
                    }
                }
                Rule::Items(rules) => {
                    for (index, value) in values.iter().enumerate() {
                        self.at(&format!("[{index}]"), |check| check.single(kind, value, rules));
                    }
                }
                _ => {}
            }
        }
    }

    fn single(&mut self, kind: &Kind, value: &Value, rules: &[Rule]) {
        let reason = match value {
            Value::String(text) => string(text, rules),
            Value::Bytes(bytes) => length(bytes.len(), "byte", "bytes", rules),
            Value::Bool(false) => rules.contains(&Rule::ConstTrue).then(|| "false: only true is allowed".to_owned()),
            Value::EnumNumber(number) => {
                let is_known = kind.as_enum().is_none_or(|known| known.get_value(*number).is_some());
                if rules.contains(&Rule::DefinedOnly) && !is_known {
                    Some(format!("unknown value {number}"))
                } else {
                    number_rules(f64::from(*number), Form::Other, rules)
                }
            }
            Value::Message(message) => match &*message.descriptor().full_name().replace("google.protobuf.", "") {
                "Duration" => number_rules(seconds(message), Form::Seconds, rules),
                name if name.ends_with("Value") => {
                    let value = message.get_field_by_name("value").map(std::borrow::Cow::into_owned);
                    let inner = message.descriptor().get_field_by_name("value");
                    if let (Some(value), Some(inner)) = (value, inner) {
                        self.single(&inner.kind(), &value, rules);
                    }
                    None
                }
                _ => None,
            },
            value => {
                let form = if matches!(value, Value::U32(_) | Value::U64(_)) { Form::Unsigned } else { Form::Other };
                number(value).and_then(|number| number_rules(number, form, rules))
            }
        };
        if let Some(reason) = reason {
            self.refuse(reason);
        }
    }
}

fn map_key(key: &prost_reflect::MapKey) -> String {
    key.as_str().map_or_else(|| format!("{:?}", Value::from(key.clone())), |key| format!("{key:?}"))
}

fn counted(number: usize, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {many}") }
}

fn seconds(duration: &DynamicMessage) -> f64 {
    let part = |name| duration.get_field_by_name(name).and_then(|value| number(&value)).unwrap_or_default();
    part("seconds") + part("nanos") / 1e9
}

fn number(value: &Value) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "bounds are far below 2^53")]
    match value {
        Value::U32(number) => Some(f64::from(*number)),
        Value::I32(number) => Some(f64::from(*number)),
        Value::U64(number) => Some(*number as f64),
        Value::I64(number) => Some(*number as f64),
        Value::F32(number) => Some(f64::from(*number)),
        Value::F64(number) => Some(*number),
        _ => None,
    }
}

/// How a number is written in errors.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Unsigned,
    Other,
    Seconds,
}

/// Why a number or a duration is refused.
fn number_rules(value: f64, form: Form, rules: &[Rule]) -> Option<String> {
    if value == 0.0 && rules.contains(&Rule::IgnoreEmpty) {
        return None;
    }
    let bound = |find: fn(&Rule) -> Option<f64>| rules.iter().find_map(find);
    let lt = bound(|rule| if let Rule::Lt(bound) = rule { Some(*bound) } else { None });
    let lte = bound(|rule| if let Rule::Lte(bound) = rule { Some(*bound) } else { None });
    let gt = bound(|rule| if let Rule::Gt(bound) = rule { Some(*bound) } else { None });
    let gte = bound(|rule| if let Rule::Gte(bound) = rule { Some(*bound) } else { None });
    let is_outside = lt.is_some_and(|bound| value >= bound)
        || lte.is_some_and(|bound| value > bound)
        || gt.is_some_and(|bound| value <= bound)
        || gte.is_some_and(|bound| value < bound);
    let unit = if form == Form::Seconds { "s" } else { "" };
    if is_outside {
        let is_unsigned = form == Form::Unsigned;
        let (first, last) = if is_unsigned {
            let first = gt.map_or(0.0, |bound| bound + 1.0);
            (Some(gte.unwrap_or(first)), lte.or_else(|| lt.map(|bound| bound - 1.0)))
        } else {
            (gte, lte)
        };
        if let (Some(first), Some(last)) = (first, last) {
            return Some(format!("{value}{unit} is not in {first}{unit}..={last}{unit}"));
        }
        let at_least = gte.map(|min| format!("at least {min}{unit}"));
        let above = gt.map(|min| format!("greater than {min}{unit}"));
        let at_most = lte.map(|max| format!("at most {max}{unit}"));
        let below = lt.map(|max| format!("less than {max}{unit}"));
        let bounds: Vec<String> = [at_least, above, at_most, below].into_iter().flatten().collect();
        return Some(format!("{value}{unit} is not {}", bounds.join(" and ")));
    }
    rules.iter().find_map(|rule| match rule {
        Rule::NumberNotIn(refused) if refused.contains(&value) => Some(format!("{value}{unit} is not allowed")),
        _ => None,
    })
}

/// Why a string is refused.
fn string(text: &str, rules: &[Rule]) -> Option<String> {
    if text.is_empty() && rules.contains(&Rule::IgnoreEmpty) {
        return None;
    }
    let is_header_end = |letter: char| matches!(letter, '\0' | '\n' | '\r');
    let is_control = |letter: char| letter.is_ascii_control() && letter != '\t';
    length(text.chars().count(), "character", "characters", rules).or_else(|| {
        rules.iter().find_map(|rule| match rule {
            Rule::MaxBytes(max) if text.len() > *max => {
                Some(format!("has {} bytes, but must have at most {}", text.len(), counted(*max, "byte", "bytes")))
            }
            Rule::Prefix(prefix) if !text.starts_with(prefix) => {
                Some(format!("{text:?} does not begin with {prefix:?}"))
            }
            Rule::Suffix(suffix) if !text.ends_with(suffix) => Some(format!("{text:?} does not end with {suffix:?}")),
            Rule::OneOf(allowed) if !allowed.contains(&text) => {
                Some(format!("{text:?} is not one of {}", allowed.join(", ")))
            }
            Rule::Pattern(pattern) if !regex::Regex::new(pattern).is_ok_and(|regex| regex.is_match(text)) => {
                Some(format!("{text:?} does not match {pattern}"))
            }
            Rule::HeaderText if text.contains(is_header_end) => {
                Some(format!("{text:?} has a line break or a NUL character"))
            }
            Rule::HeaderValue if text.contains(is_control) => Some(format!("{text:?} has a control character")),
            Rule::HeaderName if !is_header_name(text) => Some(format!("{text:?} is not the name of a header")),
            _ => None,
        })
    })
}

fn is_header_name(text: &str) -> bool {
    let name = text.strip_prefix(':').unwrap_or(text);
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_|~`".contains(&byte))
}

fn length(length: usize, one: &str, many: &str, rules: &[Rule]) -> Option<String> {
    rules.iter().find_map(|rule| match rule {
        Rule::MinLen(min) if length < *min => Some(format!("must have at least {}", counted(*min, one, many))),
        Rule::MaxLen(max) if length > *max => {
            Some(format!("has {}, but must have at most {max}", counted(length, one, many)))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests;
