//! `HTTPRoute`: where HTTP requests go.

use std::collections::BTreeMap;
use std::time::Duration;

use super::filter::{PathModifier, RouteFilter};
use super::route::{ParentRef, RouteRule, Timeouts, read_rule};
use crate::config::kind::Resource;
use crate::config::scalar::{DurationOrZero, StringMatch, check_regex};
use crate::config::{HeaderMatch, HttpMatch, Metadata, RetryPolicy};
use crate::document::{Context, FromNode, Located, Node, Object};
use crate::host::Host;

/// Rules for HTTP requests.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HTTPRoute {
    /// Name, namespace, labels.
    pub metadata: Metadata,
    /// What it attaches to.
    pub parent_refs: Vec<ParentRef>,
    /// Hosts that it is for; none means those of the listener.
    pub hostnames: Vec<Located<Host>>,
    /// Its rules.
    pub rules: Vec<RouteRule>,
}

impl Resource for HTTPRoute {
    const LOCAL_FIELDS: &'static [&'static str] = &["spec"];

    fn read(metadata: Metadata, spec: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(spec, cx)?;
        let mut rules: Vec<HttpRule> = object.list("rules");
        if !object.has("rules") {
            let every = read_rule(&object, vec![HttpMatch::every_path(object.position())]);
            rules.push(HttpRule(every));
        }
        let route = Self {
            metadata,
            parent_refs: object.list("parentRefs"),
            hostnames: object.list("hostnames"),
            rules: rules.into_iter().map(|rule| rule.0).collect(),
        };
        object.unsupported(&["useDefaultGateways"]);
        object.finish();
        Some(route)
    }
}

struct HttpRule(RouteRule);

impl FromNode for HttpRule {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let matches: Vec<Match> = object.list("matches");
        let mut matches: Vec<_> = matches.into_iter().map(|matcher| matcher.0).collect();
        if !object.has("matches") || object.is_empty_list("matches") {
            matches.push(HttpMatch::every_path(object.position()));
        }
        let timeouts: Timeouts = object.optional("timeouts").unwrap_or_default();
        let retry: Option<Retry> = object.optional("retry");
        let rule = RouteRule { timeouts, retry: retry.map(|retry| retry.0), ..read_rule(&object, matches) };
        check_prefix(&rule, &object);
        object.finish();
        Some(Self(rule))
    }
}

/// A prefix can be replaced only if every match of the rule has one.
fn check_prefix(rule: &RouteRule, object: &Object<'_>) {
    let replaces = |filter: &RouteFilter| match filter {
        RouteFilter::UrlRewrite(rewrite) => matches!(rewrite.path, Some(PathModifier::ReplacePrefixMatch(_))),
        RouteFilter::Headers(_) | RouteFilter::RequestRedirect(_) => false,
    };
    let has_prefix = |matcher: &HttpMatch| !matches!(matcher.uri, Some(StringMatch::Exact(_) | StringMatch::Regex(_)));
    if rule.filters.iter().any(replaces) && !rule.matches.iter().all(has_prefix) {
        let message = "ReplacePrefixMatch needs a match of a prefix";
        object.cx.field("filters").invalid(object.key_mark("filters"), message, "expected matches of PathPrefix only");
    }
}

struct Match(HttpMatch);

impl FromNode for Match {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let mut matcher = HttpMatch::every_path(object.position());
        match object.optional("path") {
            Some(Path::Match(uri)) => matcher.uri = Some(uri),
            Some(Path::Prefix(prefix)) => matcher.path_separated_prefix = Some(prefix),
            None if object.has("path") => return None,
            None => {}
        }
        matcher.method = object.optional("method").map(StringMatch::Exact);
        matcher.headers = read_headers(&object);
        let named: Vec<Named> = object.list("queryParams");
        let mut query_params = BTreeMap::new();
        for Named { name, value } in named {
            // Of several of one name, the first counts.
            query_params.entry(name).or_insert(value);
        }
        matcher.query_params = query_params;
        object.finish();
        Some(Self(matcher))
    }
}

