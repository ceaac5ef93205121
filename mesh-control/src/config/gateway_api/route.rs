//! What the routes of Gateway API have in common: parents, rules, backends and timeouts.

use std::time::Duration;

use super::filter::{RouteFilter, read_filters};
use crate::config::scalar::DurationOrZero;
use crate::config::{HttpMatch, RetryPolicy};
use crate::diagnostic::Position;
use crate::document::{Context, FromNode, Node, Object};

/// A reference to an object that another one needs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObjectRef {
    /// API group; empty for the core group.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Namespace; none means that of the resource that refers.
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
}

/// What a route attaches to: a listener of a Gateway, or a Service, whose clients in the mesh then follow the route.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParentRef {
    /// The Gateway or Service.
    pub object: ObjectRef,
    /// The only listener; none means every listener that allows it.
    pub section_name: Option<String>,
    /// The only port; none means every port.
    pub port: Option<u16>,
}

/// A service and its share of the requests.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BackendRef {
    /// Its position.
    pub position: Position,
    /// The Service.
    pub object: ObjectRef,
    /// The Service's port; required for a Service.
    pub port: Option<u16>,
    /// Share relative to the sum of the rule's weights, default 1.
    pub weight: u32,
    /// Changes of headers for this backend.
    pub filters: Vec<RouteFilter>,
}

/// A rule of a route.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RouteRule {
    /// Its position.
    pub position: Position,
    /// Its name; may be empty.
    pub name: String,
    /// Any of these must match, at least one.
    pub matches: Vec<HttpMatch>,
    /// What happens to a request that matches.
    pub filters: Vec<RouteFilter>,
    /// Where requests go.
    pub backend_refs: Vec<BackendRef>,
    /// How long they may take.
    pub timeouts: Timeouts,
    /// How failed requests are repeated; none means Istio's default policy.
    pub retry: Option<RetryPolicy>,
}

/// Times of a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timeouts {
    /// Time for the whole request; none means no limit.
    pub request: Option<Duration>,
    /// Time for each try; none means that of the request.
    pub backend_request: Option<Duration>,
}

impl ObjectRef {
    /// Reads a reference whose group and kind have defaults.
    fn read(object: &Object<'_>, group: &str, kind: &str) -> Option<Self> {
        let name = object.required("name");
        Some(Self {
            group: object.optional("group").unwrap_or_else(|| group.to_owned()),
            kind: object.optional("kind").unwrap_or_else(|| kind.to_owned()),
            namespace: object.optional("namespace"),
            name: name?,
        })
    }

    /// The namespace that it is in, for a reference from `own`.
    pub fn namespace<'a>(&'a self, own: &'a str) -> &'a str {
        self.namespace.as_deref().unwrap_or(own)
    }
}

/// A reference to a Secret, whose kind is the default.
impl FromNode for ObjectRef {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let reference = Self::read(&object, "", "Secret");
        object.finish();
        reference
    }
}

impl FromNode for ParentRef {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let reference = ObjectRef::read(&object, super::GROUP, "Gateway");
        let (section_name, port) = (object.optional("sectionName"), object.port("port"));
        object.finish();
        Some(Self { object: reference?, section_name, port })
    }
}

impl FromNode for BackendRef {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let reference = ObjectRef::read(&object, "", "Service");
        let weight = object.integer("weight", 0, 1_000_000).unwrap_or(1);
        let (position, port, filters) = (object.position(), object.port("port"), read_filters(&object));
        for (i, filter) in filters.iter().enumerate() {
            if !filter.is_of_headers() {
                let cx = cx.field("filters");
                cx.index(i).unsupported(object.value_mark("filters"), "only headers can be changed for one backend");
            }
        }
        object.finish();
        Some(Self { position, object: reference?, port, weight, filters })
    }
}

impl FromNode for Timeouts {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        // Zero is no limit.
        let read = |name| {
            let time: Option<DurationOrZero> = object.optional(name);
            time.map(|time| time.0).filter(|time| !time.is_zero())
        };
        let timeouts = Self { request: read("request"), backend_request: read("backendRequest") };
        if let Self { request: Some(request), backend_request: Some(of_try) } = timeouts
            && of_try > request
        {
            let message = "backendRequest is longer than request";
            cx.field("backendRequest").invalid(object.value_mark("backendRequest"), message, "expected a shorter time");
        }
        object.finish();
        Some(timeouts)
    }
}

/// Reads what every rule has, except its matches.
pub(super) fn read_rule(object: &Object<'_>, matches: Vec<HttpMatch>) -> RouteRule {
    let filters = read_filters(object);
    let backend_refs: Vec<BackendRef> = object.list("backendRefs");
    let redirects = filters.iter().any(|filter| matches!(filter, RouteFilter::RequestRedirect(_)));
    let field = |name: &'static str, message: &str, expected: &str| {
        object.cx.field(name).invalid(object.key_mark(name), message.to_owned(), expected);
    };
    if redirects && !backend_refs.is_empty() {
        field("backendRefs", "a redirect has no backend", "expected either a RequestRedirect or backendRefs");
    }
    if redirects && filters.iter().any(|filter| matches!(filter, RouteFilter::UrlRewrite(_))) {
        field("filters", "a redirect cannot be rewritten", "expected either a RequestRedirect or a URLRewrite");
    }
    object.unsupported(&["sessionPersistence"]);
    RouteRule {
        position: object.position(),
        name: object.optional("name").unwrap_or_default(),
        matches,
        filters,
        backend_refs,
        timeouts: Timeouts::default(),
        retry: None,
    }
}
