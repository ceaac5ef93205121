//! Kubernetes' rules for names of namespaces and resources and for labels.
//!
//! Istio's resources are resources of Kubernetes, so a name that its API server would refuse is refused here. Hosts have
//! their own rules, in [`host`](crate::host). Source: Kubernetes' "Object Names and IDs" and "Labels and Selectors"; RFC 1123.

/// Longest RFC 1123 label, and longest name or value of a label, in bytes.
const MAX_LABEL_BYTES: usize = 63;
/// Longest RFC 1123 subdomain, in bytes.
const MAX_SUBDOMAIN_BYTES: usize = 253;

/// The use of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// A namespace: an RFC 1123 label.
    Namespace,
    /// A resource: an RFC 1123 subdomain.
    Resource,
    /// The key of a label: a name, perhaps behind an RFC 1123 subdomain and `/`.
    LabelKey,
    /// The value of a label; may be empty.
    LabelValue,
}

impl Name {
    /// Whether the text is a valid name of this kind.
    #[must_use]
    pub fn admits(self, text: &str) -> bool {
        match self {
            Self::Namespace => is_label(text),
            Self::Resource => is_subdomain(text),
            Self::LabelKey => match text.split_once('/') {
                Some((prefix, name)) => is_subdomain(prefix) && is_qualified(name),
                None => is_qualified(text),
            },
            Self::LabelValue => text.is_empty() || is_qualified(text),
        }
    }

    /// Description of the valid names, for "expected ...".
    #[must_use]
    pub fn rule(self) -> &'static str {
        match self {
            Self::Namespace => {
                "at most 63 lower-case letters, digits and '-', beginning and ending with a letter or digit"
            }
            Self::Resource => {
                "at most 253 lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit"
            }
            Self::LabelKey => {
                "at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit, perhaps behind \
                 a DNS name and '/'"
            }
            Self::LabelValue => {
                "nothing, or at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit"
            }
        }
    }
}

/// RFC 1123 label, in lower case as Kubernetes requires.
fn is_label(text: &str) -> bool {
    text.len() <= MAX_LABEL_BYTES && is_part(text)
}

fn is_subdomain(text: &str) -> bool {
    text.len() <= MAX_SUBDOMAIN_BYTES && text.split('.').all(is_part)
}

fn is_part(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    text.bytes().all(is_inner) && !text.is_empty() && !text.starts_with('-') && !text.ends_with('-')
}

/// Kubernetes' "qualified name" without its prefix.
fn is_qualified(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let is_outer = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    text.len() <= MAX_LABEL_BYTES && text.bytes().all(is_inner) && is_outer(bytes.first()) && is_outer(bytes.last())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_kubernetes() {
        let (longest_label, longest_subdomain) = ("a".repeat(63), format!("{}.{}", "a".repeat(63), "b".repeat(189)));
        for (name, admitted, refused) in [
            (
                Name::Namespace,
                ["default", "a-1", "0", &longest_label],
                ["", "a.b", "-a", "a-", "A", "a_b", "a b", "ä", &format!("{longest_label}a")],
            ),
            (
                Name::Resource,
                ["reviews", "a.b-c.d", "0.1", &longest_subdomain],
                ["", ".a", "a.", "a..b", "a.-b", "Reviews", "a_b", "a/b", &format!("{longest_subdomain}b")],
            ),
            (
                Name::LabelKey,
                ["app", "app.kubernetes.io/name", "A_b.c-d", &longest_label],
                ["", "a/", "/a", "a/b/c", "-a", "a_", "a b", "Example.com/a", &format!("{longest_label}a")],
            ),
            (
                Name::LabelValue,
                ["", "v1", "1.2_3-A", &longest_label],
                ["-", "a-", ".a", "a b", "a/b", "*", "ü", "a:b", &format!("{longest_label}a")],
            ),
        ] {
            for text in admitted {
                assert!(name.admits(text), "{name:?} {text:?}");
            }
            for text in refused {
                assert!(!name.admits(text), "{name:?} {text:?}");
            }
        }
    }
}
