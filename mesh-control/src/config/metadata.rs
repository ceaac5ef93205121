//! What every resource has: `apiVersion`, `kind`, `metadata`.

pub use mesh_core::node::DEFAULT_NAMESPACE;

use super::Kind;
use super::kind::Owner;
use super::scalar::{Labels, labels};
use crate::diagnostic::{Code, Diagnostic, Position};
use crate::document::{Context, Located, Object};
use crate::name::Name;

/// Fields that an API server adds. They mean nothing to a mesh; files that were exported from a cluster have them.
const SERVER_SIDE: &[&str] = &[
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
#[non_exhaustive]
pub struct Metadata {
    /// What it is.
    pub kind: Kind,
    /// Name, unique for its kind in its namespace.
    pub name: String,
    /// Namespace, by default that of [`Options`](super::Options); empty for kinds that belong to none.
    pub namespace: String,
    /// Labels of the resource itself.
    pub labels: Labels,
    /// Annotations of a resource of Istio. Those of Kubernetes' objects are not read.
    pub annotations: Labels,
    /// RFC 3339; absent in hand-written files. The oldest of several competing resources wins.
    pub creation_timestamp: Option<String>,
    /// Place of the name.
    pub position: Position,
}

impl Metadata {
    /// `VirtualService default/reviews`; of two kinds of one name, the second has its group: `Gateway.gateway.networking.k8s.io
    /// default/edge`.
    pub fn resource(&self) -> String {
        let separator = if self.namespace.is_empty() { "" } else { "/" };
        let group =
            if self.kind == Kind::KubernetesGateway { format!(".{}", self.kind.api().group) } else { String::new() };
        format!("{}{group} {}{separator}{}", self.kind.as_str(), self.namespace, self.name)
    }

    /// Path of the resource in the Kubernetes API, as istiod writes it into metadata: `kind` in kebab case.
    pub fn config_path(&self) -> String {
        let (mut kind, name) = (String::new(), self.kind.as_str().as_bytes());
        for (i, c) in name.iter().enumerate() {
            // A word begins with the last letter of a row of upper-case letters: `HTTPRoute` is `http-route`.
            let begins = c.is_ascii_uppercase() && name.get(i + 1).is_some_and(u8::is_ascii_lowercase);
            if begins && i > 0 {
                kind.push('-');
            }
            kind.push(char::from(c.to_ascii_lowercase()));
        }
        let api = self.kind.api();
        format!("/apis/{}/{}/namespaces/{}/{kind}/{}", api.group, api.versions[0], self.namespace, self.name)
    }

    /// Sorts by precedence: the oldest first, then by name.
    pub(super) fn precedence(&self) -> (Option<String>, String, String) {
        (self.creation_timestamp.clone(), self.name.clone(), self.namespace.clone())
    }

    /// Reads the `metadata` of a resource.
    pub(super) fn read(kind: Kind, resource: &Object<'_>, cx: Context<'_>) -> Option<Self> {
        if !resource.has("metadata") {
            resource.missing("metadata");
        }
        let node = resource.node("metadata")?;
        let cx = cx.field("metadata");
        let object = Object::new(node, cx)?;
        let is_of_kubernetes = kind.api().owner == Owner::Kubernetes;
        // Of a Pod that is made from a file without a name, Kubernetes knows the beginning of the name only.
        let is_generated = is_of_kubernetes && !object.has("name") && object.has("generateName");
        let name = if is_generated { object.optional("generateName") } else { read_name(&object) };
        let namespace = if kind.is_cluster_scoped() { Some(String::new()) } else { read_namespace(&object) };
        let labels = labels(&object, "labels").unwrap_or_default();
        let creation_timestamp = object.optional("creationTimestamp");
        let mut annotations = Labels::new();
        if !is_of_kubernetes {
            annotations = object.optional("annotations").unwrap_or_default();
            object.ignored(SERVER_SIDE);
            object.finish();
        }
        let Located { value: name, position } = name?;
        Some(Self { kind, position, name, namespace: namespace?, labels, annotations, creation_timestamp })
    }
}

/// `None` only if there is no name: with an invalid one the rest of the resource can still be checked.
fn read_name(object: &Object<'_>) -> Option<Located<String>> {
    let name: Located<String> = object.required("name")?;
    let cx = object.cx.field("name");
    if name.is_empty() {
        cx.refuse(name.position, "name is empty", "name is required here");
        return None;
    }
    if Name::Resource.admits(&name.to_ascii_lowercase()) {
        // istioctl accepts upper case in files, and Istio's examples have it.
        if !Name::Resource.admits(&name) {
            let message = format!("{:?} has upper-case letters, which Kubernetes refuses in names", name.value);
            let warning = Diagnostic::warning(Code::SchemaValidation, name.position.clone(), message);
            cx.report(warning.label(format!("expected {}", Name::Resource.rule())));
        }
    } else {
        let message = format!("{:?} cannot be the name of a resource", name.value);
        cx.refuse(name.position.clone(), message, format!("expected {}", Name::Resource.rule()));
    }
    Some(name)
}

/// `None` after a mistake, because references of the resource would be looked up in the wrong namespace. An empty namespace
/// is the default one, as in Kubernetes; the default is the one of the context.
fn read_namespace(object: &Object<'_>) -> Option<String> {
    if object.node("namespace").is_none() {
        return Some(object.cx.namespace().to_owned());
    }
    let namespace: Located<String> = object.optional("namespace")?;
    if namespace.is_empty() {
        return Some(object.cx.namespace().to_owned());
    }
    if !Name::Namespace.admits(&namespace) {
        let (message, rule) = (format!("{:?} is not a namespace", namespace.value), Name::Namespace.rule());
        object.cx.field("namespace").refuse(namespace.position, message, format!("expected {rule}"));
        return None;
    }
    Some(namespace.value)
}
