//! YAML and JSON as a tree of values with their positions.
//!
//! Resources are not deserialized into structs by serde: a derived implementation stops at the first mistake and loses
//! positions.
//!
//! JSON is a subset of YAML and is read by the same parser.

use std::fmt;
use std::sync::Arc;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use crate::diagnostic::{Code, Diagnostic, Position, Source};

/// Largest file that is read, in bytes: 64 MiB.
pub(crate) const MAX_FILE_BYTES: u64 = 64 << 20;
/// Most YAML nodes in one file.
const MAX_NODES: usize = 8_000_000;
/// Most documents in one file.
const MAX_DOCUMENTS: usize = 200_000;

/// Most nodes that the aliases of one file stand for.
const MAX_REPLAYED_EVENTS: usize = 100_000;

/// Line, column and length of a node in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    line: u32,
    column: u32,
    length: u32,
}

impl Mark {
    fn of(location: Location) -> Self {
        let fit = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Self { line: fit(location.line()), column: fit(location.column()), length: fit(location.span().len()) }
    }

    pub(crate) fn in_source(self, source: &Arc<Source>) -> Position {
        Position { source: Arc::clone(source), line: self.line, column: self.column, length: self.length.max(1) }
    }
}

/// A value and its position.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) mark: Mark,
}

impl Node {
    /// The value of a field of a mapping.
    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        let Value::Mapping(entries) = &self.value else { return None };
        entries.iter().find(|(key, _)| key.name == name).map(|(_, value)| value)
    }

    /// The text of a string.
    pub(crate) fn text(&self) -> Option<&str> {
        if let Value::String(text) = &self.value { Some(text) } else { None }
    }

    /// Calls `visit` with all names of fields and all strings.
    pub(crate) fn for_each_text(&self, visit: &mut dyn FnMut(&str)) {
        match &self.value {
            Value::String(text) => visit(text),
            Value::Sequence(items) => items.iter().for_each(|item| item.for_each_text(visit)),
            Value::Mapping(entries) => {
                for (key, value) in entries {
                    visit(&key.name);
                    value.for_each_text(visit);
                }
            }
            Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) => {}
        }
    }

    fn move_down(&mut self, lines: u32) {
        self.for_each_mark(&mut |mark| mark.line = mark.line.saturating_add(lines));
    }

    fn for_each_mark(&mut self, change: &mut dyn FnMut(&mut Mark)) {
        change(&mut self.mark);
        match &mut self.value {
            Value::Sequence(items) => items.iter_mut().for_each(|item| item.for_each_mark(change)),
            Value::Mapping(entries) => {
                for (key, value) in entries {
                    change(&mut key.mark);
                    value.for_each_mark(change);
                }
            }
            _ => {}
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    String(String),
    Sequence(Vec<Node>),
    Mapping(Vec<(Key, Node)>),
}

impl Value {
    /// Number of items of a list, 0 of anything else.
    pub(crate) fn item_count(&self) -> usize {
        if let Self::Sequence(items) = self { items.len() } else { 0 }
    }

    /// What it is, for "expected x, found y".
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Null => "null".into(),
            Self::Bool(value) => format!("the boolean {value}"),
            Self::Integer(value) => format!("the number {value}"),
            // `60.0` is not written as the integer that was expected.
            Self::Float(value) => format!("the number {value:?}"),
            Self::String(value) => format!("the string {value:?}"),
            Self::Sequence(_) => "a list".into(),
            Self::Mapping(_) => "an object".into(),
        }
    }
}

/// Name of a field and its position.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) mark: Mark,
}

/// All documents of a file; empty ones are left out.
pub(crate) fn parse(source: &Arc<Source>) -> Result<Vec<Node>, Box<Diagnostic>> {
    parse_text(&source.text, source)
}

/// A part of a file that may be a document of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part<'a> {
    pub(crate) text: &'a str,
    /// Number of lines of the file before it.
    lines_before: u32,
}

