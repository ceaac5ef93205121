//! VirtualServices: the hosts that they claim, the gateways and destinations that they name, and rules that never match.

mod claims;
mod destination;
mod gateways;
mod reachability;

use std::collections::HashMap;

use super::{Scope, full_host, overlaps};
use crate::config::{Located, VirtualService};
use crate::diagnostic::{Code, Diagnostic};
use crate::host::Host;

pub(super) fn check(scope: Scope<'_>, diagnostics: &mut Vec<Diagnostic>) {
    let config = &scope.mesh.config;
    check_hosts(scope, diagnostics);
    gateways::check(scope, diagnostics);
    for service in &config.virtual_services {
        destination::check(scope, service, diagnostics);
        claims::check(scope, service, diagnostics);
        reachability::check(service, diagnostics);
    }
}

/// On the mesh each host belongs to one VirtualService; a second one would be ignored.
fn check_hosts(scope: Scope<'_>, diagnostics: &mut Vec<Diagnostic>) {
    let mut owners: HashMap<&Host, Vec<&VirtualService>> = HashMap::new();
    let all = scope.mesh.config.virtual_services.iter();
    let whole = all.filter(|service| scope.completeness.is_whole(&service.metadata));
    for service in whole.filter(|service| service.applies_to_mesh()) {
        for (i, host) in service.hosts.iter().enumerate() {
            diagnostics.extend(short_host(service, i, host, scope));
            let others = owners.entry(&host.value).or_default();
            let visibility = (&*service.export_to, service.metadata.namespace.as_str());
            let other = others.iter().find(|other| overlaps((&other.export_to, &other.metadata.namespace), visibility));
            if let Some(other) = other {
                let message = format!("host {} is claimed by {} too", host.value, other.metadata.resource());
                let code = Code::ConflictingMeshGatewayVirtualServiceHosts;
                diagnostics.push(
                    Diagnostic::error(code, host.position.clone(), message)
                        .at(service.metadata.resource(), format!("spec.hosts[{i}]"))
                        .label("a host of the mesh can have one VirtualService only")
                        .help(format!("the other one is at {}", other.metadata.position)),
                );
            }
            others.push(service);
        }
    }
}

/// Warns of a host that is not the name of a service, but the beginning of one.
fn short_host(service: &VirtualService, i: usize, host: &Located<Host>, scope: Scope<'_>) -> Option<Diagnostic> {
    let registry = &scope.mesh.registry;
    let is_declared = registry.find(host, &service.metadata.namespace).is_some();
    let full = full_host(host).filter(|full| registry.services().iter().any(|service| service.host == *full))?;
    let message = format!("no service has the host {}", host.value);
    let warning = Diagnostic::warning(Code::ReferencedResourceNotFound, host.position.clone(), message)
        .at(service.metadata.resource(), format!("spec.hosts[{i}]"))
        .label("the rules do not apply to a service")
        .help(format!("did you mean \"{full}\"?"));
    (!is_declared).then_some(warning)
}
