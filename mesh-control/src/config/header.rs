//! What a document is, by its `apiVersion` and `kind`.

use mesh_core::nearest::nearest;

use super::kind::Owner;
use super::mesh_config::{Holder, holder};
use super::metadata::Metadata;
use super::other::{Other, is_templated};
use super::{Kind, gateway_api};
use crate::document::{Context, Located, Node, Object, Value};

/// The group of the kinds that protect workloads: a mesh must not start without enforcing them.
const SECURITY_GROUP: &str = "security.istio.io";
/// A group whose objects are input of `kustomize`, and not of a cluster.
const KUSTOMIZE_GROUP: &str = "kustomize.config.k8s.io";
/// A group from which Kubernetes has moved all kinds to others. As an exception, its name has no dot.
const FORMER_GROUP: &str = "extensions";

/// What a document is.
pub(super) enum Header {
    /// A list, whose items are the resources.
    List(Vec<Node>),
    /// A resource of a kind of the table.
    Resource(Metadata),
    /// An object that contains the settings of the mesh.
    MeshConfig(Holder),
    /// A kind of Istio that this version does not implement; it has been reported.
    Unsupported,
    /// A kind that has nothing to do with a mesh.
    LeftAlone { kind: Located<String>, api_version: String },
    /// No Kubernetes object.
    Other(Other),
}

/// Reads `apiVersion`, `kind` and `metadata`; `None` after a mistake.
pub(super) fn read(node: &Node, cx: Context<'_>) -> Option<Header> {
    if let Some(other) = Other::instead_of_object(node) {
        return Some(Header::Other(other));
    }
    let object = Object::new(node, cx)?;
    let (api_version, kind) = (object.required("apiVersion"), object.required("kind"));
    let (Some(api_version), Some(kind)): (Option<Located<String>>, Option<Located<String>>) = (api_version, kind)
    else {
        // Most likely the other one is misspelt.
        object.ignored(&["metadata", "spec", "status", "items"]);
        object.finish();
        return None;
    };
    if [&api_version.value, &kind.value].into_iter().any(|text| is_templated(text)) {
        return Some(Header::Other(Other::HelmTemplate));
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    if group == KUSTOMIZE_GROUP {
        return Some(Header::Other(Other::Kustomization));
    }
    if let Some(items) = list_items(node, &api_version, &kind, cx) {
        return Some(Header::List(items));
    }
    if let Some(holder) = holder(group, &kind, node, cx.namespace()) {
        return Some(Header::MeshConfig(holder));
    }
    let Some(known) = Kind::from_name(&kind, group).filter(|known| !is_other_group(group, *known)) else {
        return unknown(group, &api_version, kind, cx);
    };
    let api = known.api();
    if group != api.group {
        let message = format!("{:?} is not the API of {}", api_version.value, kind.value);
        let expected = format!("expected {}", api.version(api.versions[0]));
        cx.field("apiVersion").refuse(api_version.position.clone(), message, expected);
        return None;
    }
    if Other::has_template(node) {
        return Some(Header::Other(Other::HelmTemplate));
    }
    if !api.versions.contains(&version) {
        let message = format!("{} has no version {version:?}", kind.value);
        let versions: Vec<_> = api.versions.iter().map(|version| api.version(version)).collect();
        let expected = format!("expected one of {}", versions.join(", "));
        cx.field("apiVersion").refuse(api_version.position.clone(), message, expected);
    }
    Metadata::read(known, &object, cx).map(Header::Resource)
}

/// The items of `kind: List`, or of a list of one kind such as `PodList`, whose items need not name their kind.
fn list_items(
    node: &Node,
    api_version: &Located<String>,
    kind: &Located<String>,
    cx: Context<'_>,
) -> Option<Vec<Node>> {
    let of_kind = kind.strip_suffix("List")?;
    let items = node.get("items");
    let items = match items.map(|items| &items.value) {
        Some(Value::Sequence(items)) => items.as_slice(),
        None | Some(Value::Null) if of_kind.is_empty() => &[],
        Some(_) if of_kind.is_empty() => {
            let _: Option<Vec<AnyNode>> = Object::new(node, cx)?.optional("items");
            &[]
        }
        _ => return None,
    };
    let named = |item: &Node| {
        let mut item = item.clone();
        let mark = item.mark;
        if let (Value::Mapping(entries), false) = (&mut item.value, of_kind.is_empty()) {
            for (name, value) in [("apiVersion", api_version.value.as_str()), ("kind", of_kind)] {
                if !entries.iter().any(|(key, _)| key.name == name) {
                    let key = crate::document::Key { name: name.to_owned(), mark };
                    entries.push((key, Node { value: Value::String(value.to_owned()), mark }));
                }
            }
        }
        item
    };
    Some(items.iter().map(named).collect())
}

/// Any value, of which only the place is checked.
struct AnyNode;

impl crate::document::FromNode for AnyNode {
    fn from_node(_: &Node, _: Context<'_>) -> Option<Self> {
        Some(Self)
    }
}

/// A kind that is not in the table: one of Istio is refused, one of another API is left alone.
fn unknown(group: &str, api_version: &str, kind: Located<String>, cx: Context<'_>) -> Option<Header> {
    let names = Kind::ALL.iter().filter(|known| known.api().group == group).map(|known| known.as_str());
    let mut nearest_kind = nearest(&kind.value, names);
    let is_of_istio = group == "istio.io" || group.ends_with(".istio.io") || group == gateway_api::GROUP;
    if !is_of_istio && nearest_kind.is_none() && group.contains("istio") {
        // The group may be misspelt, too.
        let names = Kind::ALL.iter().filter(|known| known.api().owner == Owner::Istio).map(|known| known.as_str());
        nearest_kind = nearest(&kind.value, names);
    }
    if !is_of_istio && nearest_kind.is_none() {
        return Some(Header::LeftAlone { kind, api_version: api_version.to_owned() });
    }
    refuse_kind(group, &kind, nearest_kind, cx);
    // A misspelt kind is one that other resources may refer to.
    nearest_kind.is_none().then_some(Header::Unsupported)
}

/// Whether `group` is another API than that of the kind, which may have a kind of the same name, as Kubernetes' Gateway
/// API has. A group that resembles it is a misspelling.
fn is_other_group(group: &str, kind: Kind) -> bool {
    let own = kind.api().group;
    let is_near = nearest(group, std::iter::once(own)).is_some() && !group.ends_with("k8s.io");
    let is_other = group.contains('.') && !is_near && !own.ends_with(group);
    group != own && (is_other || group == FORMER_GROUP)
}

fn refuse_kind(group: &str, kind: &Located<String>, nearest: Option<&str>, cx: Context<'_>) {
    let name = if group.is_empty() || group.ends_with(".istio.io") {
        kind.value.clone()
    } else {
        format!("{} of {group}", kind.value)
    };
    let message = if group == SECURITY_GROUP {
        format!(
            "{name} is not supported yet: refusing to load a configuration whose security policy would not be enforced"
        )
    } else {
        format!("{name} is not supported yet")
    };
    cx.field("kind").unsupported_at(
        kind.position.clone(),
        message,
        Some(nearest.map_or_else(supported_kinds, |nearest| format!("did you mean `{nearest}`?"))),
    );
}

fn supported_kinds() -> String {
    let kinds = Kind::ALL.iter().filter(|kind| kind.api().owner == Owner::Istio);
    let names: Vec<_> = kinds.map(|kind| kind.as_str()).collect();
    format!("supported kinds: {}", names.join(", "))
}
