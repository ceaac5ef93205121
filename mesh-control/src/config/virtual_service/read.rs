//! Reads a `VirtualService` and refuses what contradicts itself within one resource.

use super::connection::check_sni_hosts;
use super::read_headers::is_authority;
use super::{Destination, GatewayName, HttpAction, HttpRoute, MESH_GATEWAY, VirtualService, WeightedDestination};
use crate::config::Resource;
use crate::config::metadata::Metadata;
use crate::config::port::read_port;
use crate::diagnostic::{Code, Diagnostic};
use crate::document::{Context, FromNode, Located, Node, Object};
use crate::name::Name;

impl Resource for VirtualService {
    const LOCAL_FIELDS: &'static [&'static str] = &["spec.http", "spec.tls", "spec.tcp"];

    fn read(metadata: Metadata, spec: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(spec, cx)?;
        let hosts: Vec<_> = object.filled_list("hosts");
        let mesh = Located { value: GatewayName::Mesh, position: metadata.position.clone() };
        let service = Self {
            hosts,
            gateways: object
                .optional("gateways")
                .filter(|list: &Vec<_>| !list.is_empty())
                .unwrap_or_else(|| vec![mesh]),
            http: object.list("http"),
            tls: object.list("tls"),
            tcp: object.list("tcp"),
            export_to: object.list("exportTo"),
            metadata,
        };
        let has_routes = |name: &str| object.has(name) && !object.is_empty_list(name);
        if !["http", "tls", "tcp"].into_iter().any(has_routes) {
            cx.invalid(object.mark(), "the resource has no route", "expected http, tls or tcp");
        }
        service.check_hosts(cx);
        check_sni_hosts(&service, cx);
        object.finish();
        Some(service)
    }
}

impl VirtualService {
    fn check_hosts(&self, cx: Context<'_>) {
        let field = cx.field("hosts");
        for (i, host) in self.hosts.iter().enumerate() {
            let refuse = |code, message: String| {
                field.index(i).report(Diagnostic::error(code, host.position.clone(), message));
            };
            if self.hosts[..i].iter().any(|other| other.value == host.value) {
                refuse(Code::Duplicate, format!("host {} is listed twice", host.value));
            }
            if host.as_str() == "*" && self.applies_to_mesh() {
                refuse(Code::SchemaValidation, "wildcard host * is not allowed for the mesh gateway".into());
            }
            if host.is_ip() && self.applies_to_mesh() && !self.http.is_empty() {
                let message = format!("{} is an address: HTTP routes of the mesh need a name", host.value);
                refuse(Code::SchemaValidation, message);
            }
        }
    }
}

impl FromNode for GatewayName {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let text = String::from_node(node, cx)?;
        if text == MESH_GATEWAY {
            return Some(Self::Mesh);
        }
        let (namespace, name) = text.split_once('/').unwrap_or_else(|| (cx.namespace(), &text));
        if name.is_empty() || !(namespace == "." || Name::Namespace.admits(namespace)) || name.contains('/') {
            cx.invalid(node.mark, format!("{text:?} is not a gateway"), "expected mesh, NAME or NAMESPACE/NAME");
            return None;
        }
        let namespace = if namespace == "." { cx.namespace() } else { namespace };
        Some(Self::Gateway { namespace: namespace.to_owned(), name: name.to_owned() })
    }
}

impl FromNode for HttpRoute {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        object.at_most_one_of(&["route", "redirect", "directResponse"]);
        for other in ["fault", "rewrite"] {
            object.at_most_one_of(&["redirect", other]);
            object.at_most_one_of(&["directResponse", other]);
        }
        let route: Option<Vec<_>> = object.optional("route");
        let redirect = object.optional("redirect").map(HttpAction::Redirect);
        let direct_response = object.optional("directResponse").map(HttpAction::DirectResponse);
        let rule = Self {
            position: object.position(),
            name: object.optional("name").unwrap_or_default(),
            matches: object.list("match"),
            action: redirect.or(direct_response).unwrap_or_else(|| HttpAction::Route(route.unwrap_or_default())),
            rewrite: object.optional("rewrite").unwrap_or_default(),
            timeout: object.optional("timeout"),
            retries: object.optional("retries"),
            fault: object.optional("fault"),
            headers: object.optional("headers").unwrap_or_default(),
            cors_policy: object.optional("corsPolicy"),
        };
        object.unsupported(&["mirror", "mirrorPercent", "mirrorPercentage", "mirrors", "delegate"]);
        let has_action = ["route", "redirect", "directResponse", "delegate"].into_iter().any(|name| object.has(name));
        if !has_action {
            cx.invalid(object.mark(), "the rule does nothing", "expected one of route, redirect, directResponse");
        }
        if let (HttpAction::Route(destinations), true) = (&rule.action, object.has("route")) {
            check_weights(&object, &destinations.iter().map(|destination| destination.weight).collect::<Vec<_>>());
        }
        rule.check_authority(&object);
        if rule.cors_policy.is_some() && !matches!(rule.action, HttpAction::Route(_)) {
            let position = cx.position(object.key_mark("corsPolicy"));
            let message = "corsPolicy has no effect: redirects and direct responses have no CORS headers";
            cx.field("corsPolicy").report(Diagnostic::warning(Code::SchemaValidation, position, message));
        }
        object.finish();
        has_action.then_some(rule)
    }
}

impl HttpRoute {
    /// The authority can be rewritten in one place only.
    fn check_authority(&self, object: &Object<'_>) {
        let request = &self.headers.request;
        let headers = request.set.keys().chain(request.add.keys()).filter(|name| is_authority(name)).count();
        if headers + usize::from(self.rewrite.authority.is_some()) > 1 {
            let message = "the authority is rewritten several times";
            object.cx.invalid(object.key_mark("headers"), message, "expected one of rewrite.authority and one header");
        }
    }
}

/// Refuses destinations among which nothing can be shared; these are their weights.
pub(super) fn check_weights(object: &Object<'_>, weights: &[u32]) {
    let total: u64 = weights.iter().copied().map(u64::from).sum();
    let (mark, cx) = (object.key_mark("route"), object.cx.field("route"));
    if weights.is_empty() {
        cx.invalid(mark, "route has no destination", "expected at least one destination");
    } else if weights.len() > 1 && total == 0 {
        cx.invalid(mark, "total weight is 0", "the weights of several destinations must sum to more than 0");
    } else if total > u64::from(u32::MAX) {
        cx.invalid(mark, format!("total weight {total} is over {}", u32::MAX), "the sum of weights is too large");
    }
}

impl FromNode for WeightedDestination {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let destination = object.required("destination");
        let weight = object.integer("weight", 0, i32::MAX.into()).unwrap_or(0);
        let headers = object.optional("headers").unwrap_or_default();
        object.finish();
        Some(Self { destination: destination?, weight, headers })
    }
}

impl FromNode for Destination {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let (position, host) = (object.position(), object.required("host"));
        let subset = object.optional("subset").filter(|subset: &Located<String>| !subset.is_empty());
        let port = object.node("port").and_then(|node| read_port(node, cx.field("port")));
        object.finish();
        Some(Self { position, host: host?, subset, port })
    }
}
