//! Rules about claims of tokens, which a RequestAuthentication must verify.

use super::super::Scope;
use crate::config::{Gateway, GatewayName, Kind, VirtualService, selects};
use crate::diagnostic::{Code, Diagnostic};

pub(super) fn check(scope: Scope<'_>, service: &VirtualService, diagnostics: &mut Vec<Diagnostic>) {
    let claims = service.http.iter().enumerate().flat_map(|(i, rule)| {
        let matches = rule.matches.iter().enumerate();
        matches.flat_map(move |(j, matcher)| matcher.claims.iter().map(move |claim| (i, j, claim)))
    });
    let mut claims = claims.peekable();
    if claims.peek().is_none() || scope.completeness.may_declare(&[Kind::RequestAuthentication], "") {
        return;
    }
    let bound = service.gateways.iter().filter_map(|reference| gateway(scope, &reference.value));
    let unverified: Vec<_> = bound.filter(|gateway| !verifies_tokens(scope, gateway)).collect();
    let Some(gateway) = unverified.first() else { return };
    for (i, j, claim) in claims {
        let message =
            format!("no RequestAuthentication verifies tokens in the proxies of {}", gateway.metadata.resource());
        diagnostics.push(
            Diagnostic::error(Code::JwtClaimBasedRoutingWithoutRequestAuthN, claim.position.clone(), message)
                .at(service.metadata.resource(), format!("spec.http[{i}].match[{j}]"))
                .label("the claim is never there"),
        );
    }
}

fn gateway<'a>(scope: Scope<'a>, name: &GatewayName) -> Option<&'a Gateway> {
    let GatewayName::Gateway { namespace, name } = name else { return None };
    let is_named = |gateway: &&Gateway| gateway.metadata.namespace == *namespace && gateway.metadata.name == *name;
    scope.mesh.config.gateways.iter().find(is_named)
}

/// Whether a RequestAuthentication selects proxies that the Gateway selects. The namespace of the proxies is not known.
fn verifies_tokens(scope: Scope<'_>, gateway: &Gateway) -> bool {
    let root = scope.mesh.config.mesh_config.root_namespace();
    scope.mesh.config.request_authentications.iter().any(|policy| {
        let is_for_all = policy.selector.is_empty();
        let is_near = policy.metadata.namespace == gateway.metadata.namespace || policy.metadata.namespace == root;
        !policy.jwt_rules.is_empty() && if is_for_all { is_near } else { selects(&policy.selector, &gateway.selector) }
    })
}
