//! Names of resources, old and new: `xdstp://AUTHORITY/TYPE/ID?CONTEXT` (gRFC A47).

use std::fmt::Write as _;

/// The scheme of new names.
const SCHEME: &str = "xdstp:";

/// A template with `value` in the place of `%s`. In a new name it is encoded as part of a path.
pub(super) fn filled(template: &str, value: &str) -> String {
    if template.starts_with(SCHEME) { template.replace("%s", &encoded(value)) } else { template.replace("%s", value) }
}

/// Percent-encodes all that RFC 3986 does not allow in a path.
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_in_new_names_are_encoded() {
        for (template, value, expected) in [
            ("%s", "echo:80", "echo:80"),
            ("rig/inbound/%s", "[::1]:80", "rig/inbound/[::1]:80"),
            ("xdstp://a/l/%s?x=1", "[::1]:80", "xdstp://a/l/%5B::1%5D:80?x=1"),
            ("xdstp://a/l/%s", "a/b c", "xdstp://a/l/a/b%20c"),
        ] {
            assert_eq!(filled(template, value), expected);
        }
    }
}
