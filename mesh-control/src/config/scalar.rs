//! Small values that several kinds of resources share: durations, string matches, labels, visibility.

use std::time::Duration;

pub use mesh_core::node::Labels;

use crate::diagnostic::{Code, Diagnostic};
use crate::document::{Context, FromNode, Key, Mark, Node, Object, Value};
use crate::host::{Host, HostError};
use crate::name::Name;

/// Longest regular expression that Istio accepts, in bytes.
const MAX_REGEX_BYTES: usize = 1024;
/// Longest duration: a century.
const MAX_DURATION_HOURS: u64 = 36_525 * 24;

/// How a string is compared. Istio `StringMatch`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StringMatch {
    /// Equal, case-sensitive.
    Exact(String),
    /// Begins with the text; a plain comparison of strings, not of path segments.
    Prefix(String),
    /// The whole value matches the expression (RE2 syntax).
    Regex(String),
    /// Any value: `{}` or `regex: "*"`, for headers and query parameters only.
    Present,
}

impl StringMatch {
    /// Reads a match that may be `{}` or `{regex: "*"}`: the header or parameter is there.
    pub(crate) fn or_present(node: &Node, cx: Context<'_>) -> Option<Self> {
        let is_star = |(key, value): &(Key, Node)| {
            key.name == "regex" && matches!(&value.value, Value::String(regex) if regex == "*")
        };
        match &node.value {
            Value::Mapping(entries) if entries.iter().all(is_star) => Some(Self::Present),
            _ => Self::from_node(node, cx),
        }
    }

    /// Reads a match of a path, whose prefix may be empty.
    pub(crate) fn of_path(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        object.at_most_one_of(&["exact", "prefix", "regex"]);
        let exact = object.optional("exact").map(Self::Exact);
        let prefix = object.optional("prefix").map(Self::Prefix);
        let regex: Option<String> = object.optional("regex");
        if !["exact", "prefix", "regex"].into_iter().any(|name| object.has(name)) {
            cx.invalid(object.mark(), "the match is empty", "expected one of exact, prefix, regex");
        }
        if let Some(text) = &regex {
            let (mark, cx) = (object.value_mark("regex"), cx.field("regex"));
            if text.is_empty() {
                cx.invalid(mark, "the expression is empty", "expected RE2 syntax");
                return None;
            }
            check_regex(text, mark, cx)?;
        }
        object.finish();
        exact.or(prefix).or_else(|| regex.map(Self::Regex))
    }
}

impl FromNode for StringMatch {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let value = Self::of_path(node, cx)?;
        if matches!(&value, Self::Prefix(prefix) if prefix.is_empty()) {
            cx.field("prefix").invalid(node.mark, "the prefix is empty", "expected a text");
            return None;
        }
        Some(value)
    }
}

/// Reports an expression that is too long or does not compile.
pub(crate) fn check_regex(text: &str, mark: Mark, cx: Context<'_>) -> Option<()> {
    if text.len() > MAX_REGEX_BYTES {
        let message = format!("the expression has {} bytes: at most {MAX_REGEX_BYTES} are allowed", text.len());
        cx.invalid(mark, message, "too long");
        return None;
    }
    match regex::Regex::new(text) {
        Ok(_) => Some(()),
        Err(error) => {
            // The message has an excerpt of several lines; the last line is the reason.
            let reason = error.to_string();
            let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ");
            cx.invalid(mark, format!("{text:?} is not a regular expression: {reason}"), "expected RE2 syntax");
            None
        }
    }
}

/// At least one millisecond, in whole milliseconds, as Istio requires.
impl FromNode for Duration {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let value = read_duration(node, cx)?;
        if value < Self::from_millis(1) {
            cx.invalid(
                node.mark,
                format!("{} is too short: must be at least 1ms", text(node)),
                "expected at least 1ms",
            );
            return None;
        }
        Some(value)
    }
}

/// A duration that may also be zero.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DurationOrZero(pub(crate) Duration);

impl FromNode for DurationOrZero {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        read_duration(node, cx).map(Self)
    }
}

fn text(node: &Node) -> String {
    if let Value::String(text) = &node.value { format!("{text:?}") } else { String::new() }
}

fn read_duration(node: &Node, cx: Context<'_>) -> Option<Duration> {
    const EXPECTED: &str = "expected a duration such as 1h, 1m, 1s or 1ms";
    let Value::String(text) = &node.value else {
        let found = node.value.describe();
        let message = match node.value {
            Value::Integer(_) | Value::Float(_) => format!("{found} is not a duration: its unit is missing"),
            _ => format!("expected a duration, found {found}"),
        };
        cx.invalid(node.mark, message, EXPECTED);
        return None;
    };
    let Some(nanos) = parse_duration(text) else {
        cx.invalid(node.mark, format!("{text:?} is not a duration"), EXPECTED);
        return None;
    };
    if nanos % 1_000_000 != 0 {
        cx.invalid(node.mark, format!("{text:?} is not a whole number of milliseconds"), EXPECTED);
        return None;
    }
    match u64::try_from(nanos / 1_000_000) {
        Ok(millis) if millis <= MAX_DURATION_HOURS * 3_600_000 => Some(Duration::from_millis(millis)),
        _ => {
            let bound = format!("at most {MAX_DURATION_HOURS}h");
            cx.invalid(node.mark, format!("{text:?} is too long: must be {bound}"), format!("expected {bound}"));
            None
        }
    }
}

