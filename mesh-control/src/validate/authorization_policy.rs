//! AuthorizationPolicies whose action is `CUSTOM`: the services that they ask.
//!
//! As in istiod, these are warnings: the mesh denies what it cannot check.

use mesh_core::nearest::nearest;

use super::Scope;
use crate::config::{AuthorizationAction, AuthorizationPolicy, ExtAuthzProtocol, Kind};
use crate::diagnostic::{Code, Diagnostic};
use crate::ext_authz_providers::{self, NotFound};
use crate::host::Host;

pub(super) fn check(scope: Scope<'_>, diagnostics: &mut Vec<Diagnostic>) {
    let custom = |policy| provider(policy).map(|provider| (policy, provider));
    let policies: Vec<_> = scope.mesh.config.authorization_policies.iter().filter_map(custom).collect();
    for (index, &(policy, provider)) in policies.iter().enumerate() {
        diagnostics.extend(check_provider(scope, policy, provider));
        let other =
            policies[..index].iter().find(|(other, named)| *named != provider && may_meet(scope, policy, other));
        diagnostics.extend(other.map(|(other, _)| several_providers(policy, other)));
    }
}

fn provider(policy: &AuthorizationPolicy) -> Option<&str> {
    match &policy.action {
        AuthorizationAction::Custom { provider } => Some(provider),
        AuthorizationAction::Allow | AuthorizationAction::Deny | AuthorizationAction::Audit => None,
    }
}

fn check_provider(scope: Scope<'_>, policy: &AuthorizationPolicy, name: &str) -> Option<Diagnostic> {
    let error = match ext_authz_providers::find(scope.mesh, name) {
        Ok(found) => {
            let is_grpc = matches!(found.provider.protocol, ExtAuthzProtocol::Grpc);
            let message = format!(
                "{} is asked with gRPC, but its port {} has another protocol, so every check fails",
                found.service.host, found.port.number
            );
            let cannot_serve = is_grpc && !found.port.protocol.is_http2();
            return cannot_serve.then(|| warning(policy, message).label("expected a port for GRPC or HTTP2"));
        }
        Err(error) => error,
    };
    if may_be_declared(scope, &error) {
        return None;
    }
    let diagnostic = warning(policy, format!("{error}, so the requests that a rule matches are denied"));
    let providers = scope.mesh.config.mesh_config.extension_providers.iter();
    let similar = nearest(name, providers.map(|provider| provider.name.value.as_str()));
    let similar = similar.filter(|_| matches!(error, NotFound::Provider(_)));
    Some(match similar {
        Some(similar) => diagnostic.help(format!("did you mean {similar:?}?")),
        None => diagnostic,
    })
}

/// Whether a part of the mesh that could not be read may declare what is missing.
fn may_be_declared(scope: Scope<'_>, error: &NotFound) -> bool {
    let service = match error {
        NotFound::Provider(name) => return scope.completeness.may_declare(&[], name),
        NotFound::Kind { .. } => return false,
        NotFound::Service { service, .. } | NotFound::Ambiguous { service, .. } | NotFound::Port { service, .. } => {
            service
        }
    };
    let (namespace, host) = service.split_once('/').unwrap_or(("default", service));
    let host = Host::parse(host, namespace).ok();
    host.is_some_and(|host| scope.completeness.may_declare_host(&[Kind::ServiceEntry, Kind::Service], &host))
}

/// Whether both may select one workload.
fn may_meet(scope: Scope<'_>, policy: &AuthorizationPolicy, other: &AuthorizationPolicy) -> bool {
    let root = scope.mesh.config.mesh_config.root_namespace();
    let (namespace, of_other) = (&policy.metadata.namespace, &other.metadata.namespace);
    let is_in_reach = namespace == of_other || namespace == root || of_other == root;
    let agrees = |(key, value)| other.selector.get(key).is_none_or(|own| own == value);
    is_in_reach && policy.selector.iter().all(agrees)
}

fn several_providers(policy: &AuthorizationPolicy, other: &AuthorizationPolicy) -> Diagnostic {
    let message = format!(
        "{} names another provider, so a workload that both select denies the requests that a rule matches",
        other.metadata.resource()
    );
    warning(policy, message).label("another provider").help(format!("the other one is at {}", other.action_position))
}

fn warning(policy: &AuthorizationPolicy, message: String) -> Diagnostic {
    Diagnostic::warning(Code::ReferencedResourceNotFound, policy.action_position.clone(), message)
        .at(policy.metadata.resource(), "spec.provider.name")
}
