//! Templates of paths.

use std::fmt::Write as _;

use thiserror::Error;

use crate::value::SafeRegex;

/// A template of a path: `*` is a segment that is not empty, `**` is any text, `{name}` is `*` and `{name=pattern}` its
/// pattern. Envoy `path.match.uri_template.v3.UriTemplateMatchConfig`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UriTemplate {
    source: Box<str>,
    regex: SafeRegex,
}

/// A template that is not valid.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{template:?} is not a template of a path: {reason}")]
pub struct InvalidTemplate {
    template: String,
    reason: &'static str,
}

impl UriTemplate {
    /// Maximum number of variables, as in Envoy.
    const MAX_VARIABLES: usize = 5;

    /// Parses a template.
    ///
    /// # Errors
    /// If the template does not begin with a slash, has an operator that is not a whole segment, another operator after
    /// `**`, unbalanced braces, or characters that a path cannot have.
    pub fn parse(template: &str) -> Result<Self, InvalidTemplate> {
        let invalid = |reason| InvalidTemplate { template: template.to_owned(), reason };
        let mut parser = Parser { variables: 0, has_any: false, regex: String::new() };
        let rest = template.strip_prefix('/').ok_or_else(|| invalid("it does not begin with a slash"))?;
        parser.regex.push('/');
        parser.path(rest).map_err(invalid)?;
        let regex = SafeRegex::new(&parser.regex).map_err(|_| invalid("it is too long"))?;
        Ok(Self { source: template.into(), regex })
    }

    /// Whether `path`, without a query, has the form of the template.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        self.regex.matches(path)
    }

    /// The template as configured.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.source
    }
}

struct Parser {
    variables: usize,
    /// Whether there was a `**`, after which no operator may follow.
    has_any: bool,
    regex: String,
}

impl Parser {
    fn path(&mut self, text: &str) -> Result<(), &'static str> {
        let mut rest = text;
        loop {
            let end = end_of_segment(rest)?;
            self.segment(&rest[..end])?;
            match rest[end..].strip_prefix('/') {
                Some(next) => rest = next,
                None => return Ok(()),
            }
            self.regex.push('/');
        }
    }

    fn segment(&mut self, segment: &str) -> Result<(), &'static str> {
        match segment {
            "" => Ok(()),
            "*" => self.operator("[^/]+"),
            "**" => self.operator(".*"),
            _ if segment.starts_with('{') => self.variable(segment),
            // Envoy allows a suffix after an operator, such as `**.m3u8`.
            _ => {
                let literal = if let Some(suffix) = segment.strip_prefix("**") {
                    self.operator(".*")?;
                    suffix
                } else if let Some(suffix) = segment.strip_prefix('*') {
                    self.operator("[^/]+")?;
                    suffix
                } else {
                    segment
                };
                self.literal(literal)
            }
        }
    }

    fn operator(&mut self, regex: &str) -> Result<(), &'static str> {
        if self.has_any {
            return Err("** must be the last operator");
        }
        self.has_any = regex == ".*";
        self.regex.push_str(regex);
        Ok(())
    }

    fn variable(&mut self, segment: &str) -> Result<(), &'static str> {
        let end = segment.find('}').ok_or("a brace is not closed")?;
        let (inner, rest) = (&segment[1..end], &segment[end + 1..]);
        let (name, pattern) = inner.split_once('=').unwrap_or((inner, "*"));
        let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && name.starts_with(|c: char| c.is_ascii_alphabetic());
        if !is_name || pattern.is_empty() || pattern.contains('{') {
            return Err("a variable has no valid name or pattern");
        }
        self.variables += 1;
        if self.variables > UriTemplate::MAX_VARIABLES {
            return Err("it has more than five variables");
        }
        self.path(pattern)?;
        self.literal(rest)
    }

    /// Characters of RFC 3986 `pchar`, and `%`.
    fn literal(&mut self, text: &str) -> Result<(), &'static str> {
        let may_be = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()+,;:@=".contains(&byte);
        if !text.bytes().all(may_be) {
            return Err("a segment has characters that it cannot have");
        }
        for c in text.chars() {
            if c.is_ascii_alphanumeric() {
                self.regex.push(c);
            } else {
                write!(self.regex, "\\x{{{:x}}}", u32::from(c)).expect("writing to a string does not fail");
            }
        }
        Ok(())
    }
}

/// The end of the first segment: its slash, which is not within braces.
fn end_of_segment(text: &str) -> Result<usize, &'static str> {
    let mut depth = 0_usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth = depth.checked_sub(1).ok_or("a brace is not opened")?,
            b'/' if depth == 0 => return Ok(at),
            _ => {}
        }
    }
    if depth > 0 { Err("a brace is not closed") } else { Ok(text.len()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_match_whole_paths() {
        for (template, path, expected) in [
            ("/foo/*/bar/**", "/foo/buzz/bar/bat.txt", true),
            ("/foo/*/bar/**", "/foo/buzz/bar/bat/x", true),
            ("/foo/*/bar/**", "/foo/bar/bat.txt", false),
            ("/foo/*/bar/**", "/foo//bar/x", false),
            ("/allow/admin/**", "/allow/admin/", true),
            ("/allow/admin/**", "/allow/admin", false),
            ("/allow/admin/**", "/allow/admin/a/b", true),
            ("/store/**/cart", "/store//cart", true),
            ("/store/**/cart", "/store/cart", false),
            ("/store/**/cart", "/store/a/b/cart", true),
            ("/a/*", "/a/x*~;=@:y", true),
            ("/a/*", "/a/%c3%a9", true),
            ("/a/*", "/a/é", true),
            ("/a.b/*", "/axb/c", false),
            ("/a/{x}/{y=b/*}/c", "/a/1/b/2/c", true),
            ("/a/{x}/{y=b/*}/c", "/a/1/2/c", false),
            ("/v/**.m3u8", "/v/a/b.m3u8", true),
            ("/v/*.ts", "/v/a/b.ts", false),
            ("/", "/", true),
        ] {
            assert_eq!(UriTemplate::parse(template).unwrap().matches(path), expected, "{template} {path}");
        }
    }

    #[test]
    fn invalid_templates_are_refused() {
        for template in ["", "a", "/**/*", "/**/**", "/{a", "/a}", "/a*", "/{1}", "/{a=}", "/{a={b}}", "/a b", "/a?b"] {
            assert!(UriTemplate::parse(template).is_err(), "{template}");
        }
        assert!(UriTemplate::parse("/{a}/{b}/{c}/{d}/{e}").is_ok());
        assert!(UriTemplate::parse("/{a}/{b}/{c}/{d}/{e}/{f}").is_err());
    }
}
