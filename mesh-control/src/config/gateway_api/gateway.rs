//! `Gateway` of Gateway API: ports at the edge of the mesh, and which routes may attach to them.

use super::route::ObjectRef;
use crate::config::Metadata;
use crate::config::kind::Resource;
use crate::config::scalar::{Labels, labels};
use crate::diagnostic::Position;
use crate::document::{Context, FromNode, Located, Node, Object};
use crate::host::Host;

/// Ports that proxies with the label `gateway.networking.k8s.io/gateway-name` serve.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KubernetesGateway {
    /// Name, namespace, labels.
    pub metadata: Metadata,
    /// Name of its GatewayClass.
    pub gateway_class_name: String,
    /// Its ports, at least one.
    pub listeners: Vec<Listener>,
}

/// A port and the host that is served on it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Listener {
    /// Its position.
    pub position: Position,
    /// Its name, unique in the Gateway.
    pub name: String,
    /// Port that is listened on.
    pub port: u16,
    /// How connections are served.
    pub protocol: ListenerProtocol,
    /// The host, which may be a wildcard; none means every host.
    pub hostname: Option<Located<Host>>,
    /// How TLS is handled.
    pub tls: Option<ListenerTls>,
    /// Which routes may attach.
    pub allowed_routes: AllowedRoutes,
}

/// How a listener serves connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListenerProtocol {
    /// HTTP in plain text.
    Http,
    /// HTTP in TLS that ends here.
    Https,
}

/// TLS of a listener, which ends there.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ListenerTls {
    /// Secrets with certificates.
    pub certificate_refs: Vec<ObjectRef>,
}

/// Which routes may attach to a listener.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct AllowedRoutes {
    /// Their namespaces.
    pub namespaces: AllowedNamespaces,
    /// Their kinds; none means those of the protocol.
    pub kinds: Vec<String>,
}

/// Namespaces whose routes may attach to a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AllowedNamespaces {
    /// That of the Gateway.
    #[default]
    Same,
    /// Every one.
    All,
    /// Those with the labels.
    Selector(Labels),
}

impl Resource for KubernetesGateway {
    const LOCAL_FIELDS: &'static [&'static str] = &["spec.listeners"];

    fn read(metadata: Metadata, spec: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(spec, cx)?;
        let gateway_class_name = object.required("gatewayClassName");
        let listeners: Vec<Listener> = object.filled_list("listeners");
        for (i, listener) in listeners.iter().enumerate() {
            if listeners[..i].iter().any(|other| other.name == listener.name) {
                let message = format!("listener {:?} is there twice", listener.name);
                cx.field("listeners").index(i).refuse(listener.position.clone(), message, "expected unique names");
            }
        }
        // Addresses are those of the proxies, which run already.
        object.ignored(&["addresses"]);
        object.unsupported(&["infrastructure", "backendTLS", "allowedListeners", "tls", "defaultScope"]);
        object.finish();
        Some(Self { metadata, gateway_class_name: gateway_class_name?, listeners })
    }
}

impl FromNode for Listener {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let name = object.required("name");
        if !object.has("port") {
            object.missing("port");
        }
        let (position, port) = (object.position(), object.port("port"));
        let protocol = object.node("protocol").and_then(|node| {
            let table = [
                ("HTTP", -1, Some(ListenerProtocol::Http)),
                ("HTTPS", -2, Some(ListenerProtocol::Https)),
                ("TLS", -3, None),
                ("TCP", -4, None),
                ("UDP", -5, None),
            ];
            cx.field("protocol").enumeration(node, &table)
        });
        if !object.has("protocol") {
            object.missing("protocol");
        }
        let tls: Option<ListenerTls> = object.optional("tls");
        match (protocol, &tls) {
            (Some(ListenerProtocol::Http), Some(_)) => {
                cx.field("tls").invalid(object.key_mark("tls"), "HTTP has no TLS", "use protocol HTTPS");
            }
            (Some(ListenerProtocol::Https), None) if !object.has("tls") => object.missing("tls"),
            _ => {}
        }
        let hostname = object.optional("hostname").filter(|host: &Located<Host>| !host.as_str().is_empty());
        let allowed_routes = object.optional("allowedRoutes").unwrap_or_default();
        object.finish();
        Some(Self { position, name: name?, port: port?, protocol: protocol?, hostname, tls, allowed_routes })
    }
}

impl FromNode for ListenerTls {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let mode = object
            .node("mode")
            .map(|node| cx.field("mode").enumeration(node, &[("Terminate", -1, Some(())), ("Passthrough", -2, None)]));
        let tls = Self { certificate_refs: object.filled_list("certificateRefs") };
        object.unsupported(&["options", "frontendValidation"]);
        object.finish();
        mode.unwrap_or(Some(())).map(|()| tls)
    }
}

impl FromNode for AllowedRoutes {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let kinds: Vec<RouteKind> = object.list("kinds");
        let namespaces = object.optional("namespaces").unwrap_or_default();
        object.finish();
        Some(Self { namespaces, kinds: kinds.into_iter().map(|kind| kind.0).collect() })
    }
}

struct RouteKind(String);

impl FromNode for RouteKind {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let kind = object.required("kind");
        let group: Option<String> = object.optional("group");
        object.finish();
        // A kind of another group is none that can attach.
        let is_other = group.is_some_and(|group| group != super::GROUP);
        kind.map(|kind: String| Self(if is_other { String::new() } else { kind }))
    }
}

impl FromNode for AllowedNamespaces {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let selector = object.node("selector").and_then(|node| {
            let object = Object::new(node, cx.field("selector"))?;
            let labels = labels(&object, "matchLabels").unwrap_or_default();
            object.unsupported(&["matchExpressions"]);
            object.finish();
            Some(labels)
        });
        let table = [("Same", -1, Some("Same")), ("All", -2, Some("All")), ("Selector", -3, Some("Selector"))];
        let from = object.node("from").map(|node| cx.field("from").enumeration(node, &table));
        if from == Some(Some("Selector")) && !object.has("selector") {
            object.missing("selector");
        }
        object.finish();
        match from {
            None | Some(Some("Same")) => Some(Self::Same),
            Some(Some("All")) => Some(Self::All),
            Some(_) => selector.map(Self::Selector),
        }
    }
}
