//! Reads changes of headers.

use std::collections::BTreeMap;

use super::{HeaderOperations, Headers};
use crate::diagnostic::{Code, Diagnostic};
use crate::document::{Context, FromNode, Located, Node, Object};

impl FromNode for Headers {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let headers = Self {
            request: object.optional("request").unwrap_or_default(),
            response: object.optional("response").unwrap_or_default(),
        };
        for name in headers.response.set.keys().chain(headers.response.add.keys()) {
            if is_pseudo(name) {
                let message = format!("{name:?} cannot be set on a response");
                cx.field("response").invalid(object.key_mark("response"), message, "not allowed");
            }
        }
        object.finish();
        Some(headers)
    }
}

impl FromNode for HeaderOperations {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let operations = Self {
            set: read_headers(&object, "set"),
            add: read_headers(&object, "add"),
            remove: object.list("remove"),
        };
        for name in &operations.remove {
            if is_pseudo(name) || http::HeaderName::from_bytes(name.as_bytes()).is_err() {
                let message = format!("{name:?} cannot be removed");
                cx.field("remove").invalid(object.key_mark("remove"), message, "expected header names");
            }
        }
        object.finish();
        Some(operations)
    }
}

fn read_headers(object: &Object<'_>, field: &'static str) -> BTreeMap<String, String> {
    let headers: BTreeMap<String, Located<String>> = object.optional(field).unwrap_or_default();
    let (cx, mark) = (object.cx.field(field), object.key_mark(field));
    for (name, value) in &headers {
        if http::HeaderName::from_bytes(name.as_bytes()).is_err() && !is_authority(name) {
            cx.field(name).invalid(mark, format!("{name:?} is not a header name"), "expected header names");
        }
        if http::HeaderValue::from_str(value).is_err() {
            let message = format!("{:?} is not a header value", value.value);
            cx.field(name).report(Diagnostic::error(Code::SchemaValidation, value.position.clone(), message));
        }
    }
    headers.into_iter().map(|(name, value)| (name, value.value)).collect()
}

pub(super) fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case(":authority") || name.eq_ignore_ascii_case("host")
}

fn is_pseudo(name: &str) -> bool {
    name.starts_with(':') || name.eq_ignore_ascii_case("host")
}
