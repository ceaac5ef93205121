//! Sidecars that select the same workload, and listeners that offer no service.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::Scope;
use crate::config::{
    Config, Labels, ListenerPort, NamespaceScope, OutboundTrafficPolicy, Sidecar, VirtualService, Visibility, selects,
};
use crate::diagnostic::{Code, Diagnostic};
use crate::registry::Service;

pub(super) fn check(scope: Scope<'_>, diagnostics: &mut Vec<Diagnostic>) {
    let config = &scope.mesh.config;
    let is_whole = |sidecar: &&Sidecar| scope.completeness.is_whole(&sidecar.metadata);
    let mut namespaces: HashMap<&str, Vec<&Sidecar>> = HashMap::new();
    for sidecar in config.sidecars.iter().filter(is_whole) {
        check_egress(sidecar, scope, diagnostics);
        namespaces.entry(&sidecar.metadata.namespace).or_default().push(sidecar);
    }
    for (namespace, sidecars) in namespaces {
        // Each group is of Sidecars of which a workload could have only one.
        let without_selector = sidecars.iter().filter(|sidecar| sidecar.workload_selector.is_none());
        let mut groups: Vec<Vec<&Sidecar>> = vec![without_selector.copied().collect()];
        groups.extend(workloads(config, namespace).into_iter().map(|labels| selecting(&sidecars, labels)));
        groups.extend(same_selector(&sidecars));
        let mut reported = HashSet::new();
        for group in groups.iter().filter(|group| group.len() > 1) {
            for (i, sidecar) in group.iter().enumerate() {
                if reported.insert(&sidecar.metadata.name) {
                    diagnostics.push(conflict(sidecar, group[usize::from(i == 0)]));
                }
            }
        }
    }
}

/// A listener with a port offers the services that have its port, as in Istio.
fn check_egress(sidecar: &Sidecar, scope: Scope<'_>, diagnostics: &mut Vec<Diagnostic>) {
    let registry = &scope.mesh.registry;
    for (i, listener) in sidecar.egress.iter().enumerate() {
        check_egress_hosts(sidecar, i, scope, diagnostics);
        let Some(port) = &listener.port else { continue };
        if sidecar.outbound_traffic_policy == Some(OutboundTrafficPolicy::AllowAny) && port.protocol.is_http() {
            diagnostics.push(cannot_pass(sidecar, i));
        }
        let is_meant = |host, service| listener.hosts.iter().any(|meant| meant.admits(host, service));
        let meant: Vec<_> = registry
            .visible_to(&sidecar.metadata.namespace)
            .filter(|service| is_meant(&service.namespace, &service.host))
            .collect();
        let (offered, others): (Vec<_>, Vec<_>) =
            meant.into_iter().partition(|service| service.port(port.number).is_some());
        if !offered.is_empty() {
            if !port.protocol.is_http() {
                diagnostics.extend(indistinguishable(sidecar, i, port, &without_rules(scope, sidecar, port, offered)));
            }
            continue;
        }
        if others.is_empty() {
            continue;
        }
        let ports: BTreeSet<_> = others.iter().flat_map(|service| &service.ports).map(|port| port.number).collect();
        let ports: Vec<_> = ports.iter().map(ToString::to_string).collect();
        let message = format!("none of the services has port {}, so the listener offers none", port.number);
        let label = if port.protocol.is_http() { "calls to them get 502" } else { "it does not listen" };
        diagnostics.push(
            Diagnostic::warning(Code::ReferencedResourceNotFound, listener.position.clone(), message)
                .at(sidecar.metadata.resource(), format!("spec.egress[{i}].port.number"))
                .label(label)
                .help(format!("their ports: {}", ports.join(", "))),
        );
    }
}

/// Warns that a listener cannot do what the Sidecar's policy says.
fn cannot_pass(sidecar: &Sidecar, i: usize) -> Diagnostic {
    let message = "outboundTrafficPolicy ALLOW_ANY does not hold for a listener with a port of its own: the original \
                   destination of its requests is unknown";
    Diagnostic::warning(Code::NoEffect, sidecar.egress[i].position.clone(), message)
        .at(sidecar.metadata.resource(), format!("spec.egress[{i}].port"))
        .label("requests for hosts that nothing declares get 502")
        .help("declare external hosts in a ServiceEntry, and set REGISTRY_ONLY to confirm that others are refused")
}

/// The services that have no VirtualService for the mesh with rules for connections of the port's protocol.
fn without_rules<'a>(
    scope: Scope<'_>,
    sidecar: &Sidecar,
    port: &ListenerPort,
    mut services: Vec<&'a Service>,
) -> Vec<&'a Service> {
    let has_rules =
        |rules: &&VirtualService| if port.protocol.is_tls() { !rules.tls.is_empty() } else { !rules.tcp.is_empty() };
    let visible = |rules: &&VirtualService| {
        Visibility::includes(&rules.export_to, &rules.metadata.namespace, &sidecar.metadata.namespace)
    };
    let all = scope.mesh.config.virtual_services.iter().filter(|rules| rules.applies_to_mesh());
    for rules in all.filter(has_rules).filter(visible) {
        services.retain(|service| !rules.hosts.iter().any(|host| host.intersects(&service.host)));
    }
    services
}

