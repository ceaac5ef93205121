//! The literal prefix of a regular expression: text that every match begins with.
//!
//! The path index keeps regular expressions by this prefix, so a request is tested against those that can match only. The
//! prefix may be shorter than the longest possible one, but never longer.

/// The literal prefix of `regex`, which has the syntax of the regex crate and is anchored at its start.
pub(super) fn literal_prefix(regex: &str) -> String {
    if has_alternative(regex) {
        return String::new();
    }
    let mut prefix = String::new();
    let mut chars = regex.strip_prefix('^').unwrap_or(regex).chars().peekable();
    while let Some(c) = chars.next() {
        let literal = match c {
            // Escaped punctuation is a literal; an escaped letter or digit is a class, an anchor or a code point.
            '\\' => chars.next().filter(|escaped| escaped.is_ascii_punctuation() && !matches!(escaped, '<' | '>')),
            '.' | '[' | '(' | ')' | '{' | '}' | '*' | '+' | '?' | '|' | '^' | '$' | ']' => None,
            other => Some(other),
        };
        let Some(literal) = literal else { break };
        match chars.peek() {
            // The character may be absent.
            Some('*' | '?' | '{') => break,
            // The character occurs at least once, unless the repetition is itself repeated. What follows is unknown.
            Some('+') => {
                chars.next();
                if !matches!(chars.peek(), Some('*' | '?' | '{')) {
                    prefix.push(literal);
                }
                break;
            }
            _ => prefix.push(literal),
        }
    }
    prefix
}

/// Whether a `|` outside of groups may give matches another prefix. Brackets may contain parentheses, and flags such as
/// `(?x)` change the meaning of parentheses; after either, every `|` counts.
fn has_alternative(regex: &str) -> bool {
    let (mut groups, mut unclear) = (0u32, false);
    let mut chars = regex.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                chars.next();
            }
            '[' => unclear = true,
            '(' => {
                groups += 1;
                unclear |= chars.peek() == Some(&'?');
            }
            ')' => groups = groups.saturating_sub(1),
            '|' if groups == 0 || unclear => return true,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_ends_where_a_match_may_vary() {
        for (regex, expected) in [
            ("/re/[0-9]+", "/re/"),
            ("^/v1\\.0/users?/.*", "/v1.0/user"),
            ("/a+b", "/a"),
            ("/a+*b", "/"),
            ("/a+{0}b", "/"),
            ("/ab*c", "/a"),
            ("/ab{0,2}", "/a"),
            ("/a|/b", ""),
            ("/(a|b)", "/"),
            ("/[|]x|/b", ""),
            ("/[[a](]|/b", ""),
            ("/a(?x) # (\n|/b", ""),
            ("/a\\|b", "/a|b"),
            ("(?i)/a", ""),
            ("\\d/a", ""),
            (".*", ""),
            ("/plain", "/plain"),
            ("", ""),
        ] {
            assert_eq!(literal_prefix(regex), expected, "{regex}");
        }
    }
}
