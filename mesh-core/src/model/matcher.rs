//! Predicates over strings, headers, paths and query parameters.
//!
//! Semantics are Envoy's: regular expressions match the **whole** value (RE2 syntax, linear time); a value matcher on a
//! missing header is false, also when inverted, unless `treat_missing_header_as_empty`; repeated header lines are
//! tested one by one and any hit suffices (`features.md` E1, E2).

use http::HeaderName;
use regex::Regex;
use thiserror::Error;

/// A regular expression that matches whole values. Envoy `type.matcher.v3.RegexMatcher`.
#[derive(Clone, Debug)]
pub struct SafeRegex {
    source: Box<str>,
    whole: Regex,
    within: Regex,
}

/// A regular expression that does not compile, or is larger than the limit.
#[derive(Debug, Error)]
#[error("invalid regular expression {regex:?}: {reason}")]
pub struct InvalidRegex {
    /// The expression as given.
    pub regex: String,
    /// What the compiler says, on one line.
    pub reason: String,
}

impl SafeRegex {
    /// Longest expression taken, in bytes. Istio's limit is 1024; Envoy's is by compiled size.
    pub const MAX_LENGTH: usize = 4096;

    /// # Errors
    /// If `source` does not compile or is longer than [`SafeRegex::MAX_LENGTH`].
    pub fn new(source: &str) -> Result<Self, InvalidRegex> {
        let invalid = |reason: String| InvalidRegex { regex: source.to_owned(), reason };
        if source.len() > Self::MAX_LENGTH {
            return Err(invalid(format!("{} bytes is longer than the limit of {}", source.len(), Self::MAX_LENGTH)));
        }
        let compile = |text: &str| {
            Regex::new(text).map_err(|error| {
                let text = error.to_string();
                invalid(text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned())
            })
        };
        Ok(Self { source: source.into(), within: compile(source)?, whole: compile(&format!("^(?:{source})$"))? })
    }

    /// The expression as configured.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// Whether the expression matches all of `value`.
    #[must_use]
    pub fn matches(&self, value: &str) -> bool {
        self.whole.is_match(value)
    }

    /// Replaces every match within `value`, as Envoy's `RegexMatchAndSubstitute` (RE2 `\1` group references).
    #[must_use]
    pub fn replace_all(&self, value: &str, substitution: &str) -> String {
        self.within.replace_all(value, rust_substitution(substitution).as_str()).into_owned()
    }
}

impl PartialEq for SafeRegex {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for SafeRegex {}

/// RE2's `\1` and `\\` in the regex crate's notation `${1}`.
fn rust_substitution(substitution: &str) -> String {
    let mut rust = String::with_capacity(substitution.len() + 4);
    let mut chars = substitution.chars();
    while let Some(c) = chars.next() {
        match c {
            '$' => rust.push_str("$$"),
            '\\' => match chars.next() {
                Some(digit) if digit.is_ascii_digit() => {
                    rust.push_str("${");
                    rust.push(digit);
                    rust.push('}');
                }
                Some(other) => rust.push(other),
                None => rust.push('\\'),
            },
            other => rust.push(other),
        }
    }
    rust
}

/// How a [`StringMatcher`] compares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StringPattern {
    /// The whole value.
    Exact(Box<str>),
    /// The beginning of the value.
    Prefix(Box<str>),
    /// The end of the value.
    Suffix(Box<str>),
    /// Anywhere in the value.
    Contains(Box<str>),
    /// The whole value, by a regular expression; `ignore_case` has no effect.
    Regex(SafeRegex),
}

/// A predicate over one string. Envoy `type.matcher.v3.StringMatcher`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StringMatcher {
    pattern: StringPattern,
    ignore_case: bool,
}

impl StringMatcher {
    /// A matcher; with `ignore_case` ASCII letters compare equal in either case (not for regular expressions).
    #[must_use]
    pub fn new(pattern: StringPattern, ignore_case: bool) -> Self {
        Self { pattern, ignore_case }
    }

    /// A case-sensitive comparison with the whole value.
    #[must_use]
    pub fn exact(value: &str) -> Self {
        Self::new(StringPattern::Exact(value.into()), false)
    }

    /// The pattern compared with.
    #[must_use]
    pub fn pattern(&self) -> &StringPattern {
        &self.pattern
    }

    /// Whether ASCII case is ignored.
    #[must_use]
    pub fn ignores_case(&self) -> bool {
        self.ignore_case
    }

    /// Whether `value` satisfies the predicate.
    #[must_use]
    pub fn matches(&self, value: &str) -> bool {
        match (&self.pattern, self.ignore_case) {
            (StringPattern::Exact(exact), false) => **exact == *value,
            (StringPattern::Exact(exact), true) => exact.eq_ignore_ascii_case(value),
            (StringPattern::Prefix(prefix), false) => value.starts_with(&**prefix),
            (StringPattern::Prefix(prefix), true) => {
                value.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix))
            }
            (StringPattern::Suffix(suffix), false) => value.ends_with(&**suffix),
            (StringPattern::Suffix(suffix), true) => value
                .len()
                .checked_sub(suffix.len())
                .and_then(|start| value.get(start..))
                .is_some_and(|tail| tail.eq_ignore_ascii_case(suffix)),
            (StringPattern::Contains(part), false) => value.contains(&**part),
            (StringPattern::Contains(part), true) => value.to_ascii_lowercase().contains(&*part.to_ascii_lowercase()),
            (StringPattern::Regex(regex), _) => regex.matches(value),
        }
    }
}

