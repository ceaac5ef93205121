//! VirtualServices: the hosts that they claim, the gateways and destinations that they name, and rules that never match.

mod destination;
mod gateways;
mod reachability;

use std::collections::HashMap;

use super::{Scope, overlaps};
use crate::config::{Config, Kind, VirtualService};
use crate::diagnostic::{Code, Diagnostic};
use crate::host::Host;

pub(super) fn check(scope: Scope<'_>, diagnostics: &mut Vec<Diagnostic>) {
    let config = &scope.mesh.config;
    if !scope.completeness.has_partial(Kind::VirtualService) {
        check_hosts(config, diagnostics);
    }
    gateways::check(scope, diagnostics);
    for service in &config.virtual_services {
        destination::check(scope, service, diagnostics);
        reachability::check(service, diagnostics);
    }
}

/// On the mesh each host belongs to one VirtualService; a second one would be ignored.
fn check_hosts(config: &Config, diagnostics: &mut Vec<Diagnostic>) {
    let mut owners: HashMap<&Host, Vec<&VirtualService>> = HashMap::new();
    for service in config.virtual_services.iter().filter(|service| service.applies_to_mesh()) {
        for (i, host) in service.hosts.iter().enumerate() {
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
