//! Conditions of a rule: `HTTPMatchRequest`.

use std::collections::BTreeMap;

use super::GatewayName;
use crate::config::scalar::{Labels, StringMatch, labels};
use crate::diagnostic::Position;
use crate::document::{Context, FromNode, Key, Located, Mark, Node, Object, Value};
use crate::name::Name;

/// Conditions that must all hold.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HttpMatch {
    /// Its position.
    pub position: Position,
    /// Appended to the rule's name; may be empty.
    pub name: String,
    /// The path, without the query.
    pub uri: Option<StringMatch>,
    /// The first segments of the path, in place of `uri`: `/a` is a prefix of `/a` and `/a/b`, but not of `/ab`. Only Gateway API
    /// has it.
    pub path_separated_prefix: Option<String>,
    /// Whether `uri` (exact or prefix) is compared without regard to case; default false.
    pub ignore_uri_case: bool,
    /// `http` or `https`.
    pub scheme: Option<StringMatch>,
    /// The method.
    pub method: Option<StringMatch>,
    /// `Host` or `:authority`.
    pub authority: Option<StringMatch>,
    /// Headers that must match, then headers that must not.
    pub headers: Vec<HeaderMatch>,
    /// Claims of the request's token that must match, then claims that must not. Only in gateways.
    pub claims: Vec<ClaimMatch>,
    /// Query parameters that must match.
    pub query_params: BTreeMap<String, StringMatch>,
    /// Which listeners of which nodes the match is for.
    pub listener: ListenerMatch,
}

/// Conditions on the node and its listener. They are decided when the configuration of the node is made.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ListenerMatch {
    /// Port that clients call.
    pub port: Option<u16>,
    /// Labels that the client must have; not for gateways.
    pub source_labels: Labels,
    /// Namespace that the client must be in.
    pub source_namespace: Option<String>,
    /// Replaces the VirtualService's gateways if not empty.
    pub gateways: Vec<GatewayName>,
}

impl ListenerMatch {
    /// Reads the conditions from the fields of a match.
    pub(super) fn read(object: &Object<'_>) -> Self {
        let source_namespace: Option<Located<String>> = object.optional("sourceNamespace");
        if let Some(namespace) = source_namespace.as_ref().filter(|namespace| !Name::Namespace.admits(namespace)) {
            let message = format!("{:?} is not a namespace", namespace.value);
            let expected = format!("expected {}", Name::Namespace.rule());
            object.cx.field("sourceNamespace").refuse(namespace.position.clone(), message, expected);
        }
        Self {
            port: object.port("port"),
            source_labels: labels(object, "sourceLabels").unwrap_or_default(),
            source_namespace: source_namespace.map(|namespace| namespace.value),
            gateways: object.list("gateways"),
        }
    }

    /// Whether every listener of every node meets the conditions.
    pub fn is_empty(&self) -> bool {
        let Self { port, source_labels, source_namespace, gateways } = self;
        port.is_none() && source_labels.is_empty() && source_namespace.is_none() && gateways.is_empty()
    }
}

impl HttpMatch {
    /// A match of every request.
    pub(crate) fn every_path(position: Position) -> Self {
        Self {
            position,
            name: String::new(),
            uri: None,
            path_separated_prefix: None,
            ignore_uri_case: false,
            scheme: None,
            method: None,
            authority: None,
            headers: Vec::new(),
            claims: Vec::new(),
            query_params: BTreeMap::new(),
            listener: ListenerMatch::default(),
        }
    }

    /// Whether every request that reaches the rule matches.
    pub fn is_catch_all(&self) -> bool {
        let any_path = match &self.uri {
            None => true,
            Some(StringMatch::Prefix(prefix)) => prefix.is_empty() || prefix == "/",
            Some(StringMatch::Regex(regex)) => regex == ".*",
            Some(_) => false,
        };
        any_path
            && self.path_separated_prefix.is_none()
            && self.scheme.is_none()
            && self.method.is_none()
            && self.authority.is_none()
            && self.headers.is_empty()
            && self.claims.is_empty()
            && self.query_params.is_empty()
            && self.listener.is_empty()
    }
}

/// A condition on one header.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HeaderMatch {
    /// Lower-case name.
    pub name: String,
    /// What the value must be.
    pub value: StringMatch,
    /// The condition must not hold (`withoutHeaders`).
    pub invert: bool,
}

