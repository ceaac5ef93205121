//! Cross-origin requests: `CorsPolicy`.

use std::time::Duration;

use crate::config::scalar::StringMatch;
use crate::diagnostic::{Code, Diagnostic};
use crate::document::{Context, FromNode, Located, Node, Object};

/// Methods that Istio accepts, and `*` for any.
const METHODS: [&str; 10] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*"];

/// Which cross-origin requests a browser may make. Istio `CorsPolicy`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CorsPolicy {
    /// Origins that are allowed; none allows no origin.
    pub allow_origins: Vec<StringMatch>,
    /// `access-control-allow-methods`.
    pub allow_methods: Vec<String>,
    /// `access-control-allow-headers`.
    pub allow_headers: Vec<String>,
    /// `access-control-expose-headers`.
    pub expose_headers: Vec<String>,
    /// `access-control-max-age`: how long a browser may cache the response to a preflight request. Whole seconds.
    pub max_age: Option<Duration>,
    /// `access-control-allow-credentials`, sent if it is true.
    pub allow_credentials: Option<bool>,
    /// What happens to preflight requests from origins that are not allowed.
    pub unmatched_preflights: UnmatchedPreflights,
}

/// Istio `CorsPolicy.UnmatchedPreflights`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnmatchedPreflights {
    /// They are sent on like other requests; the default.
    #[default]
    Forward,
    /// The response is sent without `access-control-allow-origin`.
    Ignore,
}

impl FromNode for CorsPolicy {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let table = [
            ("UNSPECIFIED", 0, Some(UnmatchedPreflights::Forward)),
            ("FORWARD", 1, Some(UnmatchedPreflights::Forward)),
            ("IGNORE", 2, Some(UnmatchedPreflights::Ignore)),
        ];
        let preflights = object.node("unmatchedPreflights");
        let policy = Self {
            allow_origins: read_origins(&object),
            allow_methods: read_list(&object, "allowMethods", "an HTTP method", |method| METHODS.contains(&method)),
            allow_headers: read_list(&object, "allowHeaders", "a header name", is_header),
            expose_headers: read_list(&object, "exposeHeaders", "a header name", is_header),
            max_age: object.optional("maxAge"),
            allow_credentials: object.optional("allowCredentials"),
            unmatched_preflights: preflights
                .and_then(|node| cx.field("unmatchedPreflights").enumeration(node, &table))
                .unwrap_or_default(),
        };
        if policy.max_age.is_some_and(|age| age.subsec_nanos() != 0) {
            let message = "maxAge is not a whole number of seconds";
            cx.field("maxAge").invalid(object.value_mark("maxAge"), message, "expected whole seconds");
        }
        object.finish();
        Some(policy)
    }
}

/// `allowOrigins`, or the older `allowOrigin`, whose origins are exact.
fn read_origins(object: &Object<'_>) -> Vec<StringMatch> {
    let origins: Option<Vec<Origin>> = object.optional("allowOrigins");
    let exact: Option<Vec<String>> = object.optional("allowOrigin");
    if object.has("allowOrigin") {
        let position = object.cx.position(object.key_mark("allowOrigin"));
        let message = if object.has("allowOrigins") {
            "allowOrigin has no effect beside allowOrigins"
        } else {
            "allowOrigin is deprecated"
        };
        let warning = Diagnostic::warning(Code::SchemaValidation, position, message).label("use allowOrigins");
        object.cx.field("allowOrigin").report(warning);
    }
    let exact = exact.unwrap_or_default().into_iter().map(StringMatch::Exact).collect();
    origins.map_or(exact, |origins| origins.into_iter().map(|origin| origin.0).collect())
}

/// A match that is not empty.
struct Origin(StringMatch);

impl FromNode for Origin {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let origin = StringMatch::from_node(node, cx)?;
        let (StringMatch::Exact(text) | StringMatch::Prefix(text) | StringMatch::Regex(text)) = &origin else {
            return Some(Self(origin));
        };
        if text.is_empty() {
            cx.invalid(node.mark, "the match is empty", "expected an origin");
            return None;
        }
        Some(Self(origin))
    }
}

/// A list whose items must be `what`, or `*`.
fn read_list(object: &Object<'_>, field: &'static str, what: &str, is_valid: fn(&str) -> bool) -> Vec<String> {
    let items: Vec<Located<String>> = object.list(field);
    for (i, item) in items.iter().enumerate().filter(|(_, item)| !is_valid(item)) {
        let cx = object.cx.field(field);
        let message = format!("{:?} is not {what}", item.value);
        cx.index(i).refuse(item.position.clone(), message, format!("expected {what} or *"));
    }
    items.into_iter().map(|item| item.value).collect()
}

fn is_header(name: &str) -> bool {
    name == "*" || http::HeaderName::from_bytes(name.as_bytes()).is_ok()
}
