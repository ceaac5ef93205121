//! The text that every match of a regular expression begins with.
//!
//! Regular expressions are filed in the path index under this text, so that a request meets only those that its path
//! can satisfy. The answer may be shorter than the truth, never longer.

/// The literal beginning of `regex`, in the regex crate's syntax, anchored at the start as route matches are.
pub(super) fn literal_prefix(regex: &str) -> String {
    if has_alternative(regex) {
        return String::new();
    }
    let mut prefix = String::new();
    let mut chars = regex.strip_prefix('^').unwrap_or(regex).chars().peekable();
    while let Some(c) = chars.next() {
        let literal = match c {
            // Escaped punctuation stands for itself; an escaped letter or digit is a class, an anchor or a code.
            '\\' => chars.next().filter(|escaped| escaped.is_ascii_punctuation() && !matches!(escaped, '<' | '>')),
            '.' | '[' | '(' | ')' | '{' | '}' | '*' | '+' | '?' | '|' | '^' | '$' | ']' => None,
            other => Some(other),
        };
        let Some(literal) = literal else { break };
        match chars.peek() {
            // The character may be absent.
            Some('*' | '?' | '{') => break,
            // There is at least one, unless the repetition is repeated; nothing is known of what follows.
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

/// Whether a `|` outside of groups may offer another beginning. What is unclear counts as one: bracket classes may hold
/// parentheses, and flags such as `(?x)` change what a parenthesis means.
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
