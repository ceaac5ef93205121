//! Lists of strings, of which one has to match, and their forms.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::diagnostic::{Code, Diagnostic};
use crate::document::{Context, Located, Object};

/// Most service accounts in a list.
const MAX_SERVICE_ACCOUNTS: usize = 16;
/// Longest service account with its namespace, in bytes.
const MAX_SERVICE_ACCOUNT_BYTES: usize = 320;
/// A segment of a path, in a template.
const ONE_SEGMENT: &str = "{*}";
/// Any number of segments, in a template.
const ANY_SEGMENTS: &str = "{**}";

/// What a value must be one of, and what it must not be: `values` and `notValues`, `paths` and `notPaths`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ValueMatch {
    /// One of them has to match; empty means that there is no condition.
    pub values: Vec<String>,
    /// None of them may match.
    pub not_values: Vec<String>,
}

impl ValueMatch {
    /// Whether there is no condition at all.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty() && self.not_values.is_empty()
    }

    /// Reads two fields of an object.
    pub(super) fn read(object: &Object<'_>, name: &'static str, not_name: &'static str, form: Form) -> Self {
        let read = |name| form.read_list(object, name);
        Self { values: read(name), not_values: read(not_name) }
    }
}

/// What the strings of a list are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Exact, `prefix*`, `*suffix` or `*`.
    Text,
    /// [`Self::Text`], or a template with `{*}` and `{**}`.
    Path,
    /// An IP address or a range of them.
    Ip,
    /// 0-65535, as text.
    Port,
    /// A namespace, which may have any number of `*`.
    Namespace,
    /// `NAMESPACE/NAME` or `NAME`.
    ServiceAccount,
    /// A trust domain, which may have one `*` at its beginning or end.
    TrustDomain,
}

impl Form {
    fn read_list(self, object: &Object<'_>, name: &'static str) -> Vec<String> {
        let values: Vec<Located<String>> = object.list(name);
        let cx = object.cx.field(name);
        if self == Self::ServiceAccount && values.len() > MAX_SERVICE_ACCOUNTS {
            let message = format!("{} service accounts: at most {MAX_SERVICE_ACCOUNTS} are allowed", values.len());
            cx.invalid(object.key_mark(name), message, "too many");
        }
        for (index, value) in values.iter().enumerate() {
            self.check(value, cx.index(index));
        }
        values.into_iter().map(|value| value.value).collect()
    }

    fn check(self, value: &Located<String>, cx: Context<'_>) {
        let position = value.position.clone();
        if value.is_empty() {
            cx.refuse(position, "the value is empty", "expected a text");
            return;
        }
        let mistake = match self {
            Self::Text => check_wildcards(value, cx),
            Self::Path if value.contains(['{', '}']) => check_template(value),
            Self::Path => check_wildcards(value, cx),
            Self::Ip => check_ip(value),
            Self::Port => check_port(value),
            Self::Namespace => None,
            Self::ServiceAccount => check_service_account(value),
            Self::TrustDomain => check_trust_domain(value),
        };
        if let Some((message, expected)) = mistake {
            cx.refuse(position, message, expected);
        }
    }
}

/// What is wrong with a value, and what was expected.
type Mistake = Option<(String, &'static str)>;

/// Warns of a `*` that is an ordinary character because of its place.
fn check_wildcards(value: &Located<String>, cx: Context<'_>) -> Mistake {
    let inner = value.strip_prefix('*').or_else(|| value.strip_suffix('*')).unwrap_or(value);
    if inner.contains('*') {
        let message = format!("{:?}: only one `*`, at the beginning or the end, is a wildcard", value.value);
        let warning = Diagnostic::warning(Code::SchemaValidation, value.position.clone(), message);
        cx.report(warning.label("the other `*` stand for themselves"));
    }
    None
}

/// Templates have whole segments `{*}`, and `{**}` as their last operator.
fn check_template(value: &str) -> Mistake {
    const EXPECTED: &str = "expected segments {*}, and at last {**}";
    let mut has_any = false;
    for segment in value.trim_matches('/').split('/') {
        match segment {
            ONE_SEGMENT | ANY_SEGMENTS if has_any => {
                return Some((format!("{value:?}: {{**}} must be the last operator"), EXPECTED));
            }
            ANY_SEGMENTS => has_any = true,
            ONE_SEGMENT => {}
            _ if segment.contains(['{', '}']) => {
                let message = format!("{value:?}: {segment:?} is neither a text nor {{*}} nor {{**}}");
                return Some((message, EXPECTED));
            }
            _ if segment.is_empty() || !segment.bytes().all(is_literal) => {
                let message = format!("{value:?}: {segment:?} cannot be a segment of a template");
                return Some((message, "expected characters that a path may have"));
            }
            _ => {}
        }
    }
    // Envoy requires it, so istiod's translation would be refused.
    (!value.starts_with('/')).then(|| (format!("{value:?} does not begin with a slash"), "expected a path"))
}

/// RFC 3986 `pchar`, which Envoy requires of templates.
fn is_literal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()+,;:@=".contains(&byte)
}

fn check_ip(value: &str) -> Mistake {
    if value.contains('/') {
        let is_range = value.parse::<IpNet>().is_ok();
        return (!is_range).then(|| (format!("{value:?} is not a range of addresses"), "expected ADDRESS/LENGTH"));
    }
    value.parse::<IpAddr>().is_err().then(|| (format!("{value:?} is not an IP address"), "expected an IP address"))
}

fn check_port(value: &str) -> Mistake {
    let is_port = value.bytes().all(|byte| byte.is_ascii_digit()) && value.parse::<u16>().is_ok();
    (!is_port).then(|| (format!("{value:?} is not a port"), "expected 0 to 65535"))
}

fn check_service_account(value: &str) -> Mistake {
    const EXPECTED: &str = "expected NAMESPACE/NAME or NAME";
    if value.len() > MAX_SERVICE_ACCOUNT_BYTES {
        let message = format!("{} bytes: at most {MAX_SERVICE_ACCOUNT_BYTES} are allowed", value.len());
        return Some((message, EXPECTED));
    }
    let is_one = value.split('/').count() <= 2 && value.split('/').all(|part| !part.is_empty());
    let has_wildcard = value.contains('*');
    (has_wildcard || !is_one).then(|| (format!("{value:?} is not a service account"), EXPECTED))
}

fn check_trust_domain(value: &str) -> Mistake {
    const EXPECTED: &str = "expected a trust domain, with one `*` at most, at its beginning or end";
    let wildcards = value.matches('*').count();
    let is_outside = value.starts_with('*') || value.ends_with('*');
    let is_fine = wildcards <= 1 && (wildcards == 0 || is_outside) && !value.contains('/');
    (!is_fine).then(|| (format!("{value:?} is not a trust domain"), EXPECTED))
}
