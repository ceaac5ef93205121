//! What every resource has: `apiVersion`, `kind`, `metadata`.

use super::reader::{Context, Located, Object};
use super::scalar::Labels;
use crate::diagnostic::Position;
use crate::host::is_namespace;

/// Namespace of a resource that names none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// Fields that an API server adds. They say nothing about the mesh, and files exported from a cluster have them.
const SERVER_SIDE: &[&str] = &[
    "annotations",
    "clusterName",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Identity of a resource. Kubernetes `ObjectMeta`.
#[derive(Clone, Debug)]
pub struct Metadata {
    /// `VirtualService` and so on.
    pub kind: &'static str,
    /// Name, unique for its kind in its namespace.
    pub name: String,
    /// Namespace, default `default`.
    pub namespace: String,
    /// Labels of the resource itself.
    pub labels: Labels,
    /// Where competing resources are ordered by age: RFC 3339, absent in hand-written files.
    pub creation_timestamp: Option<String>,
    /// Place of the name.
    pub position: Position,
}

impl Metadata {
    /// `VirtualService default/reviews`.
    pub fn resource(&self) -> String {
        format!("{} {}/{}", self.kind, self.namespace, self.name)
    }

    /// Path of the resource in the Kubernetes API, as istiod writes it into metadata: `kind` in kebab case.
    pub fn config_path(&self) -> String {
        let mut kind = String::new();
        for (i, c) in self.kind.chars().enumerate() {
            if c.is_ascii_uppercase() && i > 0 {
                kind.push('-');
            }
            kind.push(c.to_ascii_lowercase());
        }
        format!("/apis/networking.istio.io/v1/namespaces/{}/{kind}/{}", self.namespace, self.name)
    }

    /// Reads the `metadata` of a resource.
    pub(crate) fn read(kind: &'static str, resource: &Object<'_>, cx: Context<'_>) -> Option<Self> {
        let position = resource.position();
        if !resource.has("metadata") {
            resource.missing("metadata");
        }
        let node = resource.node("metadata")?;
        let cx = cx.field("metadata");
        let object = Object::new(node, cx)?;
        let name: Option<Located<String>> = object.required("name");
        let namespace: Option<Located<String>> = object.optional("namespace");
        let labels = object.optional("labels").unwrap_or_default();
        let creation_timestamp = object.optional("creationTimestamp");
        object.ignored(SERVER_SIDE);
        if let (Some(namespace), Some(node)) = (&namespace, object.node("namespace"))
            && !is_namespace(namespace)
        {
            let message = format!("{:?} is not a namespace", namespace.value);
            cx.field("namespace").invalid(node.mark, message, "expected lower-case letters, digits and '-'");
            object.finish();
            // Whatever it refers to would be looked for in the wrong place.
            return None;
        }
        object.finish();
        let name = name?;
        Some(Self {
            kind,
            position: if name.is_empty() { position } else { name.position.clone() },
            name: name.value,
            namespace: namespace.map_or_else(|| DEFAULT_NAMESPACE.to_owned(), |namespace| namespace.value),
            labels,
            creation_timestamp,
        })
    }
}