/// A condition on a claim of the request's token: a header match called `@request.auth.claims.KEY`, or
/// `@request.auth.claims[KEY]` for keys with dots.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClaimMatch {
    /// The keys that lead to the claim.
    pub path: Vec<String>,
    /// What the claim, or an item of it, must be.
    pub value: StringMatch,
    /// The condition must not hold (`withoutHeaders`).
    pub invert: bool,
    /// Place of the key.
    pub position: Position,
}

impl FromNode for HttpMatch {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let (mut headers, mut claims) = (Vec::new(), Vec::new());
        header_matches(&object, "headers", false, (&mut headers, &mut claims));
        header_matches(&object, "withoutHeaders", true, (&mut headers, &mut claims));
        let matcher = Self {
            position: object.position(),
            name: object.optional("name").unwrap_or_default(),
            uri: object.node("uri").and_then(|node| StringMatch::of_path(node, cx.field("uri"))),
            path_separated_prefix: None,
            ignore_uri_case: object.flag("ignoreUriCase"),
            scheme: object.optional("scheme"),
            method: object.optional("method"),
            authority: object.optional("authority"),
            headers,
            claims,
            query_params: named_matches(&object, "queryParams").into_iter().collect(),
            listener: ListenerMatch::read(&object),
        };
        object.unsupported(&["statPrefix"]);
        object.finish();
        Some(matcher)
    }
}

fn header_matches(
    object: &Object<'_>,
    field: &'static str,
    invert: bool,
    (headers, claims): (&mut Vec<HeaderMatch>, &mut Vec<ClaimMatch>),
) {
    let cx = object.cx;
    for (name, value) in named_matches(object, field) {
        let mark = object.node(field).map_or_else(|| object.mark(), |node| key_mark(node, &name));
        let cx = cx.field(field);
        let cx = cx.field(&name);
        if matches!(name.as_str(), "uri" | "scheme" | "method" | "authority") {
            let message = format!("{name:?} as a header key is ignored by Istio");
            cx.invalid(mark, message, format!("use the field {name} of the match"));
        } else if name.starts_with('@') {
            match claim_path(&name) {
                Some(path) => claims.push(ClaimMatch { path, value, invert, position: cx.position(mark) }),
                None => {
                    let message = format!("{name:?} is not the key of a claim");
                    cx.invalid(mark, message, "expected @request.auth.claims.KEY or @request.auth.claims[KEY]");
                }
            }
        } else if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
            cx.invalid(mark, format!("{name:?} is not a header name"), "expected a header name");
        } else {
            headers.push(HeaderMatch { name: name.to_ascii_lowercase(), value, invert });
        }
    }
}

/// The keys in `@request.auth.claims.a.b` or `@request.auth.claims[a][b]`, none of them empty.
fn claim_path(name: &str) -> Option<Vec<String>> {
    let rest = name.strip_prefix("@request.auth.claims")?;
    let keys: Vec<&str> = match rest.strip_prefix('.') {
        Some(keys) => keys.split('.').collect(),
        None => rest.strip_prefix('[')?.strip_suffix(']')?.split("][").collect(),
    };
    keys.iter()
        .all(|key| !key.is_empty() && !key.contains(['[', ']']))
        .then(|| keys.into_iter().map(str::to_owned).collect())
}

/// A map of matches whose values may be `{}`, in the order of the file.
fn named_matches(object: &Object<'_>, field: &'static str) -> Vec<(String, StringMatch)> {
    let cx = object.cx;
    let Some(node) = object.node(field) else { return Vec::new() };
    let cx = cx.field(field);
    let Value::Mapping(entries) = &node.value else {
        // Reports the mismatch.
        Object::new(node, cx);
        return Vec::new();
    };
    let read =
        |(key, value): &(Key, Node)| Some((key.name.clone(), StringMatch::or_present(value, cx.field(&key.name))?));
    entries.iter().filter_map(read).collect()
}

fn key_mark(node: &Node, name: &str) -> Mark {
    let Value::Mapping(entries) = &node.value else { return node.mark };
    entries.iter().find(|(key, _)| key.name == name).map_or(node.mark, |(key, _)| key.mark)
}
