//! Addresses of services of Kubernetes, with the service that they belong to.

use mesh_core::nearest::nearest;

use super::Scope;
use crate::config::{Addresses, Metadata, Service};
use crate::diagnostic::{Code, Diagnostic};

/// Reports addresses without a service, and ports that the service does not have.
pub(super) fn check(
    metadata: &Metadata,
    service: &str,
    sets: &[&Addresses],
    scope: Scope<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let services = || scope.mesh.config.services.iter().filter(|it| it.metadata.namespace == metadata.namespace);
    let Some(found) = services().find(|it| it.metadata.name == service) else {
        if sets.iter().any(|set| !set.endpoints.is_empty()) {
            let message = format!("there is no Service {}/{service}", metadata.namespace);
            let mut warning = Diagnostic::warning(Code::ReferencedResourceNotFound, metadata.position.clone(), message)
                .at(metadata.resource(), "")
                .label("the addresses have no effect");
            let meant = nearest(service, services().map(|it| it.metadata.name.as_str()));
            warning.help.extend(meant.map(|name| format!("did you mean {name:?}?")));
            diagnostics.push(warning);
        }
        return;
    };
    for set in sets.iter().filter(|set| !set.endpoints.is_empty()) {
        check_ports(metadata, found, set, diagnostics);
    }
}

fn check_ports(metadata: &Metadata, service: &Service, set: &Addresses, diagnostics: &mut Vec<Diagnostic>) {
    let named = |name: &str| if name.is_empty() { "without a name".to_owned() } else { format!("named {name:?}") };
    let names: Vec<_> = service.ports.iter().map(|port| named(&port.name)).collect();
    let expected = format!("expected a port {}", names.join(" or "));
    for port in set.ports.iter().filter(|port| port.number.is_some() && service.port(&port.name).is_none()) {
        let message = format!("{} has no port {}", service.metadata.resource(), named(&port.name));
        diagnostics.push(
            Diagnostic::warning(Code::ReferencedResourceNotFound, port.position.clone(), message)
                .at(metadata.resource(), "ports")
                .label(expected.as_str()),
        );
    }
    if set.ports.is_empty() && !service.ports.is_empty() {
        let message = "the addresses have no port";
        diagnostics.push(
            Diagnostic::warning(Code::NoEffect, metadata.position.clone(), message)
                .at(metadata.resource(), "ports")
                .label(expected),
        );
    }
}
