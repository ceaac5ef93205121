//! PeerAuthentications that cannot be enforced, and those without effect.

use std::collections::HashMap;

use super::Scope;
use super::credential::Place;
use crate::config::PeerAuthentication;
use crate::diagnostic::{Code, Diagnostic};

pub(super) fn check(scope: Scope<'_>, diagnostics: &mut Vec<Diagnostic>) {
    let mesh = scope.mesh;
    let mut of_all: HashMap<&str, &PeerAuthentication> = HashMap::new();
    for policy in &mesh.config.peer_authentications {
        let namespace = policy.metadata.namespace.as_str();
        let place = |position| Place { metadata: &policy.metadata, field: "spec", position };
        diagnostics.extend(policy.strict.as_ref().and_then(|at| place(at).needs_certificates(scope, "STRICT")));
        let warn = |message: String| {
            Diagnostic::warning(Code::NoEffect, policy.metadata.position.clone(), message)
                .at(policy.metadata.resource(), "spec.selector")
                .label("has no effect")
        };
        if !policy.selector.is_empty() {
            if namespace == mesh.config.mesh_config.root_namespace() {
                let message = format!("a policy with a selector in the root namespace {namespace} selects no workload");
                diagnostics.push(warn(message));
            }
        } else if let Some(older) = of_all.get(namespace) {
            let message = format!("{} is older, and for the same workloads", older.metadata.resource());
            diagnostics.push(warn(message).help(format!("the other policy is at {}", older.metadata.position)));
        } else {
            of_all.insert(namespace, policy);
        }
    }
}
