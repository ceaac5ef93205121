//! References to other namespaces.

use crate::config::{Config, ObjectRef};

/// The resource that refers.
#[derive(Clone, Copy, Debug)]
pub(super) struct From<'a> {
    pub(super) group: &'a str,
    pub(super) kind: &'a str,
    pub(super) namespace: &'a str,
}

/// Whether it may refer to the object: it is in its own namespace, or a ReferenceGrant allows it.
pub(super) fn is_permitted(config: &Config, from: From<'_>, to: &ObjectRef) -> bool {
    let namespace = to.namespace(from.namespace);
    if namespace == from.namespace {
        return true;
    }
    config.reference_grants.iter().filter(|grant| grant.metadata.namespace == namespace).any(|grant| {
        let is_from = grant.from.iter().any(|it| {
            (it.group.as_str(), it.kind.as_str(), it.namespace.as_str()) == (from.group, from.kind, from.namespace)
        });
        is_from
            && grant.to.iter().any(|it| {
                (&it.group, &it.kind) == (&to.group, &to.kind) && it.name.as_ref().is_none_or(|name| *name == to.name)
            })
    })
}