/// What a header matcher looks at: a header field, or one of the request's pseudo-headers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HeaderKey {
    /// `:method`.
    Method,
    /// `:authority` (also when configured as `host`).
    Authority,
    /// `:path`, with the query.
    Path,
    /// `:scheme`.
    Scheme,
    /// A header field.
    Field(HeaderName),
}

impl HeaderKey {
    /// The key for a configured header name.
    ///
    /// # Errors
    /// If `name` is not a valid header name.
    pub fn parse(name: &str) -> Result<Self, http::header::InvalidHeaderName> {
        match name.to_ascii_lowercase().as_str() {
            ":method" => Ok(Self::Method),
            ":authority" | "host" => Ok(Self::Authority),
            ":path" => Ok(Self::Path),
            ":scheme" => Ok(Self::Scheme),
            field => field.parse().map(Self::Field),
        }
    }
}

/// What is asked of a header's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderMatch {
    /// The header is there (`true`) or is not there (`false`).
    Present(bool),
    /// A line of the header has such a value.
    String(StringMatcher),
    /// A line of the header is a base-10 integer within `start..end`.
    Range {
        /// First value inside.
        start: i64,
        /// First value outside.
        end: i64,
    },
}

/// A predicate over one header. Envoy `route.v3.HeaderMatcher`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderMatcher {
    /// The header looked at.
    pub key: HeaderKey,
    /// What is asked of it.
    pub matches: HeaderMatch,
    /// Inverts the answer. Default false.
    pub invert_match: bool,
    /// Treats a missing header as one with an empty value. Default false.
    pub treat_missing_header_as_empty: bool,
}

/// A predicate over one query parameter. Envoy `route.v3.QueryParameterMatcher`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryParameterMatcher {
    /// Name of the parameter, case-sensitive, as it stands in the URL (not percent-decoded).
    pub name: Box<str>,
    /// What is asked of its first occurrence.
    pub matches: QueryParameterMatch,
}

/// What is asked of a query parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryParameterMatch {
    /// The parameter is there (`true`) or is not there (`false`).
    Present(bool),
    /// The parameter is there with such a value; `name` alone counts as an empty value.
    String(StringMatcher),
}

/// A predicate over the request path without its query. Envoy `route.v3.RouteMatch.path_specifier`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathMatcher {
    /// A plain string prefix: `/foo` also matches `/foobar`.
    Prefix(Box<str>),
    /// The whole path.
    Exact(Box<str>),
    /// A prefix of whole segments: `/foo` matches `/foo` and `/foo/bar`, not `/foobar`.
    PathSeparatedPrefix(Box<str>),
    /// The whole path, by a regular expression.
    Regex(SafeRegex),
    /// CONNECT requests (RFC 9110 section 9.3.6), whatever their path.
    Connect,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: StringPattern, ignore_case: bool, value: &str, expected: bool) {
        let matcher = StringMatcher::new(pattern, ignore_case);
        assert_eq!(matcher.matches(value), expected, "{matcher:?} on {value:?}");
    }

    #[test]
    fn string_patterns_compare_as_envoy_does() {
        check(StringPattern::Exact("abc".into()), false, "abc", true);
        check(StringPattern::Exact("abc".into()), false, "ABC", false);
        check(StringPattern::Exact("abc".into()), true, "ABC", true);
        check(StringPattern::Prefix("/foo".into()), false, "/foobar", true);
        check(StringPattern::Prefix("/foo".into()), true, "/FOObar", true);
        check(StringPattern::Prefix("/foo".into()), true, "/é", false);
        check(StringPattern::Suffix(".org".into()), true, "x.ORG", true);
        check(StringPattern::Suffix("longer".into()), true, "x", false);
        check(StringPattern::Contains("BC".into()), true, "abcd", true);
        check(StringPattern::Regex(SafeRegex::new("a.c").unwrap()), false, "abcd", false);
        check(StringPattern::Regex(SafeRegex::new("a.c|abcd").unwrap()), false, "abcd", true);
    }

    #[test]
    fn substitution_uses_re2_group_references() {
        let regex = SafeRegex::new("^/ratings/([0-9]+)$").unwrap();
        assert_eq!(regex.replace_all("/ratings/7", r"/v1/\1$\\"), r"/v1/7$\");
    }

    #[test]
    fn an_invalid_regex_is_refused_with_its_text() {
        let error = SafeRegex::new("a(b").unwrap_err().to_string();
        assert!(error.contains("\"a(b\"") && error.contains("unclosed group"), "{error}");
    }
}
