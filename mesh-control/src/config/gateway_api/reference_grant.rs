//! `ReferenceGrant`: which resources of other namespaces may refer to those of its own.

use crate::config::Metadata;
use crate::config::kind::Resource;
use crate::document::{Context, FromNode, Node, Object};

/// References from other namespaces that are allowed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReferenceGrant {
    /// Name, namespace, labels.
    pub metadata: Metadata,
    /// Who may refer, at least one.
    pub from: Vec<GrantFrom>,
    /// To what, at least one.
    pub to: Vec<GrantTo>,
}

/// Resources that may refer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GrantFrom {
    /// Their API group.
    pub group: String,
    /// Their kind.
    pub kind: String,
    /// Their namespace.
    pub namespace: String,
}

/// Resources that may be referred to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GrantTo {
    /// Their API group; empty for the core group.
    pub group: String,
    /// Their kind.
    pub kind: String,
    /// The only name; none means every name.
    pub name: Option<String>,
}

impl Resource for ReferenceGrant {
    fn read(metadata: Metadata, spec: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(spec, cx)?;
        let grant = Self { metadata, from: object.filled_list("from"), to: object.filled_list("to") };
        object.finish();
        Some(grant)
    }
}

impl FromNode for GrantFrom {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let (group, kind) = (object.required("group"), object.required("kind"));
        let namespace = object.required("namespace");
        object.finish();
        Some(Self { group: group?, kind: kind?, namespace: namespace? })
    }
}

impl FromNode for GrantTo {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let (group, kind, name) = (object.required("group"), object.required("kind"), object.optional("name"));
        object.finish();
        Some(Self { group: group?, kind: kind?, name })
    }
}
