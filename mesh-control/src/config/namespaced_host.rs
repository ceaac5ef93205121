//! `NAMESPACE/HOST`: how Gateways and Sidecars name hosts.

use crate::document::{Context, FromNode, Node};
use crate::host::Host;
use crate::name::Name;

/// `NAMESPACE/HOST`: hosts, limited to what a namespace declares.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NamespacedHost {
    /// Which namespaces' resources count.
    pub namespace: NamespaceScope,
    /// The host, `*` for all.
    pub host: Host,
}

/// The namespace part of a [`NamespacedHost`], with `.` resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NamespaceScope {
    /// Any: `*`, the default of gateways.
    Any,
    /// This one.
    Namespace(String),
    /// None: `~`, for sidecars whose workload calls no service.
    None,
}

impl NamespacedHost {
    /// Whether it includes what `namespace` declares for `host`.
    pub fn admits(&self, namespace: &str, host: &Host) -> bool {
        self.namespace.includes(namespace) && self.host.intersects(host)
    }
}

impl NamespaceScope {
    /// Whether the namespace is in it.
    pub fn includes(&self, namespace: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Namespace(name) => name == namespace,
            Self::None => false,
        }
    }
}

impl NamespacedHost {
    /// Reads `NAMESPACE/HOST`; `default_scope` is what a host without namespace means, `None` if it is not allowed.
    fn read(node: &Node, cx: Context<'_>, default_scope: Option<NamespaceScope>) -> Option<Self> {
        let text = String::from_node(node, cx)?;
        let expected = "expected NAMESPACE/HOST, where both can be *";
        let (namespace, name) = match (text.split_once('/'), default_scope) {
            (Some(("*", name)), _) => (NamespaceScope::Any, name),
            (Some((".", name)), _) => (NamespaceScope::Namespace(cx.namespace().to_owned()), name),
            (Some(("~", name)), _) => (NamespaceScope::None, name),
            (Some((namespace, name)), _) if Name::Namespace.admits(namespace) => {
                (NamespaceScope::Namespace(namespace.to_owned()), name)
            }
            (None, Some(scope)) => (scope, text.as_str()),
            _ => {
                cx.invalid(node.mark, format!("{text:?} is not a host with its namespace"), expected);
                return None;
            }
        };
        // A short name here is a DNS name of one label, not a service.
        let host = match Host::parse(name, cx.namespace()) {
            Ok(host) if name.contains(['.', '*']) || host.is_ip() => host,
            Ok(_) => {
                cx.invalid(node.mark, format!("short names (non FQDN) are not allowed: {name:?}"), expected);
                return None;
            }
            Err(error) => {
                cx.invalid(node.mark, format!("{text:?} is not a host: {error}"), expected);
                return None;
            }
        };
        Some(Self { namespace, host })
    }
}

impl FromNode for NamespacedHost {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        Self::read(node, cx, Some(NamespaceScope::Any))
    }
}

/// As [`NamespacedHost`], but the namespace is required: hosts of a Sidecar.
#[derive(Clone, Debug)]
pub(super) struct EgressHost(pub(super) NamespacedHost);

impl FromNode for EgressHost {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        NamespacedHost::read(node, cx, None).map(Self)
    }
}