/// Warns of services that a listener for connections cannot distinguish: unlike requests, connections do not name a
/// service.
fn indistinguishable(sidecar: &Sidecar, i: usize, port: &ListenerPort, services: &[&Service]) -> Option<Diagnostic> {
    let [first, others @ ..] = services else { return None };
    let hosts: Vec<_> = others.iter().map(|service| service.host.as_str()).collect();
    if hosts.is_empty() {
        return None;
    }
    let message = format!("all connections go to {}, none to {}", first.host, hosts.join(", "));
    let rules = if port.protocol.is_tls() { "tls rules by sniHosts" } else { "tcp rules" };
    let position = sidecar.egress[i].position.clone();
    Some(
        Diagnostic::warning(Code::NoEffect, position, message)
            .at(sidecar.metadata.resource(), format!("spec.egress[{i}].hosts"))
            .label("cannot be distinguished")
            .help(format!("give each service a listener, or the hosts a VirtualService with {rules}")),
    )
}

/// Warns of hosts that no service has. A wildcard may be meant for services that do not exist yet.
fn check_egress_hosts(sidecar: &Sidecar, i: usize, scope: Scope<'_>, diagnostics: &mut Vec<Diagnostic>) {
    let registry = &scope.mesh.registry;
    let listener = &sidecar.egress[i];
    for (j, meant) in listener.hosts.iter().enumerate().filter(|(_, meant)| !meant.host.is_wildcard()) {
        let namespace = &sidecar.metadata.namespace;
        // A lookup by host alone may find another service with the same host.
        let mut others = registry.services().iter().filter(|service| service.is_visible_to(namespace));
        if meant.namespace == NamespaceScope::None
            || registry.find(&meant.host, namespace).is_some_and(|it| meant.admits(&it.namespace, &it.host))
            || others.any(|service| meant.admits(&service.namespace, &service.host))
        {
            continue;
        }
        let place = match &meant.namespace {
            NamespaceScope::Namespace(namespace) => format!(" of the namespace {namespace}"),
            NamespaceScope::Any | NamespaceScope::None => String::new(),
        };
        let message = format!("no service{place} has the host {}", meant.host);
        let mut warning = Diagnostic::warning(Code::ReferencedResourceNotFound, listener.position.clone(), message)
            .at(sidecar.metadata.resource(), format!("spec.egress[{i}].hosts[{j}]"))
            .label("the host has no effect");
        warning.help.extend(super::similar_host(&meant.host, scope));
        diagnostics.push(warning);
    }
}

/// The Sidecars whose selector a workload has.
fn selecting<'a>(sidecars: &[&'a Sidecar], labels: &Labels) -> Vec<&'a Sidecar> {
    let selects_it =
        |sidecar: &&&Sidecar| sidecar.workload_selector.as_ref().is_some_and(|selector| selects(selector, labels));
    sidecars.iter().filter(selects_it).copied().collect()
}

/// Sidecars with the same selector, whether or not there is a workload.
fn same_selector<'a>(sidecars: &[&'a Sidecar]) -> impl Iterator<Item = Vec<&'a Sidecar>> {
    let mut groups: BTreeMap<&Labels, Vec<&Sidecar>> = BTreeMap::new();
    for sidecar in sidecars {
        if let Some(selector) = &sidecar.workload_selector {
            groups.entry(selector).or_default().push(sidecar);
        }
    }
    groups.into_values()
}

fn conflict(sidecar: &Sidecar, other: &Sidecar) -> Diagnostic {
    let (code, message) = match sidecar.workload_selector {
        Some(_) => (Code::ConflictingSidecarWorkloadSelectors, "selects the same workload as"),
        None => (Code::MultipleSidecarsWithoutWorkloadSelectors, "selects all workloads of the namespace, as does"),
    };
    Diagnostic::error(code, sidecar.metadata.position.clone(), format!("{message} {}", other.metadata.resource()))
        .at(sidecar.metadata.resource(), "spec.workloadSelector")
        .label("a workload can have one Sidecar only")
        .help(format!("the other one is at {}", other.metadata.position))
}

/// Labels of all workloads of a namespace that the configuration declares.
fn workloads<'a>(config: &'a Config, namespace: &str) -> Vec<&'a Labels> {
    let entries = config.workload_entries.iter().filter(|entry| entry.metadata.namespace == namespace);
    let services = config.service_entries.iter().filter(|entry| entry.metadata.namespace == namespace);
    let pods = config.pods.iter().map(|pod| (&pod.metadata, &pod.metadata.labels));
    let templates = config.pod_templates().map(|template| (&template.metadata, &template.labels));
    let of_kubernetes = pods.chain(templates).filter(|(metadata, _)| metadata.namespace == namespace);
    entries
        .map(|entry| &entry.workload.labels)
        .chain(of_kubernetes.map(|(_, labels)| labels))
        .chain(services.flat_map(|entry| entry.endpoints.iter().map(|endpoint| &endpoint.labels)))
        .collect()
}