/// The conditions on headers; of several of one name, the first counts.
pub(super) fn read_headers(object: &Object<'_>) -> Vec<HeaderMatch> {
    let named: Vec<Named> = object.list("headers");
    let mut headers: Vec<HeaderMatch> = Vec::new();
    for Named { name, value } in named {
        let name = name.to_ascii_lowercase();
        if headers.iter().all(|known| known.name != name) {
            headers.push(HeaderMatch { name, value, invert: false });
        }
    }
    headers
}

/// A condition on a header or a query parameter.
struct Named {
    name: String,
    value: StringMatch,
}

impl FromNode for Named {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let (name, value) = (object.required("name"), object.required("value"));
        let is_regex = read_type(&object, &[("Exact", -1, Some(false)), ("RegularExpression", -2, Some(true))]);
        let mark = object.value_mark("value");
        object.finish();
        let (name, value, is_regex): (_, String, _) = (name?, value?, is_regex.unwrap_or(Some(false))?);
        if is_regex {
            check_regex(&value, mark, cx.field("value"))?;
        }
        Some(Self { name, value: if is_regex { StringMatch::Regex(value) } else { StringMatch::Exact(value) } })
    }
}

/// Outer `None` if there is no type, inner `None` after a mistake.
pub(super) fn read_type<T: Copy>(object: &Object<'_>, table: &[(&str, i128, Option<T>)]) -> Option<Option<T>> {
    object.node("type").map(|node| object.cx.field("type").enumeration(node, table))
}

enum Path {
    Match(StringMatch),
    Prefix(String),
}

#[derive(Clone, Copy)]
enum PathType {
    Exact,
    Prefix,
    Regex,
}

impl FromNode for Path {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let table = [
            ("Exact", -1, Some(PathType::Exact)),
            ("PathPrefix", -2, Some(PathType::Prefix)),
            ("RegularExpression", -3, Some(PathType::Regex)),
        ];
        let kind = read_type(&object, &table).unwrap_or(Some(PathType::Prefix));
        let value: Option<String> = object.optional("value");
        let mark = object.value_mark("value");
        object.finish();
        let (kind, value) = (kind?, value.unwrap_or_else(|| "/".to_owned()));
        if !matches!(kind, PathType::Regex) && !value.starts_with('/') {
            cx.field("value").invalid(mark, format!("{value:?} is not a path"), "expected a path that begins with /");
            return None;
        }
        Some(match kind {
            PathType::Exact => Self::Match(StringMatch::Exact(value)),
            PathType::Regex => {
                check_regex(&value, mark, cx.field("value"))?;
                Self::Match(StringMatch::Regex(value))
            }
            // Segments are compared, so a slash at the end means nothing.
            PathType::Prefix => match value.trim_end_matches('/') {
                "" => Self::Match(StringMatch::Prefix("/".to_owned())),
                prefix => Self::Prefix(prefix.to_owned()),
            },
        })
    }
}

/// Gateway API `HTTPRouteRetry`.
struct Retry(RetryPolicy);

/// Retries of a policy that does not say how many.
const DEFAULT_ATTEMPTS: u32 = 2;

impl FromNode for Retry {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let codes: Vec<Code> = object.list("codes");
        let backoff: Option<DurationOrZero> = object.optional("backoff");
        let policy = RetryPolicy {
            attempts: object.integer("attempts", 0, i32::MAX.into()).unwrap_or(DEFAULT_ATTEMPTS),
            per_try_timeout: None,
            retry_on: codes.into_iter().map(|code| code.0.to_string()).collect(),
            backoff: backoff.map(|backoff| backoff.0).filter(|backoff| *backoff >= Duration::from_millis(1)),
            retry_ignore_previous_hosts: true,
        };
        object.finish();
        Some(Self(policy))
    }
}

struct Code(u16);

impl FromNode for Code {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        cx.integer(node, 400, 599).and_then(|code| u16::try_from(code).ok()).map(Self)
    }
}
