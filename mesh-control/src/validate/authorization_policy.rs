//! AuthorizationPolicies: none is accepted that is not enforced.

use super::Scope;
use crate::config::AuthorizationAction;
use crate::diagnostic::{Code, Diagnostic};

pub(super) fn check(scope: Scope<'_>, diagnostics: &mut Vec<Diagnostic>) {
    for policy in &scope.mesh.config.authorization_policies {
        if let AuthorizationAction::Custom { provider } = &policy.action {
            let message =
                format!("action CUSTOM with provider {provider:?} is not supported yet: CUSTOM needs ext_authz");
            diagnostics.push(
                Diagnostic::error(Code::Unsupported, policy.action_position.clone(), message)
                    .at(policy.metadata.resource(), "spec.action")
                    .label("not supported"),
            );
        }
    }
}
