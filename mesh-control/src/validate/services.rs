//! ServiceEntries among themselves and with the WorkloadEntries that they select.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::config::{Config, Located, Protocol, Resolution, ServiceEntry, ServicePort, Visibility, selects};
use crate::diagnostic::{Code, Diagnostic};
use crate::host::Host;

pub(super) fn check(config: &Config, diagnostics: &mut Vec<Diagnostic>) {
    check_shared_hosts(config, diagnostics);
    for entry in &config.service_entries {
        check_workloads(config, entry, diagnostics);
        check_addresses(entry, diagnostics);
    }
}

/// Entries that share a host become one service, so they must agree on what a port speaks and how it is resolved.
fn check_shared_hosts(config: &Config, diagnostics: &mut Vec<Diagnostic>) {
    let mut seen: HashMap<&Host, Vec<&ServiceEntry>> = HashMap::new();
    for entry in &config.service_entries {
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

/// Istio takes two declarations of one port as one, with the endpoints of both. That may be meant, or a copy whose host
/// was not changed.
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
    overlaps((&a.export_to, &a.metadata.namespace), (&b.export_to, &b.metadata.namespace))
}

/// Whether some namespace sees both of two resources, given as visibility and owner.
pub(super) fn overlaps(a: (&[Visibility], &str), b: (&[Visibility], &str)) -> bool {
    let namespaces = |(list, owner): (&[Visibility], &str)| -> Option<Vec<String>> {
        if list.is_empty() || list.contains(&Visibility::All) {
            return None;
        }
        let name = |entry: &Visibility| match entry {
            Visibility::Own => Some(owner.to_owned()),
            Visibility::Namespace(name) => Some(name.clone()),
            Visibility::All | Visibility::None => None,
        };
        Some(list.iter().filter_map(name).collect())
    };
    match (namespaces(a), namespaces(b)) {
        (None, None) => true,
        (Some(list), None) | (None, Some(list)) => !list.is_empty(),
        (Some(a), Some(b)) => a.iter().any(|name| b.contains(name)),
    }
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

fn check_workloads(config: &Config, entry: &ServiceEntry, diagnostics: &mut Vec<Diagnostic>) {
    let Some(selector) = &entry.workload_selector else { return };
    for selected in &config.workload_entries {
        let workload = &selected.workload;
        let is_selected =
            selected.metadata.namespace == entry.metadata.namespace && selects(selector, &workload.labels);
        if is_selected && entry.resolution == Resolution::Static && workload.address.parse::<IpAddr>().is_err() {
            let message = format!(
                "{:?} is not an IP address, as {} with resolution STATIC needs",
                workload.address.value,
                entry.metadata.resource()
            );
            diagnostics.push(
                Diagnostic::error(Code::SchemaValidation, workload.address.position.clone(), message)
                    .at(selected.metadata.resource(), "spec.address")
                    .label("expected an IP address"),
            );
        }
    }
}

/// Connections without a host name can only be told apart by address.
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