/// The parts of a file between its document separators, to read the others if one is broken.
pub(crate) fn parts(source: &Source) -> Vec<Part<'_>> {
    let (mut parts, mut start, mut at, mut lines_before) = (Vec::new(), 0, 0, 0);
    for (number, line) in (0_u32..).zip(source.text.split_inclusive('\n')) {
        if line.trim_end() == "---" || line.starts_with("--- ") {
            parts.push(Part { text: &source.text[start..at], lines_before });
            (start, lines_before) = (at, number);
        }
        at += line.len();
    }
    parts.push(Part { text: &source.text[start..], lines_before });
    parts.retain(|part| !part.text.trim().is_empty());
    parts
}

/// As [`parse`], for a part of the file.
pub(crate) fn parse_part(part: Part<'_>, source: &Arc<Source>) -> Result<Vec<Node>, Box<Diagnostic>> {
    let move_down = |line: &mut u32| *line = line.saturating_add(part.lines_before);
    let mut parsed = parse_text(part.text, source);
    match &mut parsed {
        Ok(nodes) => nodes.iter_mut().for_each(|node| node.move_down(part.lines_before)),
        Err(diagnostic) => move_down(&mut diagnostic.position.line),
    }
    parsed
}

/// Parses YAML that is a string of a file, as ConfigMaps have it; `None` if it is empty. Positions are those in the file, if the
/// string is a literal block (`|`), else that of the string.
pub(crate) fn parse_embedded(node: &Node, source: &Arc<Source>) -> Result<Option<Node>, Box<Diagnostic>> {
    let text = node.text().unwrap_or_default();
    let block = Block::of(node.mark, text, source);
    let place = |mark: &mut Mark| match block {
        Some(block) if mark.line > 0 => {
            mark.line = mark.line.saturating_add(block.lines_before);
            mark.column = mark.column.saturating_add(block.indentation);
        }
        _ => *mark = node.mark,
    };
    let misplaced = |mut mark: Mark, message: String| {
        place(&mut mark);
        Box::new(Diagnostic::error(Code::Syntax, mark.in_source(source), message))
    };
    let mut nodes = parse_text(text, source).map_err(|error| {
        let Position { line, column, length, .. } = error.position;
        misplaced(Mark { line, column, length }, error.message)
    })?;
    if let Some(second) = nodes.get(1) {
        return Err(misplaced(second.mark, "expected one document, found several".to_owned()));
    }
    let mut parsed = nodes.pop();
    if let Some(parsed) = &mut parsed {
        parsed.for_each_mark(&mut |mark| place(mark));
    }
    Ok(parsed)
}

/// Where the lines of a literal block are in a file.
#[derive(Clone, Copy, Debug)]
struct Block {
    lines_before: u32,
    indentation: u32,
}

impl Block {
    /// `None` if the string, which begins at `mark`, is not a literal block. The mark of a block is its first line that is not
    /// empty; the line before the block ends with `|`.
    fn of(mark: Mark, text: &str, source: &Source) -> Option<Self> {
        let empty = u32::try_from(text.bytes().take_while(|byte| *byte == b'\n').count()).ok()?;
        let lines_before = mark.line.checked_sub(1)?.checked_sub(empty)?;
        let before = source.text.lines().nth(usize::try_from(lines_before).ok()?.checked_sub(1)?)?;
        let header = before.split(" #").next()?.trim_end();
        let is_literal = header.trim_end_matches(|c: char| matches!(c, '+' | '-') || c.is_ascii_digit()).ends_with('|');
        is_literal.then_some(Self { lines_before, indentation: mark.column.checked_sub(1)? })
    }
}

fn parse_text(text: &str, source: &Arc<Source>) -> Result<Vec<Node>, Box<Diagnostic>> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: MAX_NODES,
            max_events: 2 * MAX_NODES,
            max_documents: MAX_DOCUMENTS,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_REPLAYED_EVENTS },
        emit_comments: false,
        with_snippet: false,
        strict_booleans: true,
    };
    serde_saphyr::from_multiple_with_options::<Node>(text, options)
        .map(|nodes| nodes.into_iter().filter(|node| !matches!(node.value, Value::Null)).collect())
        .map_err(|error| Box::new(syntax_error(&error, source)))
}

