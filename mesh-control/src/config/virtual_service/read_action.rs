//! Reads rewrites, redirects and direct responses.

use super::{DirectResponse, Redirect, RedirectPort, Rewrite, UriRewrite};
use crate::config::scalar::check_regex;
use crate::document::{Context, FromNode, Located, Node, Object};

/// Largest body of a direct response, in bytes. Istio refuses more.
const MAX_BODY_BYTES: usize = 1 << 20;

impl FromNode for Rewrite {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        object.at_most_one_of(&["uri", "uriRegexRewrite"]);
        let uri = object.optional("uri").map(UriRewrite::Uri);
        let regex = object.node("uriRegexRewrite").and_then(|node| regex_rewrite(node, cx.field("uriRegexRewrite")));
        let authority = object.optional("authority");
        if !["uri", "uriRegexRewrite", "authority"].into_iter().any(|name| object.has(name)) {
            cx.invalid(object.mark(), "rewrite is empty", "expected uri, uriRegexRewrite or authority");
        }
        object.finish();
        Some(Self { uri: uri.or(regex), authority })
    }
}

fn regex_rewrite(node: &Node, cx: Context<'_>) -> Option<UriRewrite> {
    let object = Object::new(node, cx)?;
    let pattern: Option<Located<String>> = object.required("match");
    let substitution = object.required("rewrite");
    if let (Some(pattern), Some(node)) = (&pattern, object.node("match")) {
        check_regex(pattern, node.mark, cx.field("match"));
    }
    object.finish();
    Some(UriRewrite::Regex { pattern: pattern?.value, substitution: substitution? })
}

impl FromNode for Redirect {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        object.at_most_one_of(&["port", "derivePort"]);
        let port = object.port("port").map(RedirectPort::Port);
        let derived = object.node("derivePort").and_then(|node| {
            let table = [
                ("FROM_PROTOCOL_DEFAULT", 0, Some(RedirectPort::ProtocolDefault)),
                ("FROM_REQUEST_PORT", 1, Some(RedirectPort::FromRequest)),
            ];
            cx.field("derivePort").enumeration(node, &table)
        });
        let scheme = object.node("scheme").and_then(|node| {
            let table = [("http", -1, Some("http")), ("https", -2, Some("https"))];
            cx.field("scheme").enumeration(node, &table).map(str::to_owned)
        });
        let redirect = Self {
            uri: object.optional("uri"),
            authority: object.optional("authority"),
            scheme,
            port: port.or(derived),
            redirect_code: read_redirect_code(&object).unwrap_or(301),
        };
        object.finish();
        Some(redirect)
    }
}

fn read_redirect_code(object: &Object<'_>) -> Option<u16> {
    let node = object.node("redirectCode")?;
    let cx = object.cx.field("redirectCode");
    let code = cx.integer(node, 300, 399)?;
    let code = u16::try_from(code).ok()?;
    if !matches!(code, 301 | 302 | 303 | 307 | 308) {
        cx.invalid(node.mark, format!("{code} cannot be sent"), "expected 301, 302, 303, 307 or 308");
        return None;
    }
    Some(code)
}

impl FromNode for DirectResponse {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        if !object.has("status") {
            object.missing("status");
        }
        let status = object.integer("status", 200, 599);
        let body = object.node("body").and_then(|node| {
            let object = Object::new(node, cx.field("body"))?;
            let text: Option<String> = object.optional("string");
            object.unsupported(&["bytes"]);
            object.finish();
            text
        });
        let body = body.unwrap_or_default();
        if body.len() > MAX_BODY_BYTES {
            let message = format!("the body has {} bytes: at most {MAX_BODY_BYTES} are allowed", body.len());
            cx.invalid(object.key_mark("body"), message, "too large");
        }
        object.finish();
        Some(Self { status: status?, body })
    }
}
