//! `PeerAuthentication`: whether a workload accepts plain text, mutual TLS, or both.
//!
//! Source: `security/v1beta1/peer_authentication.proto`. [`PeerAuthentications`](crate::peer_authentications) finds the mode of
//! a workload's port from all resources.

use std::collections::BTreeMap;

use super::Resource;
use super::metadata::Metadata;
use super::scalar::Labels;
use super::selector::read_selector;
use crate::diagnostic::Position;
use crate::document::{Context, FromNode, Node, Object, Value};

/// How the selected workloads are called.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PeerAuthentication {
    /// Name, namespace, labels.
    pub metadata: Metadata,
    /// Labels of the workloads; empty selects all of the namespace, or of the mesh if it is the root namespace.
    pub selector: Labels,
    /// Mode of all ports; `None` inherits that of the namespace or the mesh. Istio `mtls.mode`, default `UNSET`.
    pub mode: Option<MtlsMode>,
    /// Modes of single ports, by the port of the workload, 1-65535; `None` inherits. Only with a selector.
    pub port_level_mtls: BTreeMap<u16, Option<MtlsMode>>,
    /// Where a mode is set that only takes mutual TLS, if one is.
    pub strict: Option<Position>,
}

/// Istio `PeerAuthentication.MutualTLS.Mode`, without `UNSET`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MtlsMode {
    /// Connections are taken as they are.
    Disable,
    /// Mutual TLS and plain text; the default where nothing is set.
    Permissive,
    /// Mutual TLS only.
    Strict,
}

/// A mode, or `UNSET`.
#[derive(Clone, Copy, Debug)]
struct Mtls(Option<MtlsMode>);

impl FromNode for Mtls {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let table = [
            ("UNSET", 0, Some(Self(None))),
            ("DISABLE", 1, Some(Self(Some(MtlsMode::Disable)))),
            ("PERMISSIVE", 2, Some(Self(Some(MtlsMode::Permissive)))),
            ("STRICT", 3, Some(Self(Some(MtlsMode::Strict)))),
        ];
        let mode = match object.node("mode") {
            Some(node) => cx.field("mode").enumeration(node, &table),
            None => Some(Self(None)),
        };
        object.finish();
        mode
    }
}

impl Resource for PeerAuthentication {
    const LOCAL_FIELDS: &'static [&'static str] = &["spec"];

    fn read(metadata: Metadata, spec: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(spec, cx)?;
        let selector = read_selector(&object);
        let mtls: Option<Mtls> = object.optional("mtls");
        let ports = object.node("portLevelMtls").map(|node| read_ports(node, &object, cx.field("portLevelMtls")));
        let is_broken = (mtls.is_none() && object.has("mtls")) || selector.is_none() || matches!(ports, Some(None));
        let selector = selector.unwrap_or_default();
        if ports.is_some() && selector.is_empty() {
            let message =
                "mesh/namespace peer authentication cannot have port level mTLS: portLevelMtls requires selector";
            cx.field("portLevelMtls").invalid(object.key_mark("portLevelMtls"), message, "needs a selector");
        }
        let (mode, port_level_mtls) = (mtls.and_then(|mtls| mtls.0), ports.flatten().unwrap_or_default());
        let is_strict = |mode: Option<MtlsMode>| mode == Some(MtlsMode::Strict);
        let strict = if is_strict(mode) {
            Some("mtls")
        } else {
            port_level_mtls.values().any(|mode| is_strict(*mode)).then_some("portLevelMtls")
        };
        let strict = strict.map(|field| cx.position(object.key_mark(field)));
        object.finish();
        // Half a policy would let in what the whole one keeps out.
        (!is_broken).then_some(Self { metadata, selector, mode, port_level_mtls, strict })
    }
}

/// `None` after a mistake.
fn read_ports(node: &Node, object: &Object<'_>, cx: Context<'_>) -> Option<BTreeMap<u16, Option<MtlsMode>>> {
    let modes: BTreeMap<String, Mtls> = FromNode::from_node(node, cx)?;
    if matches!(&node.value, Value::Mapping(entries) if entries.is_empty()) {
        let message = "port level mTLS, if defined, must have at least one element";
        cx.invalid(object.key_mark("portLevelMtls"), message, "expected at least one port");
        return None;
    }
    let Value::Mapping(entries) = &node.value else { return None };
    let mut ports = BTreeMap::new();
    for (key, _) in entries {
        let cx = cx.field(&key.name);
        match key.name.parse::<u64>().map(u16::try_from) {
            Ok(Ok(port @ 1..)) => drop(modes.get(&key.name).map(|mode| ports.insert(port, mode.0))),
            Ok(_) => cx.invalid(key.mark, format!("{}: port must be between 1-65535", key.name), "expected 1-65535"),
            Err(_) => {
                let message = format!("{:?} is not a port: type conversion error", key.name);
                cx.invalid(key.mark, message, "expected the number of a port of the workload");
            }
        }
    }
    (ports.len() == entries.len()).then_some(ports)
}
