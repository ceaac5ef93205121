//! ServiceEntries that share a host, and ports that cannot be distinguished.

use std::collections::HashMap;

use super::Scope;
use crate::config::{Located, Protocol, ServiceEntry, ServicePort};
use crate::diagnostic::{Code, Diagnostic};
use crate::host::Host;

pub(super) fn check(scope: Scope<'_>, diagnostics: &mut Vec<Diagnostic>) {
    let is_whole = |entry: &&ServiceEntry| scope.completeness.is_whole(&entry.metadata);
    let whole: Vec<_> = scope.mesh.config.service_entries.iter().filter(is_whole).collect();
    check_shared_hosts(&whole, diagnostics);
    for entry in whole {
        check_addresses(entry, diagnostics);
    }
}

/// Entries that share a host become one service, so they must agree on the protocol of a port and on the resolution.
fn check_shared_hosts(entries: &[&ServiceEntry], diagnostics: &mut Vec<Diagnostic>) {
    let mut seen: HashMap<&Host, Vec<&ServiceEntry>> = HashMap::new();
    for &entry in entries {
        for host in &entry.hosts {
            let others = seen.entry(&host.value).or_default();
            for other in others.iter().filter(|other| is_seen_together(other, entry)) {
                let before = diagnostics.len();
                check_protocols(entry, host, other, diagnostics);
                if other.metadata.namespace == entry.metadata.namespace {
                    check_resolution(entry, host, other, diagnostics);
                    if diagnostics.len() == before {
                        check_joined(entry, host, other, diagnostics);
                    }
                }
            }
            others.push(entry);
        }
    }
}

fn check_protocols(
    entry: &ServiceEntry,
    host: &Located<Host>,
    other: &ServiceEntry,
    diagnostics: &mut Vec<Diagnostic>,
) {
    for (port, first) in shared_ports(entry, other).filter(|(port, first)| port.protocol != first.protocol) {
        let message = format!(
            "port {} of {} speaks {} here and {} in {}",
            port.number,
            host.value,
            port.protocol.as_str(),
            first.protocol.as_str(),
            other.metadata.resource()
        );
        diagnostics.push(
            Diagnostic::error(Code::ServiceEntryConflictingProtocol, port.position.clone(), message)
                .at(entry.metadata.resource(), "spec.ports")
                .label(format!("expected {}", first.protocol.as_str()))
                .help(format!("the other declaration is at {}", first.position)),
        );
    }
}

fn check_resolution(
    entry: &ServiceEntry,
    host: &Located<Host>,
    other: &ServiceEntry,
    diagnostics: &mut Vec<Diagnostic>,
) {
    if other.resolution != entry.resolution {
        let message = format!("{} is resolved differently in {}", host.value, other.metadata.resource());
        diagnostics.push(
            Diagnostic::error(Code::Duplicate, host.position.clone(), message)
                .at(entry.metadata.resource(), "spec.resolution")
                .label("declared twice with different resolutions"),
        );
    }
}

/// Istio merges two declarations of one port, with the endpoints of both. That may be intended, or a copy whose host was not
/// changed.
fn check_joined(entry: &ServiceEntry, host: &Located<Host>, other: &ServiceEntry, diagnostics: &mut Vec<Diagnostic>) {
    let Some((port, _)) = shared_ports(entry, other).next() else { return };
    let message = format!("port {} of {} is also declared by {}", port.number, host.value, other.metadata.resource());
    let first = other.hosts.iter().find(|first| first.value == host.value);
    let mut warning = Diagnostic::warning(Code::Duplicate, host.position.clone(), message)
        .at(entry.metadata.resource(), "spec.hosts")
        .label("requests go to the endpoints of both");
    if let Some(first) = first {
        warning = warning.help(format!("the other declaration is at {}", first.position));
    }
    diagnostics.push(warning);
}

fn is_seen_together(a: &ServiceEntry, b: &ServiceEntry) -> bool {
    super::overlaps((&a.export_to, &a.metadata.namespace), (&b.export_to, &b.metadata.namespace))
}

/// Ports that both entries declare.
fn shared_ports<'a>(
    entry: &'a ServiceEntry,
    other: &'a ServiceEntry,
) -> impl Iterator<Item = (&'a ServicePort, &'a ServicePort)> {
    entry.ports.iter().filter_map(|port| {
        let first = other.ports.iter().find(|first| first.number == port.number)?;
        Some((port, first))
    })
}

/// Connections without a host name can only be distinguished by address.
fn check_addresses(entry: &ServiceEntry, diagnostics: &mut Vec<Diagnostic>) {
    if !entry.addresses.is_empty() {
        return;
    }
    let nameless = |port: &&ServicePort| matches!(port.protocol, Protocol::Tcp | Protocol::Mongo);
    if let Some(port) = entry.ports.iter().find(nameless) {
        let message = format!("port {} speaks {} and the service has no address", port.number, port.protocol.as_str());
        diagnostics.push(
            Diagnostic::warning(Code::ServiceEntryAddressesRequired, port.position.clone(), message)
                .at(entry.metadata.resource(), "spec.addresses")
                .label("matches any address")
                .help("set spec.addresses"),
        );
    }
}
