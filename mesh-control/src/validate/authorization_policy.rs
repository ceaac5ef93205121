//! AuthorizationPolicies: none is accepted that would not be enforced.

use super::Scope;
use crate::diagnostic::{Code, Diagnostic};

pub(super) fn check(scope: Scope<'_>, diagnostics: &mut Vec<Diagnostic>) {
    for policy in &scope.mesh.config.authorization_policies {
        let message = "AuthorizationPolicy is not enforced yet: refusing to load a configuration whose security policy would \
                       not be enforced";
        diagnostics.push(
            Diagnostic::error(Code::Unsupported, policy.action_position.clone(), message)
                .at(policy.metadata.resource(), "spec.action")
                .label("not supported"),
        );
    }
}
