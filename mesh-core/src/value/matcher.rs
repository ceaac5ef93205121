//! Predicates over strings, headers, paths and query parameters.
//!
//! Semantics are Envoy's. Regular expressions have RE2's syntax, run in linear time and match the **whole** value. A value
//! matcher on a missing header is false, also if inverted, unless `treat_missing_header_as_empty` is set. Repeated header
//! lines are tested one by one, and one match suffices. Sources: Envoy `route.v3.HeaderMatcher`,
//! `type.matcher.v3.StringMatcher`.

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

/// A regular expression that does not compile or is longer than the limit.
#[derive(Debug, Error)]
#[error("invalid regular expression {regex:?}: {reason}")]
pub struct InvalidRegex {
    /// The expression.
    pub regex: String,
    /// The error of the compiler, on one line.
    pub reason: String,
}

impl SafeRegex {
    /// Maximum length of an expression in bytes. Istio's limit is 1024; Envoy limits the compiled size.
    pub const MAX_LENGTH: usize = 4096;

    /// Compiles `source`.
    ///
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

    /// Replaces every match within `value`. Group references are RE2's: `\1`. Envoy `RegexMatchAndSubstitute`.
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

/// Converts RE2's `\1` and `\\` to the notation of the regex crate, `${1}` and `\`.
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
    /// Creates a matcher. `ignore_case` applies to ASCII letters, and not to regular expressions.
    #[must_use]
    pub fn new(pattern: StringPattern, ignore_case: bool) -> Self {
        Self { pattern, ignore_case }
    }

    /// Creates a matcher that compares the whole value, case-sensitively.
    #[must_use]
    pub fn exact(value: &str) -> Self {
        Self::new(StringPattern::Exact(value.into()), false)
    }

    /// The pattern.
    #[must_use]
    pub fn pattern(&self) -> &StringPattern {
        &self.pattern
    }

    /// Whether ASCII case is ignored.
    #[must_use]
    pub fn ignores_case(&self) -> bool {
        self.ignore_case
    }

    /// As [`Self::matches`], for a value that may not be UTF-8. A regular expression sees U+FFFD in place of what is not.
    #[must_use]
    pub fn matches_bytes(&self, value: &[u8]) -> bool {
        if let Ok(text) = std::str::from_utf8(value) {
            return self.matches(text);
        }
        let fold = |byte: &u8| if self.ignore_case { byte.to_ascii_lowercase() } else { *byte };
        let equal =
            |a: &[u8], b: &str| a.len() == b.len() && a.iter().zip(b.as_bytes()).all(|(a, b)| fold(a) == fold(b));
        match &self.pattern {
            // A pattern is UTF-8, so it is not the whole value.
            StringPattern::Exact(_) => false,
            StringPattern::Prefix(prefix) => value.get(..prefix.len()).is_some_and(|head| equal(head, prefix)),
            StringPattern::Suffix(suffix) => {
                let start = value.len().checked_sub(suffix.len());
                start.and_then(|start| value.get(start..)).is_some_and(|tail| equal(tail, suffix))
            }
            StringPattern::Contains(part) if part.is_empty() => true,
            StringPattern::Contains(part) => value.windows(part.len()).any(|window| equal(window, part)),
            StringPattern::Regex(regex) => regex.matches(&String::from_utf8_lossy(value)),
        }
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

/// The subject of a header matcher: a header field or a pseudo-header of the request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HeaderKey {
    /// `:method`.
    Method,
    /// `:authority`, also if configured as `host`.
    Authority,
    /// `:path`, with the query.
    Path,
    /// `:scheme`.
    Scheme,
    /// A header field.
    Field(HeaderName),
}

impl HeaderKey {
    /// Parses a configured header name.
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

/// The condition of a header matcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderMatch {
    /// The header is present (`true`) or absent (`false`).
    Present(bool),
    /// A line of the header matches.
    String(StringMatcher),
    /// A line of the header is a decimal integer in `start..end`.
    Range {
        /// First value of the range.
        start: i64,
        /// First value after the range.
        end: i64,
    },
}

/// A predicate over one header. Envoy `route.v3.HeaderMatcher`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderMatcher {
    /// The header.
    pub key: HeaderKey,
    /// The condition.
    pub matches: HeaderMatch,
    /// Invert the result. Default false.
    pub invert_match: bool,
    /// Treat a missing header as one with an empty value. Default false.
    pub treat_missing_header_as_empty: bool,
}

/// A predicate over one query parameter. Envoy `route.v3.QueryParameterMatcher`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryParameterMatcher {
    /// Name of the parameter as written in the URL: case-sensitive, not percent-decoded.
    pub name: Box<str>,
    /// The condition on its first occurrence.
    pub matches: QueryParameterMatch,
}

/// The condition of a query parameter matcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryParameterMatch {
    /// The parameter is present (`true`) or absent (`false`).
    Present(bool),
    /// The value matches; `name` without `=` has an empty value.
    String(StringMatcher),
}

/// A predicate over the request path without its query. Envoy `route.v3.RouteMatch.path_specifier`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathMatcher {
    /// A string prefix: `/foo` matches `/foobar`.
    Prefix(Box<str>),
    /// The whole path.
    Exact(Box<str>),
    /// A prefix of whole segments: `/foo` matches `/foo` and `/foo/bar`, not `/foobar`.
    PathSeparatedPrefix(Box<str>),
    /// The whole path, by a regular expression.
    Regex(SafeRegex),
    /// CONNECT requests (RFC 9110 section 9.3.6) with any path.
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
    fn values_that_are_not_utf8_are_compared_as_bytes() {
        let value = b"ADMIN\xff-x";
        for (pattern, ignore_case, expected) in [
            (StringPattern::Exact("ADMIN".into()), false, false),
            (StringPattern::Prefix("ADMIN".into()), false, true),
            (StringPattern::Prefix("admin".into()), false, false),
            (StringPattern::Prefix("admin".into()), true, true),
            (StringPattern::Suffix("-X".into()), true, true),
            (StringPattern::Suffix("longer than the value".into()), true, false),
            (StringPattern::Contains("DMI".into()), false, true),
            (StringPattern::Contains("dmi".into()), true, true),
            (StringPattern::Contains("dmi".into()), false, false),
            (StringPattern::Contains("".into()), false, true),
            (StringPattern::Regex(SafeRegex::new("ADMIN.-x").unwrap()), false, true),
        ] {
            let matcher = StringMatcher::new(pattern, ignore_case);
            assert_eq!(matcher.matches_bytes(value), expected, "{matcher:?}");
            assert_eq!(matcher.matches_bytes(b"ADMIN-x"), matcher.matches("ADMIN-x"), "{matcher:?}");
        }
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