/// Go's `time.ParseDuration` without sign, in nanoseconds: `1h30m`, `1.5s`. `None` if malformed.
fn parse_duration(text: &str) -> Option<u128> {
    if text == "0" {
        return Some(0);
    }
    let (mut rest, mut nanos) = (text, 0_u128);
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let unit_nanos: u128 = match unit {
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "us" | "µs" => 1_000,
            "ns" => 1,
            _ => return None,
        };
        nanos = nanos.checked_add(scaled(number, unit_nanos)?)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(nanos)
}

/// `number` (decimal, perhaps with a fraction) times `unit`, rounded down.
fn scaled(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || whole.len() > 18 || fraction.len() > 18 {
        return None;
    }
    let digits = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<u128>().ok() };
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    Some(digits(whole)?.checked_mul(unit)? + digits(fraction)? * unit / scale)
}

impl FromNode for Host {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let text = String::from_node(node, cx)?;
        match Self::parse(&text, cx.namespace()) {
            Ok(host) => Some(host),
            Err(error @ HostError::PartialWildcard) => {
                cx.unsupported(node.mark, format!("{text:?}: {error}"));
                None
            }
            Err(error) => {
                cx.invalid(node.mark, format!("{text:?} is not a host: {error}"), "expected a host");
                None
            }
        }
    }
}

/// The namespaces that see a resource. Istio `exportTo`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Visibility {
    /// Its own namespace: `.`.
    Own,
    /// Every namespace: `*`; the default.
    All,
    /// No namespace: `~`.
    None,
    /// The named namespace.
    Namespace(String),
}

impl Visibility {
    /// Whether a client in `client` sees a resource of `owner` that is exported to `list`.
    pub fn includes(list: &[Self], owner: &str, client: &str) -> bool {
        list.is_empty()
            || list.iter().any(|entry| match entry {
                Self::Own => owner == client,
                Self::All => true,
                Self::None => false,
                Self::Namespace(name) => name == client,
            })
    }
}

impl FromNode for Visibility {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let text = String::from_node(node, cx)?;
        match text.as_str() {
            "." => Some(Self::Own),
            "*" => Some(Self::All),
            "~" => Some(Self::None),
            _ if Name::Namespace.admits(&text) => Some(Self::Namespace(text)),
            _ => {
                cx.invalid(
                    node.mark,
                    format!("{text:?} is not a namespace"),
                    "expected \".\", \"*\", \"~\" or a namespace",
                );
                None
            }
        }
    }
}

/// Reads labels that a workload has or that select workloads, and refuses invalid ones.
pub(crate) fn labels(object: &Object<'_>, name: &'static str) -> Option<Labels> {
    let labels: Labels = object.optional(name)?;
    if let Value::Mapping(entries) = &object.node(name)?.value {
        let cx = object.cx.field(name);
        for (key, value) in entries {
            let cx = cx.field(&key.name);
            check_label(Name::LabelKey, &key.name, key.mark, cx);
            if let Some(text) = labels.get(&key.name) {
                check_label(Name::LabelValue, text, value.mark, cx);
            }
        }
    }
    Some(labels)
}

fn check_label(name: Name, text: &str, mark: Mark, cx: Context<'_>) {
    if name.admits(text) {
        return;
    }
    let part = if name == Name::LabelKey { "key" } else { "value" };
    let message = format!("{text:?} cannot be the {part} of a label");
    let diagnostic = Diagnostic::error(Code::SchemaValidation, cx.position(mark), message);
    let diagnostic = diagnostic.label(format!("expected {}", name.rule()));
    let is_wildcard = text.contains('*');
    cx.report(if is_wildcard { diagnostic.help("wildcard is not supported in selector") } else { diagnostic });
}

/// Whether the labels include those of the selector; an empty selector selects everything.
pub fn selects(selector: &Labels, labels: &Labels) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        for (text, expected) in [
            ("1h", Some(3_600_000)),
            ("1h30m", Some(5_400_000)),
            ("1.5s", Some(1_500)),
            (".5s", Some(500)),
            ("0s", Some(0)),
            ("15ms", Some(15)),
            ("", None),
            ("5", None),
            ("s", None),
            ("-1s", None),
            ("1d", None),
            ("1s ", None),
            ("1..5s", None),
            ("99999999999999999999h", None),
        ] {
            assert_eq!(parse_duration(text), expected.map(|millis: u128| millis * 1_000_000), "{text:?}");
        }
    }

    #[test]
    fn visibility_follows_export_to() {
        let named = |name: &str| Visibility::Namespace(name.into());
        for (list, client, expected) in [
            (vec![], "other", true),
            (vec![Visibility::All], "other", true),
            (vec![Visibility::Own], "own", true),
            (vec![Visibility::Own], "other", false),
            (vec![Visibility::None], "own", false),
            (vec![Visibility::Own, named("other")], "other", true),
            (vec![named("third")], "other", false),
        ] {
            assert_eq!(Visibility::includes(&list, "own", client), expected, "{list:?} seen by {client}");
        }
    }
}
