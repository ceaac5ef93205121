//! RequestAuthentications: keys are not fetched from the machine itself.

use super::Scope;
use crate::config::JwtKeys;
use crate::diagnostic::{Code, Diagnostic};

pub(super) fn check(scope: Scope<'_>, diagnostics: &mut Vec<Diagnostic>) {
    if scope.options.allow_local_jwks_uri {
        return;
    }
    for policy in &scope.mesh.config.request_authentications {
        for (index, rule) in policy.jwt_rules.iter().enumerate() {
            let JwtKeys::Remote(uri) = &rule.keys else { continue };
            if uri.is_local() {
                let message = format!("{:?} is a loopback or link-local address", uri.text);
                diagnostics.push(
                    Diagnostic::error(Code::SchemaValidation, uri.position.clone(), message)
                        .at(policy.metadata.resource(), format!("spec.jwtRules[{index}].jwksUri"))
                        .label("keys are not fetched from there")
                        .help("allow it with --allow-local-jwks-uri"),
                );
            }
        }
    }
}
