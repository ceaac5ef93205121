//! Parsing of YAML or JSON into a tree of values with their positions, by the rules of Envoy.
//!
//! Envoy reads YAML into a JSON value, and that into a message. What a scalar means is thus YAML 1.1's for booleans (`yes`,
//! `off`) and integers (octal and hexadecimal), and everything else is text that the message's field interprets: `1.5` is a
//! number for a number field and a string for a string field. A key that is written twice has its last value, only the
//! first document of a stream counts, and a key with the tag `!ignore` is dropped, which files use for anchors. `<<` is a
//! key like any other.
//!
//! A file named `*.json` is JSON, in which numbers are never strings.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput, StructureStyle, Tag};

use super::{Mark, Overridden, TextError};

/// Values may be nested this deep. Messages may be nested 100 deep.
const MAX_DEPTH: usize = 256;

/// Maximum number of values that aliases may add by repeating the values of their anchors.
const MAX_REPEATED_VALUES: usize = 1_000_000;

/// A value and its position.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) mark: Mark,
    pub(super) value: Value,
}

/// A value.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    /// An integer of YAML that fits into 32 bits, or a number of JSON as it is written.
    Number(String),
    String(String),
    List(Vec<Node>),
    /// In the order of the text; keys are unique.
    Object(Vec<(Key, Node)>),
}

/// A key of an object.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) mark: Mark,
    pub(super) name: String,
}

/// A parsed text.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) root: Node,
    /// What the text says and Envoy does not read.
    pub(super) overridden: Vec<Overridden>,
}

/// Parses the first document of a text.
pub(super) fn parse(text: &str, source_name: &str) -> Result<Parsed, TextError> {
    let is_json = Path::new(source_name).extension().is_some_and(|extension| extension == "json");
    let options = granit_parser::options! { emit_comments: false };
    let mut builder = Builder {
        // A byte order mark is not part of the text.
        parser: Parser::new_from_str_with_options(text.strip_prefix('\u{feff}').unwrap_or(text), options),
        is_json,
        anchors: HashMap::new(),
        repeated: 0,
        overridden: Vec::new(),
    };
    let root = builder.document().map_err(|error| TextError::syntax(source_name, error.mark, error.reason))?;
    Ok(Parsed { root, overridden: builder.overridden })
}

/// Why a text cannot be parsed.
struct SyntaxError {
    mark: Mark,
    reason: String,
}

impl From<ScanError> for SyntaxError {
    fn from(error: ScanError) -> Self {
        let at = error.marker();
        let mark = Mark { line: at.line() as u64, column: at.col() as u64 + 1, length: 1 };
        Self { mark, reason: error.info() }
    }
}

struct Builder<'t> {
    parser: Parser<'t, StrInput<'t>>,
    is_json: bool,
    /// The values of finished anchors, by the parser's number.
    anchors: HashMap<usize, Node>,
    /// Number of values that aliases have added.
    repeated: usize,
    overridden: Vec<Overridden>,
}

type Next<'t> = (Event<'t>, Span);

