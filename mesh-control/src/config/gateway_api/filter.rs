//! Filters of rules: changes of headers, redirects and rewrites.

use std::collections::BTreeMap;

use crate::config::{HeaderOperations, Headers};
use crate::document::{Context, FromNode, Located, Node, Object};

/// What a rule does with a request or its response.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RouteFilter {
    /// Changes headers: `RequestHeaderModifier` and `ResponseHeaderModifier`.
    Headers(Headers),
    /// Replies with a redirect.
    RequestRedirect(RequestRedirect),
    /// Changes the path or the host.
    UrlRewrite(UrlRewrite),
}

/// Gateway API `HTTPRequestRedirectFilter`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RequestRedirect {
    /// New scheme, `http` or `https`.
    pub scheme: Option<String>,
    /// New host.
    pub hostname: Option<String>,
    /// New path.
    pub path: Option<String>,
    /// New port; none means that of the new scheme, or else that of the listener.
    pub port: Option<u16>,
    /// 301, 302 (default), 303, 307 or 308.
    pub status_code: u16,
}

/// Gateway API `HTTPURLRewriteFilter`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct UrlRewrite {
    /// New host.
    pub hostname: Option<String>,
    /// Change of the path.
    pub path: Option<PathModifier>,
}

/// Change of a path. Gateway API `HTTPPathModifier`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PathModifier {
    /// Replaces the whole path.
    ReplaceFullPath(String),
    /// Replaces the prefix that the rule has matched.
    ReplacePrefixMatch(String),
}

impl RouteFilter {
    /// Whether it only changes headers.
    pub fn is_of_headers(&self) -> bool {
        matches!(self, Self::Headers(_))
    }

    /// Its type, as in the field `type`.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Headers(_) => "a change of headers",
            Self::RequestRedirect(_) => "RequestRedirect",
            Self::UrlRewrite(_) => "URLRewrite",
        }
    }
}

/// The filters of a rule or a backend. Each field of them is the name of a type of filter.
pub(super) fn read_filters(object: &Object<'_>) -> Vec<RouteFilter> {
    object.list("filters")
}

impl FromNode for RouteFilter {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let kind = object.node("type").and_then(|node| {
            let table = [
                ("RequestHeaderModifier", -1, Some("requestHeaderModifier")),
                ("ResponseHeaderModifier", -2, Some("responseHeaderModifier")),
                ("RequestRedirect", -3, Some("requestRedirect")),
                ("URLRewrite", -4, Some("urlRewrite")),
                ("RequestMirror", -5, None),
                ("CORS", -6, None),
                ("ExternalAuth", -7, None),
                ("ExtensionRef", -8, None),
            ];
            cx.field("type").enumeration(node, &table)
        });
        if !object.has("type") {
            object.missing("type");
        }
        let Some(kind) = kind else {
            // The type has been reported.
            object.ignored(&["requestMirror", "cors", "externalAuth", "extensionRef"]);
            object.finish();
            return None;
        };
        let modifier = || object.required(kind).map(|Modifier(operations)| operations);
        let filter = match kind {
            "requestHeaderModifier" => {
                modifier().map(|request| Self::Headers(Headers { request, ..Headers::default() }))
            }
            "responseHeaderModifier" => {
                modifier().map(|response| Self::Headers(Headers { response, ..Headers::default() }))
            }
            "requestRedirect" => object.required(kind).map(Self::RequestRedirect),
            _ => object.required(kind).map(Self::UrlRewrite),
        };
        object.finish();
        filter
    }
}

/// Gateway API `HTTPHeaderFilter`, whose maps are lists.
struct Modifier(HeaderOperations);

impl FromNode for Modifier {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let operations = HeaderOperations {
            set: read_headers(&object, "set"),
            add: read_headers(&object, "add"),
            remove: read_removed(&object),
        };
        object.finish();
        Some(Self(operations))
    }
}

fn read_removed(object: &Object<'_>) -> Vec<String> {
    let names: Vec<Located<String>> = object.list("remove");
    for name in &names {
        check_name(name, object.cx.field("remove"));
    }
    names.into_iter().map(|name| name.value).collect()
}

fn read_headers(object: &Object<'_>, field: &'static str) -> BTreeMap<String, String> {
    let headers: Vec<Header> = object.list(field);
    headers.into_iter().map(|header| (header.name, header.value)).collect()
}

struct Header {
    name: String,
    value: String,
}

impl FromNode for Header {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let (name, value): (Option<Located<String>>, Option<Located<String>>) =
            (object.required("name"), object.required("value"));
        object.finish();
        let (name, value) = (name?, value?);
        check_name(&name, cx.field("name"));
        if http::HeaderValue::from_str(&value).is_err() {
            let message = format!("{:?} is not a header value", value.value);
            cx.field("value").refuse(value.position, message, "expected a header value");
            return None;
        }
        Some(Self { name: name.value, value: value.value })
    }
}

fn check_name(name: &Located<String>, cx: Context<'_>) {
    if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
        cx.refuse(name.position.clone(), format!("{:?} is not a header name", name.value), "expected a header name");
    }
}

impl FromNode for RequestRedirect {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let scheme = object.node("scheme").and_then(|node| {
            let table = [("http", -1, Some("http")), ("https", -2, Some("https"))];
            cx.field("scheme").enumeration(node, &table).map(str::to_owned)
        });
        let status_code = object.node("statusCode").and_then(|node| {
            let code = cx.field("statusCode").integer(node, 300, 399).and_then(|code| u16::try_from(code).ok())?;
            if matches!(code, 301 | 302 | 303 | 307 | 308) {
                return Some(code);
            }
            let message = format!("{code} cannot be sent");
            cx.field("statusCode").invalid(node.mark, message, "expected 301, 302, 303, 307 or 308");
            None
        });
        let path = match object.optional("path") {
            Some(PathModifier::ReplaceFullPath(path)) => Some(path),
            Some(PathModifier::ReplacePrefixMatch(_)) => {
                let message = "a redirect cannot replace the prefix of the path yet";
                cx.field("path").unsupported(object.value_mark("path"), message);
                None
            }
            None => None,
        };
        let redirect = Self {
            scheme,
            hostname: object.optional("hostname"),
            path,
            port: object.port("port"),
            status_code: status_code.unwrap_or(302),
        };
        object.finish();
        Some(redirect)
    }
}

impl FromNode for UrlRewrite {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let rewrite = Self { hostname: object.optional("hostname"), path: object.optional("path") };
        object.finish();
        Some(rewrite)
    }
}

impl FromNode for PathModifier {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let table =
            [("ReplaceFullPath", -1, Some("replaceFullPath")), ("ReplacePrefixMatch", -2, Some("replacePrefixMatch"))];
        let kind = object.node("type").and_then(|node| cx.field("type").enumeration(node, &table));
        if !object.has("type") {
            object.missing("type");
        }
        let path = match kind {
            Some("replaceFullPath") => object.required("replaceFullPath").map(Self::ReplaceFullPath),
            Some(_) => object.required("replacePrefixMatch").map(Self::ReplacePrefixMatch),
            None => None,
        };
        object.finish();
        path
    }
}
