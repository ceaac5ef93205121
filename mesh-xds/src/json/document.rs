//! A parsed text that can be read as a message, and searched for the position of a field afterwards.

use prost::{Message, Name};

use super::text::{self, Key, Node, Parsed, Value};
use super::{Mark, Overridden, TextError, descriptor, read, transcode};
use crate::descriptor::snake_case;

/// A parsed YAML or JSON text.
#[derive(Debug)]
pub struct Document {
    source_name: String,
    parsed: Parsed,
}

/// The position of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Located {
    /// The position of the value or, if that is an object or a list, of the field's name. If the text does not have the
    /// field, the position of the innermost parent that it has.
    pub mark: Mark,
    /// Length in bytes of the part of the path that was found in the text.
    pub matched: usize,
}

impl Document {
    /// Parses YAML, or JSON if `source_name` ends in `.json`. `source_name`, usually a file path, is shown in errors.
    ///
    /// # Errors
    /// If the text is not valid YAML or JSON.
    pub fn parse(text: &str, source_name: &str) -> Result<Self, TextError> {
        Ok(Self { source_name: source_name.to_owned(), parsed: text::parse(text, source_name)? })
    }

    /// Reads the text as a message.
    ///
    /// # Errors
    /// All unknown fields and invalid values of the text.
    ///
    /// # Panics
    /// If `M` is not one of the messages of [`crate::proto`] or Google's well-known types.
    pub fn read<M: Message + Name + Default>(&self) -> Result<M, Vec<TextError>> {
        let message = read::root(&descriptor::<M>(), &self.parsed.root);
        Ok(transcode(&message.map_err(|error| error.in_source(&self.source_name))?))
    }

    /// What the text says without effect: keys that are given again later, and documents after the first.
    #[must_use]
    pub fn overridden(&self) -> &[Overridden] {
        &self.parsed.overridden
    }

    /// Finds the field at a path such as `static_resources.clusters[0].name` or `filters["a.b"]`. The fields of a message
    /// in an `Any` are next to its `@type`.
    #[must_use]
    pub fn locate(&self, path: &str) -> Located {
        let (mut node, mut mark, mut rest) = (&self.parsed.root, self.parsed.root.mark, path);
        while let Some(step) = step(node, rest) {
            mark = match (&step.node.value, step.key) {
                (Value::Object(_) | Value::List(_), Some(key)) => key.mark,
                _ => step.node.mark,
            };
            (node, rest) = (step.node, step.rest);
        }
        Located { mark, matched: path.len() - rest.len() }
    }
}

struct Step<'n, 'p> {
    key: Option<&'n Key>,
    node: &'n Node,
    rest: &'p str,
}

/// The child of `node` that `path` leads to.
fn step<'n, 'p>(node: &'n Node, path: &'p str) -> Option<Step<'n, 'p>> {
    match &node.value {
        Value::Object(entries) => {
            let children = entries.iter().filter_map(|(key, node)| {
                let rest = after_key(&key.name, path)?;
                Some(Step { key: Some(key), node, rest })
            });
            // Names may contain dots, so the longest matching name is used.
            children.min_by_key(|step| step.rest.len())
        }
        Value::List(nodes) => {
            let (index, rest) = path.strip_prefix('[')?.split_once(']')?;
            Some(Step { key: None, node: nodes.get(index.parse::<usize>().ok()?)?, rest })
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

/// The rest of `path` after the field or the map entry called `key`.
fn after_key<'p>(key: &str, path: &'p str) -> Option<&'p str> {
    if path.starts_with('[') {
        return path.strip_prefix(&*format!("[{key:?}]"));
    }
    let path = path.strip_prefix('.').unwrap_or(path);
    let rest = path.strip_prefix(key).or_else(|| path.strip_prefix(&*snake_case(key)))?;
    (rest.is_empty() || rest.starts_with(['.', '['])).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_followed_to_its_value_or_to_the_innermost_parent() {
        let text =
            "a:\n  someField: [x, {b: 12}]\n  over.lap: {c: yes}\n  over: {lap: 1}\nm: {\"k.e\\ty\": {d: '1'}}\n";
        let document = Document::parse(text, "x").unwrap();
        for (path, matched, expected) in [
            ("a.some_field[1].b", "a.some_field[1].b", (2, 22, 2)),
            ("a.some_field[0]", "a.some_field[0]", (2, 15, 1)),
            ("a.some_field", "a.some_field", (2, 3, 9)),
            ("a.some_field[7].b", "a.some_field", (2, 3, 9)),
            ("a.over.lap.c", "a.over.lap.c", (3, 17, 3)),
            ("m[\"k.e\\ty\"].d", "m[\"k.e\\ty\"].d", (5, 19, 3)),
            ("a.some_field[1].b.c", "a.some_field[1].b", (2, 22, 2)),
            ("a.some", "a", (1, 1, 1)),
        ] {
            let located = document.locate(path);
            let Mark { line, column, length } = located.mark;
            assert_eq!((&path[..located.matched], (line, column, length)), (matched, expected), "{path}");
        }
    }
}
