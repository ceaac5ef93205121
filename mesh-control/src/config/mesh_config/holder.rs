//! The objects that contain a MeshConfig.

use std::sync::Arc;

use crate::config::MeshConfig;
use crate::diagnostic::{Code, Diagnostic, Source};
use crate::document::{Context, FromNode as _, Node, Object, Value, parse_embedded};

/// An object that contains a MeshConfig.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum Holder {
    /// The ConfigMap `istio` in `istio-system`: the field `data.mesh`, which is YAML as a string.
    ConfigMap,
    /// An IstioOperator: the field `spec.meshConfig`. Its other fields are about the installation of Istio.
    IstioOperator,
}

/// What contains a MeshConfig, if an object does. `namespace` is that of objects which name none.
pub(in crate::config) fn holder(group: &str, kind: &str, object: &Node, namespace: &str) -> Option<Holder> {
    match (group, kind) {
        ("", "ConfigMap") => {
            let metadata = object.get("metadata")?;
            let text = |name| metadata.get(name).and_then(Node::text).filter(|text| !text.is_empty());
            let is_it = text("name") == Some("istio")
                && text("namespace").unwrap_or(namespace) == MeshConfig::DEFAULT_ROOT_NAMESPACE;
            is_it.then_some(Holder::ConfigMap)
        }
        ("install.istio.io", "IstioOperator") => Some(Holder::IstioOperator),
        _ => None,
    }
}

impl Holder {
    /// The object in diagnostics.
    pub(in crate::config) fn resource(self, object: &Node) -> String {
        let name = object.get("metadata").and_then(|metadata| metadata.get("name")).and_then(Node::text);
        match self {
            Self::ConfigMap => format!("ConfigMap {}/istio", MeshConfig::DEFAULT_ROOT_NAMESPACE),
            Self::IstioOperator => format!("IstioOperator {}", name.unwrap_or_default()),
        }
    }

    /// Reads the MeshConfig; `None` if there is none, or after a mistake.
    pub(in crate::config) fn read(self, object: &Node, source: &Arc<Source>, cx: Context<'_>) -> Option<MeshConfig> {
        match self {
            Self::ConfigMap => {
                let cx = cx.field("data");
                let data = Object::new(object.get("data")?, cx)?;
                check_networks(&data);
                let text = data.node("mesh")?;
                let cx = cx.field("mesh");
                let node = match (&text.value, parse_embedded(text, source)) {
                    (Value::String(_), Ok(node)) => node?,
                    (Value::String(_), Err(diagnostic)) => {
                        cx.report(*diagnostic);
                        return None;
                    }
                    _ => {
                        cx.invalid(text.mark, "expected a string", "expected YAML in a string");
                        return None;
                    }
                };
                MeshConfig::from_node(&node, cx)
            }
            Self::IstioOperator => {
                let cx = cx.field("spec");
                let node = object.get("spec")?.get("meshConfig")?;
                MeshConfig::from_node(node, cx.field("meshConfig"))
            }
        }
    }
}

/// Refuses networks beside the mesh's own. istiod's installation writes the field without any.
fn check_networks(data: &Object<'_>) {
    let Some(node) = data.node("meshNetworks") else { return };
    let has_none = node.text().is_some_and(|text| matches!(text.trim(), "" | "networks: {}" | "{}"));
    if !has_none {
        let cx = data.cx.field("meshNetworks");
        let diagnostic = Diagnostic::error(Code::Unsupported, cx.position(node.mark), "networks are not supported yet");
        cx.report(diagnostic.label("not supported"));
    }
}