impl<'t> Builder<'t> {
    fn document(&mut self) -> Result<Node, SyntaxError> {
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentStart(..) => {}
                Event::StreamEnd => return Ok(Node { mark: mark(span), value: Value::Null }),
                _ => {
                    let root = self.node((event, span), 0)?;
                    self.rest()?;
                    return Ok(root);
                }
            }
        }
    }

    /// What follows the first document is not read, as in Envoy.
    fn rest(&mut self) -> Result<(), SyntaxError> {
        self.next()?;
        if let Some(Ok((Event::DocumentStart(..), span))) = self.parser.next_event() {
            let reason = "only the first document of a file is read";
            self.overridden.push(Overridden { mark: mark(span), key: "---".to_owned(), reason });
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Next<'t>, SyntaxError> {
        match self.parser.next_event() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => Err(error.into()),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    /// The value that begins with `event`.
    fn node(&mut self, (event, span): Next<'t>, depth: usize) -> Result<Node, SyntaxError> {
        let at = mark(span);
        if depth > MAX_DEPTH {
            return Err(SyntaxError { mark: at, reason: format!("nested deeper than {MAX_DEPTH} levels") });
        }
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => (self.scalar(text, style, tag.as_deref()), anchor),
            Event::SequenceStart(_, anchor, _) => (self.list(depth)?, anchor),
            Event::MappingStart(StructureStyle::Block, ..) if self.is_json => {
                return Err(SyntaxError { mark: at, reason: "a .json file must be JSON, found YAML".to_owned() });
            }
            Event::MappingStart(_, anchor, _) => (self.object(depth)?, anchor),
            Event::Alias(anchor) => return self.alias(anchor, at),
            _ => return Err(SyntaxError { mark: at, reason: "expected a value".to_owned() }),
        };
        let node = Node { mark: at, value };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Value, SyntaxError> {
        let mut nodes = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(nodes)),
                next => nodes.push(self.node(next, depth + 1)?),
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value, SyntaxError> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut positions: HashMap<String, usize> = HashMap::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                return Ok(Value::Object(entries));
            }
            let is_ignored = event.tag().is_some_and(|tag| tag.handle() == "!" && tag.suffix() == "ignore");
            let key = self.key((event, span), depth)?;
            let next = self.next()?;
            let node = self.node(next, depth + 1)?;
            if is_ignored {
                continue;
            }
            match positions.get(&key.name) {
                None => {
                    positions.insert(key.name.clone(), entries.len());
                    entries.push((key, node));
                }
                Some(&position) => {
                    let entry = std::mem::replace(&mut entries[position], (key, node));
                    let reason = "it is given again below, and the last one counts";
                    self.overridden.push(Overridden { mark: entry.0.mark, key: entry.0.name, reason });
                }
            }
        }
    }

    fn key(&mut self, (event, span): Next<'t>, depth: usize) -> Result<Key, SyntaxError> {
        let mark = mark(span);
        let name = match &event {
            Event::Scalar(text, ..) => Some(text.clone().into_owned()),
            _ => None,
        };
        let node = self.node((event, span), depth + 1)?;
        match (name, node.value) {
            (Some(name), _) | (None, Value::String(name) | Value::Number(name)) => Ok(Key { mark, name }),
            (None, other) => {
                Err(SyntaxError { mark, reason: format!("a key must be a string, found {}", other.describe()) })
            }
        }
    }

    fn alias(&mut self, anchor: usize, at: Mark) -> Result<Node, SyntaxError> {
        let Some(node) = self.anchors.get(&anchor) else {
            return Err(SyntaxError { mark: at, reason: "an alias stands inside of its own anchor".to_owned() });
        };
        self.repeated += node.value.count();
        if self.repeated > MAX_REPEATED_VALUES {
            let reason = format!("aliases repeat more than {MAX_REPEATED_VALUES} values");
            return Err(SyntaxError { mark: at, reason });
        }
        Ok(Node { mark: at, value: node.value.clone() })
    }

    fn scalar(&self, text: Cow<'_, str>, style: ScalarStyle, tag: Option<&Tag>) -> Value {
        // Tags other than `!` have no meaning in Envoy, but make a quoted scalar count as a plain one.
        let is_string = tag.map_or(style != ScalarStyle::Plain, |tag| matches!(tag.parts(), ("!", "") | ("", "!")));
        if is_string {
            return Value::String(text.into_owned());
        }
        if self.is_json { json_scalar(text.into_owned()) } else { yaml_scalar(text.into_owned()) }
    }
}

fn mark(span: Span) -> Mark {
    Mark { line: span.start.line() as u64, column: span.start.col() as u64 + 1, length: span.len() as u64 }
}

fn json_scalar(text: String) -> Value {
    match &*text {
        "null" | "" => Value::Null,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ if text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) => Value::Number(text),
        _ => Value::String(text),
    }
}

fn yaml_scalar(text: String) -> Value {
    if matches!(&*text, "" | "~" | "null" | "Null" | "NULL") {
        return Value::Null;
    }
    if let Some(truth) = yaml_bool(&text) {
        return Value::Bool(truth);
    }
    match yaml_integer(&text) {
        Some(number) if i32::try_from(number).is_ok() => Value::Number(number.to_string()),
        // Larger ones are strings, because the JSON value in between would lose digits.
        Some(number) => Value::String(number.to_string()),
        None => Value::String(text),
    }
}

/// A word of YAML 1.1, in lower case, upper case, or with a capital.
fn yaml_bool(text: &str) -> Option<bool> {
    const WORDS: [(&str, bool); 8] = [
        ("true", true),
        ("false", false),
        ("yes", true),
        ("no", false),
        ("on", true),
        ("off", false),
        ("y", true),
        ("n", false),
    ];
    let (_, truth) = WORDS.into_iter().find(|(word, _)| text.eq_ignore_ascii_case(word))?;
    let rest = text.get(1..).unwrap_or_default();
    let is_lower = |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase());
    let is_upper = text.bytes().all(|byte| byte.is_ascii_uppercase());
    (is_lower(text) || is_upper || is_lower(rest)).then_some(truth)
}

/// A decimal integer, an octal one that begins with `0`, or a hexadecimal one that begins with `0x`.
fn yaml_integer(text: &str) -> Option<i64> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => ("-", &text[1..]),
        b'+' => ("", &text[1..]),
        _ => ("", text),
    };
    let hexadecimal = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    let (digits, radix) = match hexadecimal {
        Some(digits) => (digits, 16),
        None if digits.len() > 1 && digits.starts_with('0') => (digits, 8),
        None => (digits, 10),
    };
    let is_number = !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix));
    is_number.then(|| i64::from_str_radix(&format!("{sign}{digits}"), radix).ok())?
}

impl Value {
    /// The description of the value in errors.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(truth) => truth.to_string(),
            Self::Number(text) => text.clone(),
            Self::String(text) => format!("{text:?}"),
            Self::List(_) => "a list".to_owned(),
            Self::Object(_) => "an object".to_owned(),
        }
    }

    /// Number of values in this one, with itself.
    fn count(&self) -> usize {
        1 + match self {
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::String(_) => 0,
            Self::List(nodes) => nodes.iter().map(|node| node.value.count()).sum(),
            Self::Object(entries) => entries.iter().map(|(_, node)| node.value.count()).sum(),
        }
    }
}
