//! `GRPCRoute`: where gRPC requests go.

use super::http_route::{read_headers, read_type};
use super::route::{ParentRef, RouteRule, read_rule};
use crate::config::kind::Resource;
use crate::config::scalar::{StringMatch, check_regex};
use crate::config::{HttpMatch, Metadata};
use crate::document::{Context, FromNode, Located, Node, Object};
use crate::host::Host;

/// Rules for gRPC requests.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GRPCRoute {
    /// Name, namespace, labels.
    pub metadata: Metadata,
    /// What it attaches to.
    pub parent_refs: Vec<ParentRef>,
    /// Hosts that it is for; none means those of the listener.
    pub hostnames: Vec<Located<Host>>,
    /// Its rules.
    pub rules: Vec<RouteRule>,
}

impl Resource for GRPCRoute {
    const LOCAL_FIELDS: &'static [&'static str] = &["spec"];

    fn read(metadata: Metadata, spec: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(spec, cx)?;
        let rules: Vec<GrpcRule> = object.list("rules");
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

struct GrpcRule(RouteRule);

impl FromNode for GrpcRule {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let matches: Vec<Match> = object.list("matches");
        let mut matches: Vec<_> = matches.into_iter().map(|matcher| matcher.0).collect();
        if !object.has("matches") || object.is_empty_list("matches") {
            matches.push(HttpMatch::every_path(object.position()));
        }
        let rule = read_rule(&object, matches);
        for filter in rule.filters.iter().filter(|filter| !filter.is_of_headers()) {
            let message = format!("{} is not a filter of a GRPCRoute", filter.name());
            cx.field("filters").invalid(object.key_mark("filters"), message, "expected changes of headers");
        }
        object.finish();
        Some(Self(rule))
    }
}

struct Match(HttpMatch);

impl FromNode for Match {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let mut matcher = HttpMatch::every_path(object.position());
        if let Some(Method(uri)) = object.optional("method") {
            matcher.uri = Some(uri);
        } else if object.has("method") {
            return None;
        }
        matcher.headers = read_headers(&object);
        object.finish();
        Some(Self(matcher))
    }
}

/// The path of a method.
struct Method(StringMatch);

impl FromNode for Method {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let is_regex = read_type(&object, &[("Exact", -1, Some(false)), ("RegularExpression", -2, Some(true))]);
        let (service, method): (Option<String>, Option<String>) =
            (object.optional("service"), object.optional("method"));
        if service.is_none() && method.is_none() {
            cx.invalid(object.mark(), "the match is empty", "expected service or method");
        }
        let mark = object.mark();
        object.finish();
        let is_regex = is_regex.unwrap_or(Some(false))?;
        let any = || "[^/]+".to_owned();
        let text =
            |part: Option<String>| part.map_or_else(any, |part| if is_regex { part } else { regex::escape(&part) });
        Some(Self(match (service, method) {
            (None, None) => return None,
            (Some(service), Some(method)) if !is_regex => StringMatch::Exact(format!("/{service}/{method}")),
            (Some(service), None) if !is_regex => StringMatch::Prefix(format!("/{service}/")),
            (service, method) => {
                let expression = format!("/{}/{}", text(service), text(method));
                check_regex(&expression, mark, cx)?;
                StringMatch::Regex(expression)
            }
        }))
    }
}