fn syntax_error(error: &serde_saphyr::Error, source: &Arc<Source>) -> Diagnostic {
    use serde_saphyr::MessageFormatter as _;
    let position = match error.location() {
        Some(location) => Mark::of(location).in_source(source),
        None => Position::whole_file(Arc::clone(source)),
    };
    let message = serde_saphyr::UserMessageFormatter.format_message(error.without_snippet());
    Diagnostic::error(Code::Syntax, position, format!("not valid YAML: {message}"))
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self { value: spanned.value, mark: Mark::of(spanned.referenced) })
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<String>::deserialize(deserializer)?;
        Ok(Self { name: spanned.value, mark: Mark::of(spanned.referenced) })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_i128<E: de::Error>(self, value: i128) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u128<E: de::Error>(self, value: u128) -> Result<Value, E> {
        Ok(Value::Integer(i128::try_from(value).unwrap_or(i128::MAX)))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.into()))
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Value::Sequence(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Value::Mapping(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Arc<Source> {
        Arc::new(Source::new("a.yaml", text))
    }

    /// `path=value@line:column+length` of every scalar, in document order.
    fn scalars(text: &str) -> Vec<String> {
        fn walk(path: &str, node: &Node, out: &mut Vec<String>) {
            let mark = node.mark;
            match &node.value {
                Value::Sequence(items) => {
                    for (i, item) in items.iter().enumerate() {
                        walk(&format!("{path}[{i}]"), item, out);
                    }
                }
                Value::Mapping(entries) => {
                    for (key, item) in entries {
                        walk(&format!("{path}.{}", key.name), item, out);
                    }
                }
                scalar => out.push(format!("{path}={scalar:?}@{}:{}+{}", mark.line, mark.column, mark.length)),
            }
        }
        let mut out = Vec::new();
        for (i, node) in parse(&source(text)).unwrap().iter().enumerate() {
            walk(&i.to_string(), node, &mut out);
        }
        out
    }

    #[test]
    fn values_keep_type_and_position() {
        assert_eq!(
            scalars("a: {b: [1, \"1\", true]}\n---\n# nothing\n---\nc: 0.5\nd: ~\ne: yes\n"),
            [
                "0.a.b[0]=Integer(1)@1:9+1",
                "0.a.b[1]=String(\"1\")@1:12+3",
                "0.a.b[2]=Bool(true)@1:17+4",
                "1.c=Float(0.5)@5:4+3",
                "1.d=Null@6:4+1",
                "1.e=String(\"yes\")@7:4+3",
            ]
        );
    }

    #[test]
    fn json_is_yaml() {
        assert_eq!(
            scalars("{\"a\": {\"b\": null, \"c\": \"x\"}}"),
            ["0.a.b=Null@1:13+4", "0.a.c=String(\"x\")@1:24+3"]
        );
    }

    #[test]
    fn aliases_point_at_their_use() {
        assert_eq!(scalars("a: &x 1\nb: *x\n"), ["0.a=Integer(1)@1:7+1", "0.b=Integer(1)@2:4+2"]);
    }

    #[test]
    fn invalid_text_is_refused_with_its_position() {
        for (text, place) in [
            ("a: [1, 2\nb: 3\n", "a.yaml:2:"),
            ("a: 1\na: 2\n", "a.yaml:2:1"),
            ("a: *nothing\n", "a.yaml:1:4"),
            ("a:\n\tb: 1\n", "a.yaml:2:"),
        ] {
            let diagnostic = parse(&source(text)).unwrap_err();
            assert!(diagnostic.to_string().starts_with(place), "{text:?} gave {diagnostic}");
        }
    }

    #[test]
    fn alias_bombs_and_deep_nesting_are_refused() {
        let bomb = (1..12).fold("a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned(), |text, i| {
            let alias = format!("*a{}", i - 1);
            format!("{text}a{i}: &a{i} [{}]\n", [alias.as_str(); 9].join(","))
        });
        assert!(parse(&source(&bomb)).is_err());
        assert!(parse(&source(&"[".repeat(100_000))).is_err());
    }
}
